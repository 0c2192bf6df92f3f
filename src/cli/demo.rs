//! `handoff demo`: the relay and both apps in one terminal, each step told.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::SystemTime;

use anyhow::Context as _;
use serde_json::json;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::exit::{Exit, Failure};
use super::narrate;
use super::output::Output;
use super::picture;
use super::relays::RelayArgs;
use crate::app::{Listeners, Node, Stop};
use crate::client::{
    NewApp, NewEvent, NewHandle, NewOutcome, NewSettings, OldApp, OldEvent, OldHandle, OldOutcome, OldSettings,
};
use crate::config::Settings;
use crate::crypto::{CheckCode, DeviceInfo, DeviceKey};
use crate::protocol::qr::QrPayload;
use crate::telemetry;

/// What is handed over.
const CREDENTIAL: &[u8] = b"{\"holder\": \"Astrid Holm\", \"document\": \"demonstration only\"}";

/// See a whole handoff: relay, old phone and new phone in this terminal
#[derive(Debug, clap::Args)]
pub(super) struct Demo {}

impl Demo {
    pub(super) fn run(output: Output) -> Result<Exit, Failure> {
        let relay = DemoRelay::start().map_err(|problem| Failure { exit: Exit::CannotRun, problem })?;
        output.say(
            &format!("relay      It listens on {}, and can read nothing of what follows.", relay.url),
            &json!({"event": "listening", "url": relay.url}),
        );
        let exit = super::in_runtime(Stage { output }.play(relay.url.clone()))?;
        relay.stop().map_err(|problem| Failure { exit: Exit::CannotRun, problem })?;
        Ok(exit)
    }
}

/// A relay on a free port of this device, in a thread of its own.
struct DemoRelay {
    url: String,
    stop: watch::Sender<Stop>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl DemoRelay {
    #[expect(clippy::disallowed_methods, reason = "this is where time enters")]
    fn start() -> anyhow::Result<Self> {
        let mut settings = Settings::default();
        settings.server.listen.set_port(0);
        let listeners = Listeners::bind(&settings)?;
        let url = format!("ws://{}", listeners.address()?);
        let metrics = telemetry::install_metrics(SystemTime::now())?;
        let stop = watch::Sender::new(Stop::Not);
        let stopping = stop.subscribe();
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::Builder::new().name("relay".to_owned()).spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let node = Node::new(&settings, metrics)?;
                ready.send(()).ok();
                node.run(listeners, stopping).await?;
                Ok(())
            })
        })?;
        is_ready.recv().context("the relay did not start")?;
        Ok(Self { url, stop, thread })
    }

    fn stop(self) -> anyhow::Result<()> {
        self.stop.send_replace(Stop::AtOnce);
        self.thread.join().map_err(|_| anyhow::anyhow!("the relay failed"))?
    }
}

/// Both phones, and the person who holds them.
struct Stage {
    output: Output,
}

impl Stage {
    async fn play(self, url: String) -> Result<Exit, Failure> {
        let relays = RelayArgs::one(url);
        let (list, connector) = (relays.list()?, relays.connector()?);
        let device = DeviceInfo::new("Old phone", "1.0").context("device")?;
        let old = OldApp::new(list.clone(), connector.clone())
            .start(OldSettings::new(relays.reference(), device), Zeroizing::new(CREDENTIAL.to_vec()))
            .map_err(anyhow::Error::from)?;
        self.play_phones(old, NewApp::new(list, connector)).await
    }

    async fn play_phones(self, mut old: OldHandle, app: NewApp) -> Result<Exit, Failure> {
        let mut new: Option<NewHandle> = None;
        let mut asked = false;
        let mut shown: Option<CheckCode> = None;
        loop {
            if asked && let Some(code) = shown.take() {
                self.remark("person", &format!("Reads {code} on the new phone and types it into the old one."));
                old.enter_code(code).await;
            }
            tokio::select! {
                event = old.next_event() => {
                    let Some(event) = event else { break };
                    self.tell("old phone", narrate::old(&event));
                    asked |= matches!(event, OldEvent::AskCode { .. });
                    if let OldEvent::QrShown { payload, .. } = event
                        && new.is_none()
                    {
                        new = Some(self.scan(&app, &payload)?);
                    }
                }
                Some(event) = next(&mut new) => {
                    self.tell("new phone", narrate::new(&event));
                    if let NewEvent::ShowCode(code) = event {
                        shown = Some(code);
                    }
                }
            }
        }
        let Some(mut new) = new else { return Ok(Exit::Ended) };
        while let Some(event) = new.next_event().await {
            self.tell("new phone", narrate::new(&event));
        }
        Ok(self.curtain(old.join().await, new.join().await))
    }

    fn scan(&self, app: &NewApp, payload: &QrPayload) -> Result<NewHandle, Failure> {
        if !self.output.is_json() {
            for line in picture::for_terminal(&payload.to_text()).map_err(anyhow::Error::from)? {
                Output::raw(&line);
            }
        }
        self.remark("old phone", "Shows this code, another one every five seconds.");
        self.remark("person", "Scans it with the new phone.");
        let device = DeviceInfo::new("New phone", "1.0").context("device")?;
        let settings = NewSettings::new(device, DeviceKey::generate(&mut rand::rng()));
        Ok(app.start(settings, payload.clone()).map_err(anyhow::Error::from)?)
    }

    fn curtain(&self, old: OldOutcome, new: NewOutcome) -> Exit {
        let NewOutcome::Received { credential, .. } = new else { return Exit::Ended };
        let is_equal = credential.as_slice() == CREDENTIAL;
        self.remark("new phone", &format!("Now holds: {}", String::from_utf8_lossy(&credential)));
        if is_equal && old == OldOutcome::Delivered { Exit::Success } else { Exit::Ended }
    }

    fn tell(&self, who: &str, (text, mut event): narrate::Told) {
        if let Some(event) = event.as_object_mut() {
            event.insert("who".to_owned(), who.into());
        }
        self.output.tell((text.map(|text| format!("{who:<10} {text}")), event));
    }

    fn remark(&self, who: &str, text: &str) {
        self.output.say(&format!("{who:<10} {text}"), &json!({"event": "remark", "who": who, "text": text}));
    }
}

/// The next event of a phone that may not be switched on yet.
async fn next(new: &mut Option<NewHandle>) -> Option<NewEvent> {
    match new {
        Some(new) => new.next_event().await,
        None => std::future::pending().await,
    }
}
