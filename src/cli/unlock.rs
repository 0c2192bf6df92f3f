//! `handoff unlock`: opens an active app with its personal PIN.

use std::path::PathBuf;

use serde_json::json;

use super::exit::{Exit, Failure};
use super::fill_in::Inbox;
use super::output::Output;
use super::questions::Questions;
use super::state_file::{StateFile, failure};
use crate::client::activation::{ActivationError, ActiveApp, RefusalKind, ServerUrl, SmsWish};
use crate::client::personal_pin::{PersonalPin, PinExchangeError};

/// Open an active app with its personal PIN
///
/// Asks until the PIN is right or no further try is allowed: five are free, then there are waits, and after ten wrong
/// ones the app must be activated again. A new PIN is chosen and repeated as in the activation.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  handoff unlock --state phone.json
  handoff unlock --state phone.json --new-pin      chooses another PIN
  handoff unlock --state phone.json --forgotten    with a temporary PIN by SMS in place of the PIN
  handoff unlock --state phone.json --ca-file ca.pem")]
pub(super) struct Unlock {
    /// The state of an active app, as handoff activate and handoff new write it
    #[arg(long, value_name = "FILE")]
    state: PathBuf,

    /// Choose another PIN then
    #[arg(long)]
    new_pin: bool,

    /// Prove a temporary PIN that comes by SMS, and choose another PIN
    #[arg(long)]
    forgotten: bool,

    /// Trust the certificate authorities in this PEM file, too
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl Unlock {
    pub(super) fn run(self, output: Output) -> Result<Exit, Failure> {
        super::in_runtime(super::interruptible(async move {
            let state = StateFile::new(&self.state, self.ca_file.as_deref());
            let (saved, app) = state.active()?;
            let mut door = Door { app, server: saved.server().clone(), questions: Questions::new(output) };
            if self.forgotten {
                door.prove_temporary_pin().await?;
            } else {
                door.prove_pin().await?;
                output.say("The PIN is right: the app is open.", &json!({"event": "unlocked"}));
            }
            if self.new_pin || self.forgotten {
                let pin = door.questions.choose_pin(&[]).await?;
                door.app.replace_pin(&pin).await.map_err(|problem| failure(&door.server, &problem))?;
                output.say("The new PIN opens the app from now on.", &json!({"event": "pin_replaced"}));
            }
            Ok(Exit::Success)
        }))
    }
}

/// An app that is to be opened, and the person in front of it.
struct Door {
    app: ActiveApp,
    server: ServerUrl,
    questions: Questions,
}

impl Door {
    async fn prove_pin(&mut self) -> Result<(), Failure> {
        loop {
            let typed = self.questions.ask_hidden("personal_pin", "Personal PIN (not shown):").await?;
            let slip = match PersonalPin::typed(&typed) {
                Err(slip) => format!("{slip}; this was no try"),
                Ok(pin) => match self.open(&pin).await {
                    Ok(()) => return Ok(()),
                    Err(ActivationError::Pin(wrong @ PinExchangeError::WrongPin)) => format!("{wrong}; try again"),
                    Err(problem) => return Err(failure(&self.server, &problem)),
                },
            };
            self.questions.again(&slip);
        }
    }

    async fn open(&self, pin: &PersonalPin) -> Result<(), ActivationError> {
        if self.app.unlock(pin).await?.must_renew { self.app.replace_pin(pin).await } else { Ok(()) }
    }

    async fn prove_temporary_pin(&mut self) -> Result<(), Failure> {
        let mut inbox = self.send_sms().await?;
        loop {
            let offered = inbox.wait().await;
            let typed = self.questions.ask_temporary_pin(offered.as_ref()).await?;
            if typed.eq_ignore_ascii_case("again") {
                inbox = self.send_sms().await?;
                continue;
            }
            let typed = offered.filter(|_| typed.is_empty()).map_or(typed, |sms| sms.pin);
            match self.app.prove_temporary_pin(&typed).await {
                Ok(()) => return Ok(()),
                Err(problem)
                    if matches!(
                        problem.refused(),
                        Some(RefusalKind::WrongTemporaryPin | RefusalKind::BadTemporaryPin)
                    ) =>
                {
                    self.questions.again(&problem.to_string());
                }
                Err(problem) => return Err(failure(&self.server, &problem)),
            }
        }
    }

    async fn send_sms(&self) -> Result<Inbox, Failure> {
        // An active app is not told its number: any SMS that comes is taken for its own.
        let mut inbox = Inbox::new(&self.server, "");
        inbox.look().await;
        let wish = SmsWish { language: Some("en".to_owned()), app_hash: None };
        self.app.send_temporary_pin(&wish).await.map_err(|problem| failure(&self.server, &problem))?;
        Ok(inbox)
    }
}
