//! `handoff new`: the app that scans and receives.

use std::io::{BufRead as _, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::ArgGroup;
use tokio::signal::ctrl_c;
use zeroize::Zeroizing;

use super::activate::{MODEL, app_name};
use super::exit::{Exit, Failure};
use super::guide::{Answers, Guide};
use super::output::Output;
use super::relays::RelayArgs;
use super::state_file::StateFile;
use super::{files, narrate, picture};
use crate::client::activation::{BadGrant, Beginning, CopyGrant, SavedApp, ServerUrl};
use crate::client::{EndReason, NewApp, NewHandle, NewOutcome, NewSettings};
use crate::crypto::{Binding, Credential, DeviceInfo, DeviceKey};
use crate::protocol::qr::QrPayload;

/// A QR text has a few hundred characters; more is something else.
const MAX_QR_TEXT_BYTES: u64 = 4096;

/// Receive a credential: read the QR code, show the check code, write the file
///
/// With --state, what comes is the copy grant of an active app (handoff old --state), and this app becomes active itself:
/// it asks for the user ID, the temporary PIN of the SMS, a personal PIN twice, fingerprint or face, notifications.
/// Killed after the handoff, the same command goes on where it was.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("where").required(true)))]
#[command(after_help = "Examples:
  handoff new --qr-image qr.png --state phone.json    copies an app, and activates the copy
  handoff new --qr-image qr.png --out id.json    a photo, a screenshot, what --qr-out writes
  handoff new --qr 'HO:...' --out id.json        the text inside the code
  zbarimg -q --raw qr.png | handoff new --out id.json")]
pub(super) struct New {
    /// The text inside the QR code [default: read from standard input]
    #[arg(long, value_name = "TEXT", conflicts_with = "qr_image")]
    qr: Option<String>,

    /// A picture of the QR code, PNG or JPEG
    #[arg(long, value_name = "FILE")]
    qr_image: Option<PathBuf>,

    /// Write the credential here, readable by its owner only
    #[arg(long, value_name = "FILE", group = "where")]
    out: Option<PathBuf>,

    /// Activate this app with the copy grant that comes, and keep its state here, readable by its owner only
    #[arg(long, value_name = "FILE", group = "where")]
    state: Option<PathBuf>,

    /// The activation's server [default: the relay's address]
    #[arg(long, value_name = "URL", requires = "state")]
    server: Option<String>,

    /// What the person calls this app
    #[arg(long, value_name = "NAME", default_value = "New phone", value_parser = app_name)]
    name: String,

    /// The user ID [default: asked]
    #[arg(long, value_name = "ID", requires = "state")]
    user_id: Option<String>,

    #[command(flatten)]
    answers: Answers,

    /// Replace the file if it exists
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    relays: RelayArgs,
}

/// The file for what comes.
enum Place<'a> {
    /// For the credential.
    Out(&'a Path),
    /// For an app that becomes active at this server.
    State(StateFile, ServerUrl),
}

impl New {
    pub(super) fn run(self, output: Output) -> Result<Exit, Failure> {
        super::in_runtime(async move {
            let place = self.place()?;
            if let Place::State(state, _) = &place
                && let Some(saved) = state.read()?
            {
                return self.activate(state, saved, output).await;
            }
            let app = NewApp::new(self.relays.list()?, self.relays.connector()?);
            let payload = QrPayload::from_text(&self.qr_text()?).map_err(anyhow::Error::from)?;
            let device = DeviceInfo::new("handoff new", env!("CARGO_PKG_VERSION")).context("this device")?;
            let key = DeviceKey::generate(&mut rand::rng());
            let mut settings = NewSettings::new(device, key.clone());
            settings.patience = self.relays.patience();
            let transfer = app.start(settings, payload).map_err(anyhow::Error::from)?;
            let (credential, binding) = match accompany(transfer, output).await {
                Ok(received) => received,
                Err(exit) => return Ok(exit),
            };
            match place {
                Place::Out(path) => self.keep(path, &credential, output),
                Place::State(state, server) => {
                    let saved = self.app((&credential, &binding), key, server)?;
                    state.save(&saved)?;
                    self.activate(&state, saved, output).await
                }
            }
        })
    }

    /// Known before the handoff, so that nothing arrives and cannot be kept.
    fn place(&self) -> Result<Place<'_>, Failure> {
        if let Some(path) = &self.state {
            let server = self.server.clone().unwrap_or_else(|| self.relays.server());
            let url = ServerUrl::parse(&server).with_context(|| format!("--server {server}"))?;
            files::check_writable(path, true)?;
            return Ok(Place::State(StateFile::new(path, self.relays.ca_file()), url));
        }
        let path = self.out.as_deref().ok_or_else(|| anyhow!("say where to write it"))?;
        files::check_writable(path, self.force)?;
        Ok(Place::Out(path))
    }

    /// A new app that the old one vouches for.
    fn app(
        &self,
        (credential, binding): (&Credential, &Binding),
        key: DeviceKey,
        server: ServerUrl,
    ) -> Result<SavedApp, Failure> {
        let grant = CopyGrant::received(credential, binding).map_err(|problem| {
            let advice = if problem == BadGrant::Other { "; say --out FILE to keep it as it is" } else { "" };
            Failure { exit: Exit::Ended, problem: anyhow!("{problem}{advice}") }
        })?;
        Ok(SavedApp::new(server, key, (&self.name, MODEL), Beginning::copy(&grant)))
    }

    async fn activate(&self, state: &StateFile, saved: SavedApp, output: Output) -> Result<Exit, Failure> {
        let guide = Guide::new(output, state, self.answers.clone()).user_id(self.user_id.as_deref());
        super::interruptible(guide.lead(saved)).await
    }

    fn keep(&self, path: &Path, credential: &Credential, output: Output) -> Result<Exit, Failure> {
        files::write(path, credential, self.force)?;
        let bytes = credential.len();
        let text = format!("Wrote {bytes} bytes to {}.", path.display());
        output.say(&text, &serde_json::json!({"event": "written", "bytes": bytes, "path": path}));
        Ok(Exit::Success)
    }

    fn qr_text(&self) -> Result<Zeroizing<String>, Failure> {
        if let Some(text) = &self.qr {
            return Ok(Zeroizing::new(text.clone()));
        }
        if let Some(path) = &self.qr_image {
            let text = picture::read(&files::read_picture(path)?);
            return Ok(Zeroizing::new(text.with_context(|| path.display().to_string())?));
        }
        let mut text = Zeroizing::new(String::new());
        let mut input = std::io::stdin().lock();
        // The lines behind it are answers of the person.
        let line = if self.state.is_some() {
            input.by_ref().take(MAX_QR_TEXT_BYTES).read_line(&mut text)
        } else {
            input.take(MAX_QR_TEXT_BYTES).read_to_string(&mut text)
        };
        line.context("standard input")?;
        Ok(text)
    }
}

/// Tells how the handoff goes; what came, or the exit code.
async fn accompany(mut transfer: NewHandle, output: Output) -> Result<(Credential, Binding), Exit> {
    let mut interrupted = false;
    loop {
        tokio::select! {
            event = transfer.next_event() => match event {
                Some(event) => output.tell(narrate::new(&event)),
                None => break,
            },
            _ = ctrl_c(), if !interrupted => {
                interrupted = true;
                transfer.cancel();
            }
        }
    }
    match transfer.join().await {
        NewOutcome::Received { credential, binding, .. } => Ok((credential, binding)),
        NewOutcome::Ended(_) if interrupted => Err(Exit::Interrupted),
        NewOutcome::Ended(EndReason::Unreachable(_)) => Err(Exit::Unreachable),
        NewOutcome::Ended(_) => Err(Exit::Ended),
    }
}
