//! Questions to the person in front of the terminal, one line each; secrets are not shown while they are typed. From a
//! pipe come the same lines.

use std::io::{IsTerminal as _, stdin as real_stdin};

use anyhow::anyhow;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin, stdin};
use zeroize::Zeroizing;

use super::exit::{Exit, Failure};
use super::fill_in::Sms;
use super::output::Output;
use crate::client::personal_pin::PersonalPin;

/// Who asks, and where the answers come from.
pub(super) struct Questions {
    output: Output,
    lines: Lines<BufReader<Stdin>>,
}

impl Questions {
    pub(super) fn new(output: Output) -> Self {
        Self { output, lines: BufReader::new(stdin()).lines() }
    }

    /// The lines that nobody was asked for yet.
    pub(super) fn into_lines(self) -> Lines<BufReader<Stdin>> {
        self.lines
    }

    /// One line, without the spaces around it. `what` names the question for machines.
    pub(super) async fn ask(&mut self, what: &str, text: &str) -> Result<Zeroizing<String>, Failure> {
        self.output.say(text, &json!({"event": "ask", "what": what}));
        self.line().await
    }

    /// The temporary PIN: Enter alone takes the one of an SMS that came.
    pub(super) async fn ask_temporary_pin(&mut self, offered: Option<&Sms>) -> Result<Zeroizing<String>, Failure> {
        let text = match offered {
            Some(sms) => format!(
                "The phone offers to fill in {}. Enter takes it; or type the PIN, or \"again\" for another SMS:",
                sms.spaced()
            ),
            None => "Type the eight digits of the SMS, or \"again\" for another one:".to_owned(),
        };
        let event = json!({"event": "ask", "what": "temporary_pin", "offered": offered.is_some()});
        self.output.say(&text, &event);
        self.line().await
    }

    /// A personal PIN that is not weak, and its repeat, until they are the same. `known` is what others know of the person.
    pub(super) async fn choose_pin(&mut self, known: &[&str]) -> Result<PersonalPin, Failure> {
        loop {
            let text = "Choose a personal PIN of six digits (not shown):";
            let first = self.ask_hidden("personal_pin", text).await?;
            // Known to be weak before it is typed again.
            if let Err(weak) = PersonalPin::choose(&first, &first, known) {
                self.again(&weak.to_string());
                continue;
            }
            let again = self.ask_hidden("personal_pin_again", "Repeat it:").await?;
            match PersonalPin::choose(&first, &again, known) {
                Ok(pin) => return Ok(pin),
                Err(weak) => self.again(&weak.to_string()),
            }
        }
    }

    /// One line that is not shown.
    pub(super) async fn ask_hidden(&mut self, what: &str, text: &str) -> Result<Zeroizing<String>, Failure> {
        let hidden = Hidden::begin();
        self.output.say(text, &json!({"event": "ask", "what": what}));
        let line = self.line().await;
        drop(hidden);
        line
    }

    /// Yes or no, asked until it is one of them.
    pub(super) async fn ask_yes_or_no(&mut self, what: &str, text: &str) -> Result<bool, Failure> {
        loop {
            match yes_or_no(&self.ask(what, text).await?) {
                Some(answer) => return Ok(answer),
                None => self.again("the answer is yes or no; try again"),
            }
        }
    }

    /// Says what was wrong with an answer, before the same is asked again.
    pub(super) fn again(&self, text: &str) {
        if self.output.is_json() {
            self.output.say("", &json!({"event": "again", "detail": text}));
        }
        Output::error(&text);
    }

    async fn line(&mut self) -> Result<Zeroizing<String>, Failure> {
        let line = self.lines.next_line().await.ok().flatten().map(Zeroizing::new);
        let closed = || anyhow!("nobody can answer: standard input is closed; run the same command again to go on");
        let line = line.ok_or_else(|| Failure { exit: Exit::Ended, problem: closed() })?;
        Ok(Zeroizing::new(line.trim().to_owned()))
    }
}

/// What a person may say for yes and no.
pub(super) fn yes_or_no(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "y" | "yes" => Some(true),
        "n" | "no" => Some(false),
        _ => None,
    }
}

/// As long as it lives, the terminal shows nothing that is typed.
struct Hidden(Termios);

impl Hidden {
    /// Nothing, where there is no terminal: then nobody looks at it either.
    fn begin() -> Option<Self> {
        let terminal = real_stdin();
        let shown = tcgetattr(&terminal).ok().filter(|_| terminal.is_terminal())?;
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        hidden.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(&terminal, OptionalActions::Flush, &hidden).ok()?;
        Some(Self(shown))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing anyway.
        tcsetattr(real_stdin(), OptionalActions::Now, &self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yes_and_no_may_be_short_and_in_capitals() {
        for (text, answer) in [("y", Some(true)), ("Yes", Some(true)), ("N", Some(false)), ("no", Some(false))] {
            assert_eq!(yes_or_no(text), answer);
        }
        for text in ["", "ja", "yess", "0"] {
            assert_eq!(yes_or_no(text), None);
        }
    }
}
