//! The real binary as a process: what it prints, what it is told, how it ends. Knows nothing of handoffs.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long any next line may take: longer than anything that a test waits for, such as the session of six seconds
/// that nobody ends, and generous, since a busy machine is no defect.
const PATIENCE: Duration = Duration::from_secs(45);

/// A line that a process printed.
#[derive(Debug)]
enum Line {
    Event(Value),
    Error(String),
}

/// A running process; killed on drop.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Line>,
    events: Vec<Value>,
    errors: Vec<String>,
}

/// How a process ended, and all that it printed.
#[derive(Debug)]
pub(crate) struct End {
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) events: Vec<Value>,
    pub(crate) errors: String,
}

/// The binary with these arguments, without the settings of whoever runs the tests.
pub(crate) fn handoff(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handoff"));
    command.args(arguments);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HANDOFF_")) {
        command.env_remove(name);
    }
    command
}

impl Process {
    /// Starts the binary, which prints one JSON object a line.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_as(handoff(arguments))
    }

    /// [`Self::start`] for a prepared command.
    pub(crate) fn start_as(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|problem| panic!("{command:?}: {problem}"));
        let (sender, lines) = channel();
        let event = |line: String| Line::Event(serde_json::from_str(&line).unwrap_or(Value::String(line)));
        read(child.stdout.take().unwrap(), sender.clone(), event);
        read(child.stderr.take().unwrap(), sender, Line::Error);
        let stdin = child.stdin.take();
        Self { child, stdin, lines, events: Vec::new(), errors: Vec::new() }
    }

    /// Waits for the next event of this name.
    pub(crate) fn until(&mut self, name: &str) -> Value {
        self.until_where(name, |_| true)
    }

    /// Waits for the next event of this name of which something is true.
    pub(crate) fn until_where(&mut self, name: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let Some(line) = self.next_line() else { panic!("it ended before {name}: {}", self.told()) };
            if let Line::Event(event) = line
                && event["event"] == name
                && is_wanted(&event)
            {
                return event;
            }
        }
    }

    /// Waits for the next event of one of these names.
    pub(crate) fn until_any(&mut self, names: &[&str]) -> Value {
        self.find_any(names).unwrap_or_else(|| panic!("it ended before {names:?}: {}", self.told()))
    }

    /// [`Self::until_any`] of a process that may end before.
    pub(crate) fn find_any(&mut self, names: &[&str]) -> Option<Value> {
        loop {
            if let Line::Event(event) = self.next_line()?
                && names.iter().any(|name| event["event"] == *name)
            {
                return Some(event);
            }
        }
    }

    /// Types a line, if there is still somebody to read it.
    pub(crate) fn offer_line(&mut self, text: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{text}").ok();
    }

    /// Kills it after a while, if it has not ended by then. To be joined before [`Self::end`], which frees its id.
    pub(crate) fn kill_after(&self, delay: Duration) -> JoinHandle<()> {
        let id = Pid::from_child(&self.child);
        std::thread::spawn(move || {
            std::thread::sleep(delay);
            kill_process(id, Signal::KILL).unwrap();
        })
    }

    /// Waits for a line on standard error that has this in it.
    pub(crate) fn until_error(&mut self, part: &str) -> String {
        loop {
            let Some(line) = self.next_line() else { panic!("it ended before {part:?}: {}", self.told()) };
            if let Line::Error(text) = line
                && text.contains(part)
            {
                return text;
            }
        }
    }

    /// Waits for a line of plain text that has this in it; returns all lines so far.
    pub(crate) fn until_text(&mut self, part: &str) -> Vec<String> {
        while self.events.last().and_then(Value::as_str).is_none_or(|text| !text.contains(part)) {
            assert!(self.next_line().is_some(), "it ended before {part:?}: {}", self.told());
        }
        self.events.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Types a line.
    pub(crate) fn type_line(&mut self, text: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{text}").unwrap();
    }

    /// Closes standard input.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> End {
        while self.next_line().is_some() {}
        // Nothing more can be printed: the process is ending.
        let code = self.child.wait().unwrap().code();
        End { code, events: std::mem::take(&mut self.events), errors: self.errors.join("\n") }
    }

    fn next_line(&mut self) -> Option<Line> {
        use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
        match self.lines.recv_timeout(PATIENCE) {
            Ok(Line::Event(event)) => {
                self.events.push(event.clone());
                Some(Line::Event(event))
            }
            Ok(Line::Error(text)) => {
                self.errors.push(text.clone());
                Some(Line::Error(text))
            }
            Err(Disconnected) => None,
            Err(Timeout) => panic!("nothing more was heard: {}", self.told()),
        }
    }

    fn told(&self) -> String {
        let mut text = String::new();
        self.events.iter().for_each(|event| writeln!(text, "\n  {event}").unwrap());
        self.errors.iter().for_each(|error| writeln!(text, "\n  stderr: {error}").unwrap());
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl End {
    /// The one event of this name.
    pub(crate) fn event(&self, name: &str) -> &Value {
        let mut found = self.events.iter().filter(|event| event["event"] == name);
        match (found.next(), found.next()) {
            (Some(event), None) => event,
            (event, _) => panic!("{} {name}: {self:?}", if event.is_some() { "more than one" } else { "no" }),
        }
    }

    /// Whether it told this.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.events.iter().any(|event| event["event"] == name)
    }

    /// It ended with this exit code and for this reason.
    pub(crate) fn expect_reason(&self, code: i32, reason: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        let ended = self.event("ended");
        assert_eq!(ended["reason"], reason, "{self:?}");
        assert!(ended["advice"].as_str().unwrap().ends_with('.'), "{ended}");
        assert!(!self.has("written") && !self.has("delivered"), "{self:?}");
    }

    /// It did nothing, with this exit code, and said this about it.
    pub(crate) fn expect_refusal(&self, code: i32, sentence: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.errors.matches(sentence).count(), 1, "{sentence:?} is not once in {self:?}");
        assert!(self.events.is_empty(), "{self:?}");
    }
}

fn read(stream: impl Read + Send + 'static, lines: Sender<Line>, line: impl Fn(String) -> Line + Send + 'static) {
    std::thread::spawn(move || {
        for text in BufReader::new(stream).lines().map_while(Result::ok) {
            if lines.send(line(text)).is_err() {
                return;
            }
        }
    });
}
