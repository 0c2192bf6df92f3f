//! One whole handoff: two phones with the real client library, and the person who scans and types. Times every phase
//! from when it was meant to begin.

use std::time::{Duration, Instant};

use handoff_relay::client::{
    EndReason, LinkEvent, NewApp, NewEvent, NewHandle, NewOutcome, NewSettings, OldApp, OldEvent, OldHandle,
    OldOutcome, OldSettings, Transfer,
};
use handoff_relay::crypto::{CheckCode, Credential, DeviceInfo, DeviceKey};
use handoff_relay::protocol::close::CloseReason;
use handoff_relay::protocol::qr::{QrPayload, RelayRef};
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::time::sleep_until;

use super::labels;
use super::recorder::now;
use super::session::{Around, RELAY};
use crate::stats::Phase;

/// Starts the old app of a session.
pub(super) fn start_old(around: &Around, rng: &mut StdRng, credential: Vec<u8>) -> Result<OldHandle, String> {
    let mut settings = OldSettings::new(RelayRef::Listed(RELAY), device("old")?);
    settings.interval = around.relay.frame_interval.0;
    settings.lifetime = around.relay.lifetime.0;
    settings.patience = around.phone.patience.0;
    let old = OldApp::new(around.relays(rng), around.connector.clone());
    old.start(settings, Credential::new(credential)).map_err(|problem| problem.to_string())
}

fn device(model: &str) -> Result<DeviceInfo, String> {
    DeviceInfo::new(model, "1").map_err(|problem| problem.to_string())
}

/// Runs one handoff; returns how long it took without the person.
pub(super) async fn run(around: &Around, due: Instant, mut rng: StdRng) -> Result<Duration, String> {
    let mut credential = vec![0; around.phone.credential];
    rng.fill_bytes(&mut credential);
    let old = start_old(around, &mut rng, credential.clone())?;
    let handoff = Handoff {
        around,
        rng,
        due,
        old: Some(old),
        new: None,
        shown: None,
        is_asked: false,
        code: None,
        scan_at: None,
        type_at: None,
        thinking: Duration::ZERO,
        marks: Marks::default(),
        offline_since: [None; 2],
    };
    handoff.follow(&credential).await
}

/// When each step was reached.
#[derive(Debug, Default)]
struct Marks {
    shown: Option<Instant>,
    scanned: Option<Instant>,
    joined: Option<Instant>,
    code_shown: Option<Instant>,
    typed: Option<Instant>,
    code_accepted: Option<Instant>,
    delivered: Option<Instant>,
}

/// One handoff on its way.
struct Handoff<'a> {
    around: &'a Around,
    rng: StdRng,
    due: Instant,
    old: Option<OldHandle>,
    new: Option<NewHandle>,
    /// What the old app shows.
    shown: Option<QrPayload>,
    is_asked: bool,
    code: Option<CheckCode>,
    scan_at: Option<Instant>,
    type_at: Option<Instant>,
    /// Time that the person took.
    thinking: Duration,
    marks: Marks,
    /// Old's and new's.
    offline_since: [Option<Instant>; 2],
}

/// What woke a handoff up.
enum Wake {
    Old(Option<OldEvent>),
    New(Option<NewEvent>),
    Scan,
    Type,
}

impl Handoff<'_> {
    async fn follow(mut self, credential: &[u8]) -> Result<Duration, String> {
        loop {
            match self.wait().await {
                Wake::Old(Some(event)) => self.on_old(event),
                Wake::New(Some(event)) => self.on_new(event),
                Wake::Scan => self.scan()?,
                Wake::Type => self.type_code().await,
                Wake::Old(None) => return self.after_old(credential).await,
                Wake::New(None) => {
                    let Some(new) = self.new.take() else { continue };
                    match new.join().await {
                        // The picture had changed: the person scans the one that is shown now.
                        NewOutcome::Ended(EndReason::Closed(CloseReason::StaleFrame)) => {
                            self.around.recorder.setback("stale_frame");
                            self.scan_at = Some(now());
                        }
                        NewOutcome::Ended(reason) => {
                            if let Some(old) = self.old.take() {
                                old.cancel();
                                old.join().await;
                            }
                            return Err(labels::end_reason(reason));
                        }
                        outcome @ NewOutcome::Received { .. } => {
                            let old = self.rest_of_old().await;
                            return self.conclude(old, &outcome, credential);
                        }
                    }
                }
            }
        }
    }

    async fn wait(&mut self) -> Wake {
        let scan_at = self.scan_at.filter(|_| self.shown.is_some() && self.new.is_none());
        let type_at = self.type_at.filter(|_| self.is_asked);
        tokio::select! {
            event = next(&mut self.old) => Wake::Old(event),
            event = next(&mut self.new) => Wake::New(event),
            () = until(scan_at) => Wake::Scan,
            () = until(type_at) => Wake::Type,
        }
    }

    fn on_old(&mut self, event: OldEvent) {
        match event {
            OldEvent::QrShown { payload, .. } => {
                self.shown = Some(payload);
                if self.marks.shown.is_none() {
                    let think = self.around.phone.scan.sample(&mut self.rng);
                    self.marks.shown = Some(now());
                    self.scan_at = now().checked_add(think);
                }
            }
            OldEvent::QrHidden => self.shown = None,
            OldEvent::AskCode { .. } => self.is_asked = true,
            OldEvent::Delivered => self.marks.delivered = Some(now()),
            OldEvent::Link(event) => self.on_link(0, event),
            OldEvent::PeerJoined { .. }
            | OldEvent::PeerIdentified(_)
            | OldEvent::CodeAccepted
            | OldEvent::Sending { .. }
            | OldEvent::Ended(_) => {}
        }
    }

    fn on_new(&mut self, event: NewEvent) {
        match event {
            NewEvent::Joined => self.marks.joined = Some(now()),
            NewEvent::ShowCode(code) => {
                self.code = Some(code);
                self.marks.code_shown = Some(now());
                let think = self.around.phone.type_code.sample(&mut self.rng);
                self.type_at = now().checked_add(think);
            }
            NewEvent::CodeAccepted => self.marks.code_accepted = Some(now()),
            NewEvent::Link(event) => self.on_link(1, event),
            NewEvent::PeerIdentified(_)
            | NewEvent::Receiving { .. }
            | NewEvent::CredentialReceived
            | NewEvent::Confirmed
            | NewEvent::Unconfirmed(_)
            | NewEvent::Ended(_) => {}
        }
    }

    fn on_link(&mut self, side: usize, event: LinkEvent) {
        let Some(offline_since) = self.offline_since.get_mut(side) else { return };
        self.around.on_link(offline_since, event);
    }

    /// The person has pointed the camera at the picture.
    fn scan(&mut self) -> Result<(), String> {
        let (Some(payload), Some(at)) = (self.shown.clone(), self.scan_at.take()) else { return Ok(()) };
        if let (None, Some(shown)) = (self.marks.scanned, self.marks.shown) {
            self.thinking = self.thinking.saturating_add(at.saturating_duration_since(shown));
        }
        self.marks.scanned = Some(at);
        let mut settings = NewSettings::new(device("new")?, DeviceKey::generate(&mut self.rng));
        settings.patience = self.around.phone.patience.0;
        let new = NewApp::new(self.around.relays(&mut self.rng), self.around.connector.clone());
        self.new = Some(new.start(settings, payload).map_err(|problem| problem.to_string())?);
        Ok(())
    }

    async fn type_code(&mut self) {
        let (Some(code), Some(at)) = (self.code.take(), self.type_at.take()) else { return };
        let shown = self.marks.code_shown.unwrap_or(at);
        self.thinking = self.thinking.saturating_add(at.saturating_duration_since(shown));
        self.marks.typed = Some(at);
        if let Some(old) = &self.old {
            old.enter_code(code).await;
        }
    }

    /// The old app is done; the new one may still wait for its last word.
    async fn after_old(mut self, credential: &[u8]) -> Result<Duration, String> {
        let old = self.rest_of_old().await;
        let Some(mut new) = self.new.take() else { return Err(old_failure(old)) };
        if let OldOutcome::Ended(_) = old {
            new.cancel();
            new.join().await;
            return Err(old_failure(old));
        }
        while let Some(event) = new.next_event().await {
            self.on_new(event);
        }
        let outcome = new.join().await;
        self.conclude(old, &outcome, credential)
    }

    async fn rest_of_old(&mut self) -> OldOutcome {
        let Some(mut old) = self.old.take() else { return EndReason::Internal.into() };
        while let Some(event) = old.next_event().await {
            self.on_old(event);
        }
        old.join().await
    }

    fn conclude(self, old: OldOutcome, new: &NewOutcome, credential: &[u8]) -> Result<Duration, String> {
        match (old, new) {
            (OldOutcome::Delivered, NewOutcome::Received { credential: received, confirmed, .. }) => {
                if **received != *credential {
                    return Err("other_credential".to_owned());
                }
                if !confirmed {
                    return Err("unconfirmed".to_owned());
                }
                Ok(self.record())
            }
            (_, NewOutcome::Ended(reason)) => Err(labels::end_reason(*reason)),
            (OldOutcome::Ended(reason), _) => Err(labels::end_reason(reason)),
        }
    }

    /// Reports the phases of a handoff that was completed.
    fn record(self) -> Duration {
        let Marks { shown, scanned, joined, code_shown, typed, code_accepted, delivered } = self.marks;
        let wall = now().saturating_duration_since(self.due);
        for (phase, from, to) in [
            (Phase::Open, Some(self.due), shown),
            (Phase::Join, scanned, joined),
            (Phase::Key, joined, code_shown),
            (Phase::Code, typed, code_accepted),
            (Phase::Credential, code_accepted, delivered),
        ] {
            if let (Some(from), Some(to)) = (from, to) {
                self.around.recorder.time(phase, to.saturating_duration_since(from));
            }
        }
        self.around.recorder.time(Phase::Wall, wall);
        wall.saturating_sub(self.thinking)
    }
}

fn old_failure(outcome: OldOutcome) -> String {
    match outcome {
        OldOutcome::Ended(reason) => labels::end_reason(reason),
        OldOutcome::Delivered => "unconfirmed".to_owned(),
    }
}

async fn next<C, E, O>(transfer: &mut Option<Transfer<C, E, O>>) -> Option<E>
where
    C: Send + 'static,
    E: Send + 'static,
    O: Send + From<EndReason> + 'static,
{
    match transfer {
        Some(transfer) => transfer.next_event().await,
        None => std::future::pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
