//! Handoffs of both apps' real client library, good and bad, and all that an app which links it could log of them.

use std::io;
use std::num::NonZeroU8;
use std::sync::{Arc, Mutex};

use handoff_relay::client::{
    Connector, EndReason, LinkEvent, NewApp, NewEvent, NewHandle, NewOutcome, NewSettings, OldApp, OldEvent, OldHandle,
    OldOutcome, OldSettings, RelayList, RelayUrl,
};
use handoff_relay::crypto::{CheckCode, Credential, DeviceInfo, DeviceKey};
use handoff_relay::protocol::close::CloseReason::{self, CancelledByNew, CancelledByOld, ScannedTwice, WrongCode};
use handoff_relay::protocol::qr::{QrPayload, RelayRef};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::search::Secrets;
use super::watched::Watched;
use crate::support::fault_proxy::FaultProxy;

/// What this thread logs, at the most talkative level there is.
#[derive(Clone, Debug, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(super) fn begin() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
        let guard = subscriber.with_writer(move || writer.clone()).finish().set_default();
        (log, guard)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Longer than one frame, and without a piece that is like another.
pub(super) fn credential() -> Vec<u8> {
    (0..500).flat_map(|number| format!("CREDENTIAL-{number}-of-Erika-Mustermann;").into_bytes()).collect()
}

/// What of a QR code is secret, and does not go over the wire.
pub(super) fn tell_qr(payload: &QrPayload, secrets: &mut Secrets) {
    secrets.add("QR text", payload.to_text());
    secrets.add("QR payload without its head", &payload.encode()[4..]);
    secrets.add("frame secret", payload.frame_secret.expose());
    secrets.add("key hash", payload.key_hash);
}

/// Two phones on one relay.
struct Phones<'a> {
    relays: RelayList,
    secrets: &'a mut Secrets,
}

impl<'a> Phones<'a> {
    fn at(url: &str, secrets: &'a mut Secrets) -> Self {
        secrets.add("credential", credential());
        Self { relays: RelayList::new().with(NonZeroU8::MIN, RelayUrl::parse(url).unwrap()), secrets }
    }

    async fn show(&mut self) -> (OldHandle, QrPayload) {
        let settings = OldSettings::new(RelayRef::Listed(NonZeroU8::MIN), DeviceInfo::new("Old-Phone", "1.0").unwrap());
        let app = OldApp::new(self.relays.clone(), Connector::plain());
        let mut old = app.start(settings, Credential::new(credential())).unwrap();
        let shown = old.next_event_where(|event| matches!(event, OldEvent::QrShown { .. })).await;
        let Some(OldEvent::QrShown { payload, .. }) = shown else { panic!("{shown:?}") };
        tell_qr(&payload, self.secrets);
        (old, payload)
    }

    fn scan(&mut self, payload: QrPayload) -> NewHandle {
        let key = DeviceKey::generate(&mut rand::rng());
        self.secrets.add("device key", &key.public()[1..]);
        self.secrets.add("name of a device", "Old-Phone");
        self.secrets.add("name of a device", "New-Phone");
        let settings = NewSettings::new(DeviceInfo::new("New-Phone", "1.0").unwrap(), key);
        NewApp::new(self.relays.clone(), Connector::plain()).start(settings, payload).unwrap()
    }

    /// As far as the code is shown and asked for.
    async fn until_code(&mut self) -> (OldHandle, NewHandle, CheckCode) {
        let (mut old, payload) = self.show().await;
        let mut new = self.scan(payload);
        let shown = new.next_event_where(|event| matches!(event, NewEvent::ShowCode(_))).await;
        let Some(NewEvent::ShowCode(code)) = shown else { panic!("{shown:?}") };
        self.secrets.add_code(&code.to_string());
        old.next_event_where(|event| matches!(event, OldEvent::AskCode { .. })).await.unwrap();
        (old, new, code)
    }

    /// Complete, with two lost connections.
    async fn hand_over(&mut self, network: &FaultProxy) {
        let (mut old, mut new, code) = self.until_code().await;
        network.cut_all();
        old.next_event_where(|event| matches!(event, OldEvent::Link(LinkEvent::Online))).await.unwrap();
        new.next_event_where(|event| matches!(event, NewEvent::Link(LinkEvent::Online))).await.unwrap();
        old.enter_code(code).await;
        let (old, new) = tokio::join!(old.join(), new.join());
        assert_eq!(old, OldOutcome::Delivered);
        let NewOutcome::Received { credential: received, confirmed: true, .. } = new else { panic!("{new:?}") };
        assert_eq!(*received, credential());
    }

    async fn mistype(&mut self) {
        let (old, new, code) = self.until_code().await;
        let other = if code.to_string() == "1000" { "1001" } else { "1000" };
        old.enter_code(other.parse().unwrap()).await;
        expect_end(old, new, [closed(WrongCode); 2]).await;
    }

    async fn scan_twice(&mut self) {
        let (mut old, payload) = self.show().await;
        let mut new = self.scan(payload.clone());
        new.next_event_where(|event| *event == NewEvent::Joined).await.unwrap();
        old.next_event_where(|event| matches!(event, OldEvent::PeerJoined { .. })).await.unwrap();
        let another = self.scan(payload);
        expect_end(old, another, [closed(ScannedTwice); 2]).await;
        assert_eq!(new.join().await, NewOutcome::Ended(closed(ScannedTwice)));
    }

    async fn cancel(&mut self) {
        let (old, new, _) = self.until_code().await;
        old.cancel();
        expect_end(old, new, [EndReason::Cancelled, closed(CancelledByOld)]).await;
        let (old, new, _) = self.until_code().await;
        new.cancel();
        expect_end(old, new, [closed(CancelledByNew), EndReason::Cancelled]).await;
    }
}

fn closed(reason: CloseReason) -> EndReason {
    EndReason::Closed(reason)
}

async fn expect_end(old: OldHandle, new: NewHandle, [of_old, of_new]: [EndReason; 2]) {
    let outcomes = tokio::join!(old.join(), new.join());
    assert_eq!(outcomes, (OldOutcome::Ended(of_old), NewOutcome::Ended(of_new)));
}

/// Everything that two people can make of a handoff.
pub(super) async fn all(relay: &Watched, secrets: &mut Secrets) {
    let network = FaultProxy::start(relay.address(), 0).await;
    let mut phones = Phones::at(&format!("ws://{}", network.address()), secrets);
    phones.hand_over(&network).await;
    phones.mistype().await;
    phones.scan_twice().await;
    phones.cancel().await;
}
