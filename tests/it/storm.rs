//! A thousand handoffs in a bad network: both apps' client library against one relay process, with every handoff's
//! connections cut at random moments. The random numbers come from one seed, which is printed.

use std::sync::Arc;
use std::time::Instant;

use handoff_relay::client::{
    Connector, NewApp, NewEvent, NewHandle, NewOutcome, NewSettings, OldApp, OldEvent, OldHandle, OldOutcome,
    OldSettings, RelayList, RelayUrl,
};
use handoff_relay::crypto::{Credential, DeviceInfo, DeviceKey};
use handoff_relay::protocol::qr::{QrPayload, RelayRef};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::fault_proxy::{FaultProxy, Faults};
use crate::support::relay::{NO_LIMITS, Relay};

const HANDOFFS: u64 = 1000;
const AT_ONCE: usize = 50;
const MOST_CUTS: u64 = 4;

/// Fewer bytes than the old app sends before the credential: handshake, `open`, reply.
const BYTES_BEFORE: u64 = 1500;

/// Fewer bytes than a handshake has.
const HANDSHAKE_BYTES: u64 = 250;

/// Every so many handoffs the credential is as large as one may be.
const LARGE_EVERY: u64 = 40;

/// What one handoff came to.
#[derive(Debug)]
struct Told {
    cuts: u64,
    /// How often each app said that the credential is there.
    delivered: usize,
    received: usize,
    is_confirmed: bool,
    is_equal: bool,
}

/// Set this to repeat a run.
const SEED_VARIABLE: &str = "STORM_SEED";

fn seed() -> u64 {
    match std::env::var(SEED_VARIABLE) {
        Ok(text) => text.parse().unwrap(),
        Err(_) => rand::rng().next_u64(),
    }
}

#[tokio::test]
async fn a_thousand_handoffs_with_cut_connections_all_complete_once() {
    let seed = seed();
    println!("{SEED_VARIABLE}={seed}");
    let started = Instant::now();
    let relay = Relay::start(&NO_LIMITS);
    let address = relay.address();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut handoffs = JoinSet::new();
    for number in 0..HANDOFFS {
        let places = Arc::clone(&places);
        handoffs.spawn(async move {
            let _place = places.acquire().await.unwrap();
            let rng = StdRng::seed_from_u64(seed.wrapping_add(number));
            let large = number % LARGE_EVERY == 0;
            (number, hand_over(address, rng, large).await)
        });
    }
    let (mut cuts, mut failed) = (0, Vec::new());
    while let Some(ended) = handoffs.join_next().await {
        let (number, told) = ended.unwrap();
        match told {
            Ok(told) if (told.delivered, told.received, told.is_confirmed, told.is_equal) == (1, 1, true, true) => {
                assert!((1..=MOST_CUTS).contains(&told.cuts), "{number}: {told:?}");
                cuts += told.cuts;
            }
            other => failed.push((number, other)),
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    relay.until_metric("handoff_sessions", 0.0).await;
    relay.until_metric("handoff_connections", 0.0).await;
    let metrics = relay.metrics().await;
    let completed = metrics.value("handoff_sessions_ended_total{reason=\"completed\"}");
    let resumes = metrics.sum("handoff_resumes_total");
    println!("{completed} handoffs completed, {cuts} cuts, {resumes} resumes, {seconds:.1} s");
    assert!(failed.is_empty(), "{SEED_VARIABLE}={seed}: {failed:#?}");
    // Each session was opened once, and none ended in another way.
    for total in [completed, metrics.sum("handoff_sessions_opened_total"), metrics.sum("handoff_sessions_ended_total")]
    {
        assert!((total - 1000.0).abs() < 0.5, "{total}");
    }
}

/// Where the connections of one handoff are cut: some in the handshake, some in the first messages, some in the
/// transfer, some anywhere. What the old app sends reaches every one of these numbers, so that one cut is certain.
fn faults(rng: &mut StdRng, credential_bytes: usize) -> Faults {
    let end = BYTES_BEFORE + u64::try_from(credential_bytes).unwrap();
    let ranges = [0..HANDSHAKE_BYTES, 0..BYTES_BEFORE, BYTES_BEFORE..end.max(BYTES_BEFORE + 1), 0..end];
    let range = ranges[rng.random_range(0..ranges.len())].clone();
    let most_cuts = Some(rng.random_range(1..=MOST_CUTS));
    Faults { cut_up_after: Some(range.clone()), cut_down_after: Some(range), most_cuts, ..Faults::default() }
}

/// One handoff through a network of its own.
async fn hand_over(relay: std::net::SocketAddr, mut rng: StdRng, large: bool) -> Result<Told, String> {
    let bytes = if large { 256 * 1024 } else { rng.random_range(0..=20 * 1024) };
    let mut credential = vec![0; bytes];
    rng.fill_bytes(&mut credential);
    let proxy = FaultProxy::start(relay, rng.next_u64()).await;
    proxy.set(faults(&mut rng, bytes));
    let url = RelayUrl::parse(&format!("ws://{}", proxy.address())).unwrap();
    let relays = RelayList::new().with(std::num::NonZeroU8::MIN, url);
    let device = |model| DeviceInfo::new(model, "1").unwrap();
    let settings = OldSettings::new(RelayRef::Listed(std::num::NonZeroU8::MIN), device("old"));
    let old = OldApp::new(relays.clone(), Connector::plain());
    let mut old = old.start(settings, Credential::new(credential.clone())).unwrap();
    let Some(OldEvent::QrShown { payload, .. }) = old.next_event_where(|e| matches!(e, OldEvent::QrShown { .. })).await
    else {
        return Err(format!("no QR code: {:?}", old.join().await));
    };
    let scanned = QrPayload::from_text(&payload.to_text()).unwrap();
    let settings = NewSettings::new(device("new"), DeviceKey::generate(&mut rand::rng()));
    let new = NewApp::new(relays, Connector::plain()).start(settings, scanned).unwrap();
    let (delivered, received, old, new) = meet(old, new).await?;
    let (is_equal, is_confirmed) = match (old, new) {
        (OldOutcome::Delivered, NewOutcome::Received { credential: received, confirmed, .. }) => {
            (*received == credential, confirmed)
        }
        outcome => return Err(format!("{outcome:?} after {} cuts", proxy.cuts())),
    };
    Ok(Told { cuts: proxy.cuts(), delivered, received, is_confirmed, is_equal })
}

/// The person reads the code and types it; then everything is counted to the end.
async fn meet(mut old: OldHandle, mut new: NewHandle) -> Result<(usize, usize, OldOutcome, NewOutcome), String> {
    let (asked, shown) = tokio::join!(
        old.next_event_where(|event| matches!(event, OldEvent::AskCode { .. })),
        new.next_event_where(|event| matches!(event, NewEvent::ShowCode(_))),
    );
    let (Some(_), Some(NewEvent::ShowCode(code))) = (asked, shown) else {
        return Err(format!("no check code: {:?}", tokio::join!(old.join(), new.join())));
    };
    old.enter_code(code).await;
    let count_old = async {
        let mut count = 0;
        while let Some(event) = old.next_event().await {
            count += usize::from(event == OldEvent::Delivered);
        }
        (count, old.join().await)
    };
    let count_new = async {
        let mut count = 0;
        while let Some(event) = new.next_event().await {
            count += usize::from(event == NewEvent::CredentialReceived);
        }
        (count, new.join().await)
    };
    let ((delivered, old), (received, new)) = tokio::join!(count_old, count_new);
    Ok((delivered, received, old, new))
}
