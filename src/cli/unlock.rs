//! `handoff unlock`: opens an active app with its personal PIN.

use std::path::PathBuf;

use serde_json::json;

use super::exit::{Exit, Failure};
use super::output::Output;
use super::questions::Questions;
use super::state_file::{StateFile, failure};
use crate::client::activation::{ActivationError, ActiveApp};
use crate::client::personal_pin::{PersonalPin, PinExchangeError};

/// Open an active app with its personal PIN
///
/// Asks until the PIN is right or no further try is allowed: five are free, then there are waits, and after ten wrong
/// ones the app must be activated again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  handoff unlock --state phone.json
  handoff unlock --state phone.json --json
  handoff unlock --state phone.json --ca-file ca.pem")]
pub(super) struct Unlock {
    /// The state of an active app, as handoff activate and handoff new write it
    #[arg(long, value_name = "FILE")]
    state: PathBuf,

    /// Trust the certificate authorities in this PEM file, too
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl Unlock {
    pub(super) fn run(self, output: Output) -> Result<Exit, Failure> {
        super::in_runtime(super::interruptible(async move {
            let state = StateFile::new(&self.state, self.ca_file.as_deref());
            let (saved, app) = state.active()?;
            let mut questions = Questions::new(output);
            loop {
                let typed = questions.ask_hidden("personal_pin", "Personal PIN (not shown):").await?;
                match PersonalPin::typed(&typed) {
                    Err(slip) => questions.again(&format!("{slip}; this was no try")),
                    Ok(pin) => match open(&app, &pin).await {
                        Ok(()) => break,
                        Err(ActivationError::Pin(PinExchangeError::WrongPin)) => {
                            questions.again("the PIN is wrong; try again");
                        }
                        Err(problem) => return Err(failure(saved.server(), &problem)),
                    },
                }
            }
            output.say("The PIN is right: the app is open.", &json!({"event": "unlocked"}));
            Ok(Exit::Success)
        }))
    }
}

async fn open(app: &ActiveApp, pin: &PersonalPin) -> Result<(), ActivationError> {
    if app.unlock(pin).await?.must_renew { app.replace_pin(pin).await } else { Ok(()) }
}
