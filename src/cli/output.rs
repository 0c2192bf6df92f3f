//! Standard output and standard error: lines for people, or one JSON object a line.

use std::fmt::Display;
use std::io::{Write as _, stderr, stdout};

use serde_json::Value;

use super::narrate::Told;

/// Where a command writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether events are wanted instead of text.
    pub(super) fn is_json(self) -> bool {
        self.json
    }

    /// Something happened: `text` for people, `event` for machines.
    pub(super) fn say(self, text: &str, event: &Value) {
        if self.json { Self::raw(&event.to_string()) } else { Self::raw(text) }
    }

    /// An event of a transfer.
    pub(super) fn tell(self, (text, event): Told) {
        match text {
            _ if self.json => Self::raw(&event.to_string()),
            Some(text) => Self::raw(&text),
            None => {}
        }
    }

    /// [`Self::say`] for a command that goes on for ever: whether anybody reads.
    pub(super) fn say_while_read(self, text: &str, event: &Value) -> bool {
        let mut out = stdout().lock();
        let written = if self.json { writeln!(out, "{event}") } else { writeln!(out, "{text}") };
        written.and_then(|()| out.flush()).is_ok()
    }

    /// Prints a line on standard output as it is.
    pub(super) fn raw(text: &str) {
        // If nobody reads any more, there is nobody left to tell.
        writeln!(stdout().lock(), "{text}").ok();
    }

    /// Prints what went wrong on standard error.
    pub(super) fn error(problem: &dyn Display) {
        writeln!(stderr().lock(), "handoff: {problem}").ok();
    }
}
