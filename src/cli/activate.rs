//! `handoff activate`: an app on this phone becomes active.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use zeroize::Zeroizing;

use super::exit::Exit;
use super::exit::Failure;
use super::files;
use super::guide::{Answers, Guide};
use super::output::Output;
use super::relays::DEFAULT_SERVER;
use super::state_file::StateFile;
use crate::client::activation::{Beginning, SavedApp, ServerUrl};
use crate::crypto::DeviceKey;

/// Longest token: as the server takes it.
const MOST_TOKEN_BYTES: u64 = 6 * 1024;

/// Longest name of an app, in characters: as the server takes it.
const MOST_NAME: usize = 64;

/// What this app runs on.
pub(super) const MODEL: &str = concat!("handoff ", env!("CARGO_PKG_VERSION"));

/// Activate the app on this phone, or go on with an activation that was interrupted
///
/// Asks step by step, as an app would: the temporary PIN of the SMS, a personal PIN twice, fingerprint or face,
/// notifications. Answers may come from a pipe, one a line. An enrolment token comes from the identity-proofing system;
/// for trying it out, from handoff enrolment-token. Killed at any moment, the same command goes on where it was.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  handoff activate --enrolment-token-file token.txt --state phone.json
  handoff activate --server https://api.example --enrolment-token 'eyJ...' --state phone.json
  handoff activate --state phone.json    goes on")]
pub(super) struct Activate {
    /// Where the app's state is kept, readable by its owner only: its key, and how far it is
    #[arg(long, value_name = "FILE")]
    state: PathBuf,

    /// The enrolment token; needed to begin
    #[arg(long, value_name = "TOKEN", conflicts_with = "enrolment_token_file")]
    enrolment_token: Option<String>,

    /// A file with the enrolment token, which other people of this computer do not see in the list of processes
    #[arg(long, value_name = "FILE")]
    enrolment_token_file: Option<PathBuf>,

    /// The server's address
    #[arg(long, value_name = "URL", default_value = DEFAULT_SERVER)]
    server: String,

    /// What the person calls this app
    #[arg(long, value_name = "NAME", default_value = "This phone", value_parser = app_name)]
    name: String,

    /// Trust the certificate authorities in this PEM file, too
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    #[command(flatten)]
    answers: Answers,
}

/// A name that the server takes.
pub(super) fn app_name(text: &str) -> Result<String, String> {
    let text = text.trim();
    let is_good = (1..=MOST_NAME).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    is_good.then(|| text.to_owned()).ok_or_else(|| format!("a name has 1 to {MOST_NAME} characters"))
}

impl Activate {
    pub(super) fn run(self, output: Output) -> Result<Exit, Failure> {
        super::in_runtime(super::interruptible(async move {
            let state = StateFile::new(&self.state, self.ca_file.as_deref());
            let saved = match state.read()? {
                Some(saved) => saved,
                None => self.begin(&state)?,
            };
            Guide::new(output, &state, self.answers).lead(saved).await
        }))
    }

    /// A new app, saved before it says anything: what it is killed at, it can repeat.
    fn begin(&self, state: &StateFile) -> Result<SavedApp, Failure> {
        let token = self.token()?;
        if token.trim().is_empty() {
            return Err(anyhow!("the enrolment token is empty").into());
        }
        let server = ServerUrl::parse(&self.server).with_context(|| format!("--server {}", self.server))?;
        let key = DeviceKey::generate(&mut rand::rng());
        let saved = SavedApp::new(server, key, (&self.name, MODEL), Beginning::enrolment(token.trim().to_owned()));
        state.save(&saved)?;
        Ok(saved)
    }

    fn token(&self) -> Result<Zeroizing<String>, Failure> {
        match (&self.enrolment_token, &self.enrolment_token_file) {
            (Some(token), _) => Ok(Zeroizing::new(token.clone())),
            (None, Some(path)) => {
                let bytes = Zeroizing::new(files::read(path, "an enrolment token", MOST_TOKEN_BYTES)?);
                let text = std::str::from_utf8(&bytes).map_err(|_| anyhow!("{}: not a token", path.display()))?;
                Ok(Zeroizing::new(text.to_owned()))
            }
            (None, None) => {
                let path = self.state.display();
                Err(anyhow!("{path} does not exist: say --enrolment-token or --enrolment-token-file to begin").into())
            }
        }
    }
}
