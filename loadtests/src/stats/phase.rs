//! The parts of a session that are timed, and what each begins and ends with. Names only.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::scenario::Kind;

macro_rules! phases {
    ($($(#[$doc:meta])* $name:ident = $label:literal, $what:literal, $machine:literal;)*) => {
        /// A timed part of a session.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub(crate) enum Phase {
            $($(#[$doc])* #[serde(rename = $label)] $name,)*
        }

        impl Phase {
            /// Every phase, in the order of reports.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name in thresholds and JSON.
            pub(crate) fn label(self) -> &'static str {
                match self { $(Self::$name => $label),* }
            }

            /// From what to what.
            pub(crate) fn meaning(self) -> &'static str {
                match self { $(Self::$name => $what),* }
            }

            /// Whether only machines take part, and no person.
            pub(crate) fn is_machine_time(self) -> bool {
                match self { $(Self::$name => $machine),* }
            }
        }
    };
}

phases! {
    /// The relay's answer to `open`.
    Open = "open", "from the intended start until the QR code shows", true;
    /// The relay's answer to `join`.
    Join = "join", "from the scan until the relay accepted it", true;
    /// Hello and reply.
    Key = "key", "from the join until the new app shows the check code", true;
    /// The first piece of the credential.
    Code = "code", "from the typed code until the new app hears that it was right", true;
    /// The rest of it, and the receipt.
    Credential = "credential", "from there until the old app has the receipt", true;
    /// The whole handoff without people.
    Total = "total", "from the intended start until both apps know the end, without the time people took", true;
    /// The whole handoff with people.
    Wall = "wall", "the same, with the time people took", false;
    /// A lost connection.
    Resume = "resume", "from a lost connection until the session goes on", true;
    /// The relay's answer to an attack.
    Refusal = "refusal", "from the intended start until the relay has turned an attack away", true;
    /// The deadline of a session that nobody joined.
    Ended = "ended", "from a session's deadline until its app was told", true;
}

impl Phase {
    /// Whether a session of this kind has it.
    pub(crate) fn happens_to(self, kind: Kind) -> bool {
        match kind {
            Kind::Handoff => !matches!(self, Self::Refusal | Self::Ended),
            Kind::Lurker => matches!(self, Self::Open | Self::Resume | Self::Ended),
            Kind::Abuse => self == Self::Refusal,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = || Self::ALL.iter().map(|phase| phase.label()).collect::<Vec<_>>().join(", ");
        let found = Self::ALL.iter().copied().find(|phase| phase.label() == text);
        found.ok_or_else(|| format!("there is no phase `{text}`; there are {}", all()))
    }
}
