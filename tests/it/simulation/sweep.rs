//! Tens of thousands of transfers on random bad networks. Each completes exactly once with equal bytes, or ends with a
//! reason that its network explains.

use std::collections::BTreeMap;
use std::time::Duration;

use handoff_relay::client::{EndReason, NewEvent, NewOutcome, OldEvent, OldOutcome};
use handoff_relay::protocol::close::CloseReason;
use handoff_relay::protocol::limits;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::world::{Network, World};

/// As many as two busy cores manage in about 20 s without optimisation; the cost is the cryptography.
const TRANSFERS: u64 = 3_000;

const SEED: &str = "HANDOFF_SIM_SEED";
const COUNT: &str = "HANDOFF_SIM_TRANSFERS";

#[derive(Debug, Default)]
struct Totals {
    transfers: u64,
    time: Duration,
    resumes: u64,
    broken: u64,
    ends: BTreeMap<String, u64>,
}

fn random_world(seed: u64) -> World {
    let mut rng = StdRng::seed_from_u64(seed);
    let network = Network {
        latency: Duration::from_millis(rng.random_range(1..400)),
        jitter: Duration::from_millis(rng.random_range(0..200)),
        breaks_after: (rng.random_range(0..10) > 0).then(|| Duration::from_millis(rng.random_range(300..20_000))),
        half_open: rng.random_range(0..30),
        refused: rng.random_range(0..50),
        slow: rng.random_range(0..30),
        relay_notices_within: Duration::from_millis(rng.random_range(50..4000)),
        cuts_left: 0,
        deaths_left: 0,
    };
    // Mostly what credentials are, and now and then the largest.
    let length = match rng.random_range(0..100) {
        0 => limits::MAX_CREDENTIAL_BYTES,
        1..10 => rng.random_range(0..100_000),
        _ => rng.random_range(0..10_000),
    };
    let mut world = World::new(seed, length, network);
    world.person.scans_after = Some(Duration::from_millis(rng.random_range(0..8000)));
    world.person.types_after = Some(Duration::from_millis(rng.random_range(500..20_000)));
    if rng.random_range(0..5) == 0 {
        world.shut_down_at.push(world.now + Duration::from_millis(rng.random_range(0..30_000)));
    }
    world
}

fn run(seed: u64, totals: &mut Totals) {
    let mut world = random_world(seed);
    world.run();
    totals.transfers += 1;
    totals.time += world.elapsed();
    totals.resumes += u64::from(world.relay.resumes);
    totals.broken += u64::from(world.broken);
    let (old, new) = world.outcomes();
    let new = new.into_iter().next();
    if let Some(NewOutcome::Received { credential, .. }) = &new {
        assert!(world.is_intact(credential), "the credential is not what was sent");
    }
    let name = match (&old, &new) {
        (OldOutcome::Delivered, Some(NewOutcome::Received { confirmed: true, .. })) => "completed".to_owned(),
        // The last word of old was lost for longer than it could be repeated.
        (OldOutcome::Delivered, Some(NewOutcome::Received { confirmed: false, .. })) if world.broken > 0 => {
            "completed, not confirmed".to_owned()
        }
        // The receipt was on its way when the session ended.
        (OldOutcome::Ended(reason), Some(NewOutcome::Received { confirmed: false, .. })) => {
            explain(*reason, &world);
            format!("received, old ended: {reason}")
        }
        (OldOutcome::Ended(reason), Some(NewOutcome::Ended(of_new))) => {
            explain(*reason, &world);
            explain(*of_new, &world);
            format!("ended: {reason} / {of_new}")
        }
        (OldOutcome::Ended(reason), None) => {
            explain(*reason, &world);
            format!("never scanned: {reason}")
        }
        unequal => panic!("the two disagree: {unequal:?}"),
    };
    check_events(&world);
    *totals.ends.entry(name).or_default() += 1;
}

/// Only what this network can have caused.
fn explain(reason: EndReason, world: &World) {
    let elapsed = world.elapsed();
    let explained = match reason {
        EndReason::Closed(CloseReason::Expired) => elapsed >= limits::SESSION_LIFETIME,
        EndReason::Closed(CloseReason::TooManyResumes) => world.relay.resumes >= limits::MAX_RESUMES,
        // It took longer than a frame's life until the relay heard of the scan.
        EndReason::Closed(CloseReason::StaleFrame) => {
            world.broken > 0 || world.network.refused + world.network.slow > 0
        }
        EndReason::Closed(CloseReason::CodeTimeout) => elapsed >= limits::CHECK_CODE_TIMEOUT,
        EndReason::Closed(CloseReason::UnknownSession) => elapsed >= limits::SESSION_LIFETIME + limits::TOMBSTONE_GRACE,
        EndReason::Unreachable(_) => elapsed >= Duration::from_secs(59),
        _ => false,
    };
    assert!(explained, "{reason:?} after {elapsed:?}, {} broken, {} resumes", world.broken, world.relay.resumes);
}

fn check_events(world: &World) {
    let old = |wanted: fn(&OldEvent) -> bool| world.old_events.iter().filter(|event| wanted(event)).count();
    let new = |wanted: fn(&NewEvent) -> bool| world.new_events.iter().filter(|event| wanted(event)).count();
    assert!(old(|event| matches!(event, OldEvent::AskCode { .. })) <= 1);
    assert!(old(|event| matches!(event, OldEvent::PeerJoined { .. })) <= 1);
    assert!(old(|event| matches!(event, OldEvent::Delivered | OldEvent::Ended(_))) == 1);
    assert!(new(|event| matches!(event, NewEvent::ShowCode(_))) <= 1);
    assert!(new(|event| matches!(event, NewEvent::CredentialReceived)) <= 1);
    assert!(new(|event| matches!(event, NewEvent::Confirmed | NewEvent::Unconfirmed(_) | NewEvent::Ended(_))) <= 1);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// A network that only cuts, and not too often, never keeps a credential back.
#[test]
fn any_dozen_of_cuts_is_survived() {
    let seeds = number(SEED).map_or(100_000..101_500, |seed| seed..seed + 1);
    let (mut broken, mut resumes) = (0, 0);
    for seed in seeds.clone() {
        let length = usize::try_from(seed * 7919 % 20_000).unwrap();
        let network = Network { cuts_left: 12, relay_notices_within: Duration::from_secs(4), ..Network::GOOD };
        let mut world = World::new(seed, length, network);
        world.person.rescans = true;
        world.run();
        (broken, resumes) = (broken + world.broken, resumes + world.relay.resumes);
        let (old, new) = world.outcomes();
        assert_eq!(old, OldOutcome::Delivered, "replay it with {SEED}={seed}");
        let [NewOutcome::Received { credential, .. }] = &new[..] else { panic!("{new:?}: {SEED}={seed}") };
        assert!(world.is_intact(credential), "replay it with {SEED}={seed}");
    }
    println!("{} transfers, {broken} cuts, {resumes} resumes: all delivered", seeds.count());
}

/// A connection that dies without a word, in either direction or both, is noticed and replaced in time.
#[test]
fn connections_that_die_without_a_word_are_survived_on_either_side() {
    let seeds = number(SEED).map_or(20_000..20_400, |seed| seed..seed + 1);
    for deaths_left in [1, 2, 4] {
        let (mut dead, mut resumes, mut unconfirmed) = (0, 0, 0);
        for seed in seeds.clone() {
            let length = usize::try_from(seed * 7919 % 20_000).unwrap();
            let mut world = World::new(seed, length, Network { deaths_left, ..Network::GOOD });
            world.person.scans_after = Some(Duration::from_millis(seed * 7919 % 30_000));
            world.person.rescans = true;
            world.run();
            (dead, resumes) = (dead + world.silenced, resumes + world.relay.resumes);
            let (old, new) = world.outcomes();
            assert_eq!(old, OldOutcome::Delivered, "replay it with {SEED}={seed}");
            let [NewOutcome::Received { credential, confirmed, .. }] = &new[..] else {
                panic!("{new:?}: {SEED}={seed}")
            };
            assert!(world.is_intact(credential), "replay it with {SEED}={seed}");
            unconfirmed += u32::from(!confirmed);
        }
        let transfers = seeds.clone().count();
        println!(
            "{transfers} transfers, {dead} dead connections, {resumes} resumes, {unconfirmed} not confirmed to new"
        );
    }
}

#[test]
fn every_lossy_transfer_completes_once_or_ends_for_a_named_reason() {
    if let Some(seed) = number(SEED) {
        let mut totals = Totals::default();
        run(seed, &mut totals);
        return println!("{totals:#?}");
    }
    let count = number(COUNT).unwrap_or(TRANSFERS);
    let share = |first: u64| {
        let mut totals = Totals::default();
        for seed in (first..count).step_by(2) {
            let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, &mut totals)));
            assert!(ran.is_ok(), "replay it with {SEED}={seed}");
        }
        totals
    };
    let mut all = share_out(share);
    let completed = all.ends.remove("completed").unwrap_or(0);
    println!(
        "{} transfers, {} h of simulated time, {} connections broken, {} resumes; {completed} completed, others: {:#?}",
        all.transfers,
        all.time.as_secs() / 3600,
        all.broken,
        all.resumes,
        all.ends
    );
    assert!(completed * 2 > all.transfers, "most transfers get through");
}

fn share_out(share: impl Fn(u64) -> Totals + Sync) -> Totals {
    let [mut all, other] = std::thread::scope(|scope| {
        let other = scope.spawn(|| share(1));
        [share(0), other.join().expect("a transfer broke a rule")]
    });
    all.transfers += other.transfers;
    all.time += other.time;
    all.broken += other.broken;
    all.resumes += other.resumes;
    other.ends.into_iter().for_each(|(name, count)| *all.ends.entry(name).or_default() += count);
    all
}
