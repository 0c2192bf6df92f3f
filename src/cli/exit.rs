//! The exit codes, in one table.

use std::process::{ExitCode, Termination};

use super::files::FileError;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done: the relay stopped as asked, the credential was handed over, the app is active.
    Success,
    /// The handoff ended without the credential being handed over, or a step of an activation was refused.
    Ended,
    /// The arguments make no sense.
    Usage,
    /// A file cannot be read or written.
    File,
    /// No relay answered, or it takes no connections.
    Unreachable,
    /// The relay cannot run.
    CannotRun,
    /// A setting is wrong.
    Config,
    /// Interrupted by the person.
    Interrupted,
}

/// The table for help texts.
pub(super) const HELP: &str = "\
Exit codes:
    0  done
    1  nothing was handed over, or the server refused: the reason is said
    2  the arguments make no sense
   66  a file cannot be read or written
   69  no relay or server answered, or it takes no connections
   71  the relay cannot run: an address is taken, a key or certificate is not usable
   78  a setting is wrong
  130  interrupted

Start with: handoff demo";

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Ended => 1,
            Self::Usage => 2,
            Self::File => 66,
            Self::Unreachable => 69,
            Self::CannotRun => 71,
            Self::Config => 78,
            Self::Interrupted => 130,
        }
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        self.code().into()
    }
}

/// A command that could not do its work, and what it says about it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    pub(super) problem: anyhow::Error,
}

impl From<FileError> for Failure {
    fn from(problem: FileError) -> Self {
        Self { exit: Exit::File, problem: problem.into() }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(problem: anyhow::Error) -> Self {
        Self { exit: Exit::Usage, problem }
    }
}
