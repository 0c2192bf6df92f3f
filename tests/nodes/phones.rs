//! One handoff between the two apps' client library, with a person in between, told step by step.

use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use handoff_relay::client::{
    Connector, EndReason, LinkEvent, NewApp, NewEvent, NewHandle, NewOutcome, NewSettings, OldApp, OldEvent, OldHandle,
    OldOutcome, OldSettings, RelayList,
};
use handoff_relay::crypto::{Credential, DeviceInfo, DeviceKey};
use handoff_relay::protocol::close::CloseReason;
use handoff_relay::protocol::qr::{QrPayload, RelayRef};
use rand::Rng as _;

use crate::group::RELAY;

/// How far a handoff has come. Each is told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The QR code is shown; nobody has joined.
    Opened,
    /// The relay has answered the new app.
    Joined,
    /// The old app has heard of it, and the hello is on its way.
    Hello,
    /// The check code is shown, and asked for.
    Code,
    /// The first bytes of the credential have arrived.
    Credential,
    /// The new app has it all, and its receipt is on its way.
    Receipt,
}

impl Step {
    pub(crate) const ALL: [Self; 6] =
        [Self::Opened, Self::Joined, Self::Hello, Self::Code, Self::Credential, Self::Receipt];
}

/// Where the two phones try first, and what is handed over.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) old: RelayList,
    pub(crate) new: RelayList,
    pub(crate) bytes: usize,
}

/// What became of a handoff.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// How often each app said that the credential is there.
    pub(crate) delivered: usize,
    pub(crate) received: usize,
    pub(crate) is_confirmed: bool,
    pub(crate) is_equal: bool,
    /// How often each app was offline.
    pub(crate) losses: usize,
    /// How often the person had to scan again, because the scanned picture was too old when a node answered.
    pub(crate) scans_again: usize,
    /// From the first QR code to the end.
    pub(crate) took: Duration,
}

impl Told {
    /// Complete, once, and byte for byte.
    fn check(self) -> Result<Self, String> {
        let is_good = (self.delivered, self.received, self.is_confirmed, self.is_equal) == (1, 1, true, true);
        if is_good { Ok(self) } else { Err(format!("{self:?}")) }
    }
}

/// Both apps of one handoff, and the person.
struct Phones {
    old: OldHandle,
    new: NewHandle,
    new_relays: RelayList,
    /// What the old app shows.
    shown: Option<QrPayload>,
    must_scan: bool,
    is_sending: bool,
    told: Told,
}

/// One handoff to its end. `reached` hears of every step, and the person, who scans and types, waits for it.
pub(crate) async fn hand_over(plan: Plan, mut reached: impl AsyncFnMut(Step)) -> Result<Told, String> {
    let mut credential = vec![0; plan.bytes];
    rand::rng().fill_bytes(&mut credential);
    let settings = OldSettings::new(RelayRef::Listed(RELAY), device("old"));
    let old = OldApp::new(plan.old, Connector::plain());
    let mut old = old.start(settings, Credential::new(credential.clone())).unwrap();
    let started = Instant::now();
    let is_shown = |event: &OldEvent| matches!(event, OldEvent::QrShown { .. });
    let Some(OldEvent::QrShown { payload: mut shown, .. }) = old.next_event_where(is_shown).await else {
        return Err(format!("no QR code: {:?}", old.join().await));
    };
    reached(Step::Opened).await;
    let mut told = Told::default();
    // The person scans what is shown now.
    while let Some(Some(event)) = old.next_event().now_or_never() {
        match event {
            OldEvent::QrShown { payload, .. } => shown = payload,
            OldEvent::Link(LinkEvent::Offline { .. }) => told.losses += 1,
            _ => {}
        }
    }
    let new = scan(plan.new.clone(), shown.clone());
    let (new_relays, shown) = (plan.new, Some(shown));
    let mut phones = Phones { old, new, new_relays, shown, must_scan: false, is_sending: false, told };
    phones.follow(&mut reached).await;
    let Phones { old, new, mut told, .. } = phones;
    told.took = started.elapsed();
    match tokio::join!(old.join(), new.join()) {
        (OldOutcome::Delivered, NewOutcome::Received { credential: received, confirmed, .. }) => {
            (told.is_equal, told.is_confirmed) = (*received == credential, confirmed);
            told.check()
        }
        outcome => Err(format!("{outcome:?} after {told:?}")),
    }
}

fn device(model: &str) -> DeviceInfo {
    DeviceInfo::new(model, "1").unwrap()
}

fn scan(relays: RelayList, shown: QrPayload) -> NewHandle {
    let settings = NewSettings::new(device("new"), DeviceKey::generate(&mut rand::rng()));
    NewApp::new(relays, Connector::plain()).start(settings, shown).unwrap()
}

impl Phones {
    /// Everything that happens from the scan on. The code is typed as soon as it is asked for and shown.
    async fn follow(&mut self, reached: &mut impl AsyncFnMut(Step)) {
        let (mut is_asked, mut code) = (false, None);
        let (mut old_is_over, mut new_is_over) = (false, false);
        while !(old_is_over && new_is_over) {
            tokio::select! {
                event = self.old.next_event(), if !old_is_over => match event {
                    Some(event) => {
                        is_asked |= matches!(event, OldEvent::AskCode { .. });
                        self.hear_old(event, reached).await;
                    }
                    None => old_is_over = true,
                },
                event = self.new.next_event(), if !new_is_over => match event {
                    Some(NewEvent::ShowCode(shown)) => code = Some(shown),
                    Some(event) => self.hear_new(event, reached).await,
                    None => new_is_over = true,
                },
            }
            if self.must_scan
                && let Some(shown) = self.shown.clone()
            {
                (self.must_scan, new_is_over) = (false, false);
                self.new = scan(self.new_relays.clone(), shown);
            }
            if is_asked && let Some(code) = code.take() {
                reached(Step::Code).await;
                self.old.enter_code(code).await;
            }
        }
    }

    async fn hear_old(&mut self, event: OldEvent, reached: &mut impl AsyncFnMut(Step)) {
        match event {
            OldEvent::QrShown { payload, .. } => self.shown = Some(payload),
            OldEvent::QrHidden => self.shown = None,
            OldEvent::PeerJoined { .. } => reached(Step::Hello).await,
            OldEvent::Sending { sent, total } if sent < total && !self.is_sending => {
                self.is_sending = true;
                reached(Step::Credential).await;
            }
            OldEvent::Delivered => self.told.delivered += 1,
            OldEvent::Link(LinkEvent::Offline { .. }) => self.told.losses += 1,
            _ => {}
        }
    }

    async fn hear_new(&mut self, event: NewEvent, reached: &mut impl AsyncFnMut(Step)) {
        match event {
            NewEvent::Joined => reached(Step::Joined).await,
            NewEvent::CredentialReceived => {
                self.told.received += 1;
                reached(Step::Receipt).await;
            }
            // The picture has changed meanwhile: the person is told to scan the one that is shown now.
            NewEvent::Ended(EndReason::Closed(CloseReason::StaleFrame)) => {
                self.told.scans_again += 1;
                self.must_scan = true;
            }
            NewEvent::Link(LinkEvent::Offline { .. }) => self.told.losses += 1,
            _ => {}
        }
    }
}

/// How it went for many, in one line.
pub(crate) fn summary(all: &[Told]) -> String {
    let mut times: Vec<Duration> = all.iter().map(|told| told.took).collect();
    times.sort_unstable();
    let at =
        |percent: usize| times.get((times.len() * percent / 100).min(times.len() - 1)).copied().unwrap_or_default();
    let [losses, scans] =
        [|told: &Told| told.losses, |told: &Told| told.scans_again].map(|of| all.iter().map(of).sum::<usize>());
    let (median, late, last) = (at(50).as_secs_f64(), at(95).as_secs_f64(), at(100).as_secs_f64());
    format!(
        "{} complete, {losses} lost connections, {scans} second scans, median {median:.2} s, p95 {late:.2} s, last {last:.2} s",
        all.len()
    )
}

/// All must have completed.
pub(crate) fn all_complete(all: Vec<Result<Told, String>>) -> Vec<Told> {
    let (good, bad): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
    let bad: Vec<String> = bad.into_iter().filter_map(Result::err).collect();
    assert!(bad.is_empty(), "{} of {} failed: {bad:#?}", bad.len(), bad.len() + good.len());
    good.into_iter().filter_map(Result::ok).collect()
}
