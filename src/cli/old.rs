//! `handoff old`: the app that has the credential.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use clap::{ArgGroup, ValueEnum};
use tokio::io::{BufReader, Lines, Stdin};
use tokio::signal::ctrl_c;
use zeroize::Zeroizing;

use super::copying::Copying;
use super::exit::{Exit, Failure};
use super::output::Output;
use super::qr_screen::QrScreen;
use super::questions::Questions;
use super::relays::RelayArgs;
use super::state_file::StateFile;
use super::{files, narrate, relative};
use crate::client::{EndReason, OldApp, OldEvent, OldHandle, OldOutcome, OldSettings, VerdictPolicy};
use crate::crypto::{CheckCode, DeviceInfo};
use crate::protocol::ids::OpenToken;
use crate::protocol::limits::{MAX_TOKEN_BYTES, SESSION_LIFETIME};
use crate::protocol::qr::Suite;

/// Hand a credential over: show the QR code, ask for the check code, send
///
/// With --state, an active app copies itself: what it hands over is a grant with which the new phone becomes an app of the
/// same user (handoff new --state). It stays active, and waits to hear that the new one is.
///
/// With --for-relative, this phone helps somebody whose identity was proved on it: it shows the thumbprint of a key made for
/// this, asks for the enrolment token that names it, and hands over a grant with it. It keeps nothing afterwards.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("what").required(true)))]
#[command(after_help = "Examples:
  handoff old --state phone.json --qr-out qr.png     copies an active app to another phone
  handoff old --for-relative                         makes a relative's app on another phone, keeps nothing
  handoff old --credential id.json                   draws the code in this terminal
  handoff old --credential id.json --qr-out qr.png   and keeps it as a picture, too
  handoff old --credential id.json --static-qr       one code for the whole three minutes")]
pub(super) struct Old {
    /// The file to hand over, at most 256 KiB
    #[arg(long, value_name = "FILE", group = "what")]
    credential: Option<PathBuf>,

    /// The state of an active app, as handoff activate writes it: hand over a copy grant
    #[arg(long, value_name = "FILE", group = "what")]
    state: Option<PathBuf>,

    /// Hand over a copy grant for a relative's app, with an enrolment token that is asked for
    #[arg(long, group = "what")]
    for_relative: bool,

    /// Write the current QR code here, as .png or .svg, and take it away when it is no longer valid
    #[arg(long, value_name = "FILE")]
    qr_out: Option<PathBuf>,

    /// Show one code for the whole session; a forwarded picture of it works as well as the screen
    #[arg(long)]
    static_qr: bool,

    /// The cipher suite of the end-to-end channel
    #[arg(long, value_enum, default_value_t)]
    suite: SuiteName,

    /// A file with the token that opens a session, where the relay asks for one
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// The session lifetime that the relay is configured with
    #[arg(long, value_name = "SECONDS", default_value_t = SESSION_LIFETIME.as_secs())]
    lifetime: u64,

    /// Refuse a new phone that is on another network or in another country
    #[arg(long)]
    refuse_different: bool,

    #[command(flatten)]
    relays: RelayArgs,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum SuiteName {
    /// DHKEM(P-256)
    #[default]
    P256,
    /// The post-quantum hybrid MLKEM768-P256
    Mlkem768P256,
}

impl Old {
    pub(super) fn run(self, output: Output) -> Result<Exit, Failure> {
        super::in_runtime(async move {
            let copying = match &self.state {
                Some(path) => Some(Copying::begin(&StateFile::new(path, self.relays.ca_file())).await?),
                None => None,
            };
            let mut questions = Questions::new(output);
            let payload = if self.for_relative {
                relative::enrolled(&mut questions, output).await?.grant_copy()
            } else if let Some(copying) = &copying {
                copying.payload()
            } else {
                let path = self.credential.as_deref().ok_or_else(|| anyhow!("say what to hand over"))?;
                files::read_credential(path)?.into()
            };
            let app = OldApp::new(self.relays.list()?, self.relays.connector()?);
            let screen = QrScreen::new(output.is_json(), self.qr_out.clone()).map_err(anyhow::Error::from)?;
            let transfer = app.start(self.settings()?, payload).map_err(anyhow::Error::from)?;
            let person = Person { output, screen, lines: questions.into_lines(), is_asked: false };
            match (person.accompany(transfer).await?, copying) {
                (Exit::Success, Some(copying)) => copying.until_active(output).await,
                (exit, _) => Ok(exit),
            }
        })
    }

    fn settings(&self) -> Result<OldSettings, Failure> {
        let device = DeviceInfo::new("handoff old", env!("CARGO_PKG_VERSION")).context("this device")?;
        let mut settings = OldSettings::new(self.relays.reference(), device);
        settings.patience = self.relays.patience();
        settings.lifetime = Duration::from_secs(self.lifetime);
        if self.static_qr {
            settings.interval = settings.lifetime;
        }
        settings.suite = match self.suite {
            SuiteName::P256 => Suite::P256,
            SuiteName::Mlkem768P256 => Suite::MlKem768P256,
        };
        settings.policy = VerdictPolicy {
            refuse_different_network: self.refuse_different,
            refuse_different_country: self.refuse_different,
            refuse_unknown: false,
        };
        settings.token = self.token_file.as_ref().map(read_token).transpose()?;
        Ok(settings)
    }
}

fn read_token(path: &PathBuf) -> Result<OpenToken, Failure> {
    let text = Zeroizing::new(
        std::fs::read_to_string(path).map_err(|source| files::FileError::Read { path: path.clone(), source })?,
    );
    let most = u64::try_from(MAX_TOKEN_BYTES).unwrap_or(u64::MAX);
    let too_large = || files::FileError::TooLarge { path: path.clone(), what: "a token", most };
    OpenToken::new(text.trim().to_owned()).ok_or_else(|| too_large().into())
}

/// The person in front of the old phone: looks at the screen, types the code, may give up.
struct Person {
    output: Output,
    screen: QrScreen,
    lines: Lines<BufReader<Stdin>>,
    is_asked: bool,
}

impl Person {
    #[expect(clippy::disallowed_methods, reason = "the countdown on the screen is real time")]
    async fn accompany(mut self, mut transfer: OldHandle) -> Result<Exit, Failure> {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut interrupted = false;
        loop {
            tokio::select! {
                event = transfer.next_event() => match event {
                    Some(event) => self.see(&event, Instant::now())?,
                    None => break,
                },
                line = self.lines.next_line(), if self.is_asked => self.type_code(line, &transfer).await,
                _ = second.tick() => self.screen.tick(Instant::now()).map_err(anyhow::Error::from)?,
                _ = ctrl_c(), if !interrupted => {
                    interrupted = true;
                    transfer.cancel();
                }
            }
        }
        self.screen.hide().map_err(anyhow::Error::from)?;
        Ok(match transfer.join().await {
            OldOutcome::Delivered => Exit::Success,
            OldOutcome::Ended(_) if interrupted => Exit::Interrupted,
            OldOutcome::Ended(EndReason::Unreachable(_)) => Exit::Unreachable,
            OldOutcome::Ended(_) => Exit::Ended,
        })
    }

    fn see(&mut self, event: &OldEvent, now: Instant) -> Result<(), Failure> {
        if let OldEvent::QrShown { payload, next_in, left } = event {
            self.screen.show(payload, *next_in, *left, now).map_err(anyhow::Error::from)?;
        } else if matches!(event, OldEvent::QrHidden | OldEvent::PeerJoined { .. }) {
            self.screen.hide().map_err(anyhow::Error::from)?;
        }
        self.is_asked |= matches!(event, OldEvent::AskCode { .. });
        self.output.tell(narrate::old(event));
        Ok(())
    }

    async fn type_code(&mut self, line: std::io::Result<Option<String>>, transfer: &OldHandle) {
        let Ok(Some(typed)) = line.map(|line| line.map(Zeroizing::new)) else {
            self.is_asked = false;
            Output::error(&"nobody can type the check code: standard input is closed");
            return transfer.cancel();
        };
        match typed.parse::<CheckCode>() {
            Ok(code) => {
                self.is_asked = false;
                transfer.enter_code(code).await;
            }
            // A slip of the finger is not a try.
            Err(problem) => Output::error(&format_args!("{problem}; try again")),
        }
    }
}
