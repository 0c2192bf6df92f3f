//! `handoff new`: the app that scans and receives.

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::Context as _;
use tokio::signal::ctrl_c;
use zeroize::Zeroizing;

use super::exit::{Exit, Failure};
use super::output::Output;
use super::relays::RelayArgs;
use super::{files, narrate, picture};
use crate::client::{EndReason, NewApp, NewHandle, NewOutcome, NewSettings};
use crate::crypto::{DeviceInfo, DeviceKey};
use crate::protocol::qr::QrPayload;

/// A QR text has a few hundred characters; more is something else.
const MAX_QR_TEXT_BYTES: u64 = 4096;

/// Receive a credential: read the QR code, show the check code, write the file
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
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
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// Replace the file if it exists
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    relays: RelayArgs,
}

impl New {
    pub(super) fn run(self, output: Output) -> Result<Exit, Failure> {
        super::in_runtime(async move {
            // Known before the handoff, so that no credential arrives and cannot be kept.
            files::check_writable(&self.out, self.force)?;
            let app = NewApp::new(self.relays.list()?, self.relays.connector()?);
            let payload = QrPayload::from_text(&self.qr_text()?).map_err(anyhow::Error::from)?;
            let device = DeviceInfo::new("handoff new", env!("CARGO_PKG_VERSION")).context("this device")?;
            let mut settings = NewSettings::new(device, DeviceKey::generate(&mut rand::rng()));
            settings.patience = self.relays.patience();
            let transfer = app.start(settings, payload).map_err(anyhow::Error::from)?;
            self.accompany(transfer, output).await
        })
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
        std::io::stdin().take(MAX_QR_TEXT_BYTES).read_to_string(&mut text).context("standard input")?;
        Ok(text)
    }

    async fn accompany(&self, mut transfer: NewHandle, output: Output) -> Result<Exit, Failure> {
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
            NewOutcome::Received { credential, .. } => {
                files::write(&self.out, &credential, self.force)?;
                let bytes = credential.len();
                let text = format!("Wrote {bytes} bytes to {}.", self.out.display());
                output.say(&text, &serde_json::json!({"event": "written", "bytes": bytes, "path": self.out}));
                Ok(Exit::Success)
            }
            NewOutcome::Ended(_) if interrupted => Ok(Exit::Interrupted),
            NewOutcome::Ended(EndReason::Unreachable(_)) => Ok(Exit::Unreachable),
            NewOutcome::Ended(_) => Ok(Exit::Ended),
        }
    }
}
