//! Two real client machines, the real session core and a lossy link between them, under simulated time: whole
//! transfers without a socket or a second of waiting.

mod half_open;
mod world;

use std::time::Duration;

use handoff_relay::client::{EndReason, NewOutcome, OldOutcome};
use handoff_relay::protocol::close::CloseReason;
use handoff_relay::protocol::limits::{CHECK_CODE_TIMEOUT, MAX_CREDENTIAL_BYTES, MAX_RESUMES};
use handoff_relay::session::Note;

use half_open::HalfOpen;
use world::{Cuts, Person, World};

fn delivered(world: World, credential: &[u8]) -> World {
    let (world, old, new) = world.run();
    assert_eq!(old, OldOutcome::Delivered, "seed {}", world.seed);
    let NewOutcome::Received { credential: received, .. } = new else { panic!("seed {}: {new:?}", world.seed) };
    assert_eq!(received.as_slice(), credential, "seed {}", world.seed);
    assert_eq!(world.received, 1, "seed {}: received once", world.seed);
    world
}

fn resumes(world: &World) -> usize {
    world.notes.iter().filter(|note| matches!(note, Note::Resumed(_))).count()
}

#[test]
fn credentials_of_every_size_arrive() {
    for size in [0, 1, 4084, 4085, MAX_CREDENTIAL_BYTES] {
        let credential = vec![7; size];
        delivered(World::new(1, &credential, Cuts::None, Person::careful()), &credential);
    }
}

#[test]
fn a_connection_may_be_cut_at_any_step_of_the_transfer() {
    let credential = vec![7; 9000];
    let steps = delivered(World::new(2, &credential, Cuts::None, Person::careful()), &credential).steps;
    for step in 0..steps {
        let world = delivered(World::new(2, &credential, Cuts::At(vec![step]), Person::careful()), &credential);
        assert!(resumes(&world) <= 2, "cut at step {step}: one loss is one resume, and one more if that is cut, too");
    }
    println!("{steps} steps, each cut in turn");
}

#[test]
fn thirty_cuts_are_survived_by_the_largest_credential() {
    let credential = vec![7; MAX_CREDENTIAL_BYTES];
    let cuts = (0..28).map(|cut| 20 + cut * 9).collect();
    let world = delivered(World::new(3, &credential, Cuts::At(cuts), Person::careful()), &credential);
    assert!(resumes(&world) >= 20 && resumes(&world) <= usize::try_from(MAX_RESUMES).unwrap());
}

#[test]
fn any_random_losses_are_survived() {
    let first = std::env::var("SIMULATION_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let seeds = first.map_or(1000..2500, |seed| seed..seed + 1);
    let (mut lost, mut resumed, mut simulated) = (0, 0, Duration::ZERO);
    for seed in seeds.clone() {
        let size = usize::try_from(seed * 7919 % 20_000).unwrap();
        let credential: Vec<u8> = (0..size).map(|byte| u8::try_from(byte % 251).unwrap()).collect();
        let world = delivered(World::new(seed, &credential, Cuts::Random(12), Person::careful()), &credential);
        lost += world.cut;
        resumed += resumes(&world);
        simulated += world.elapsed();
    }
    println!("{} transfers, {lost} cuts, {resumed} resumes, {simulated:?} of simulated time", seeds.count());
}

#[test]
fn connections_that_die_without_a_word_are_survived_on_either_side() {
    let first = std::env::var("SIMULATION_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let seeds = first.map_or(20_000..20_400, |seed| seed..seed + 1);
    for most in [1, 2, 4] {
        let (mut dead, mut resumed, mut unconfirmed) = (0, 0, 0);
        for seed in seeds.clone() {
            let credential = vec![7; usize::try_from(seed * 7919 % 20_000).unwrap()];
            let scans_after = Duration::from_millis(seed * 7919 % 30_000);
            let person = Person { scans_after, ..Person::careful() };
            let mut world = World::new(seed, &credential, Cuts::None, person);
            world.half_open = HalfOpen::at_most(most, seed);
            let world = delivered(world, &credential);
            dead += world.half_open.count();
            resumed += resumes(&world);
            unconfirmed += usize::from(
                !world.notes.iter().any(|note| matches!(note, Note::Ended { reason: CloseReason::Completed, .. })),
            );
        }
        let transfers = seeds.clone().count();
        println!(
            "{transfers} transfers, {dead} dead connections, {resumed} resumes, {unconfirmed} not confirmed to new"
        );
    }
}

#[test]
fn the_deadline_ends_both_apps_when_nobody_scans() {
    let (world, old, _) = World::new(4, b"never", Cuts::None, Person { scans: false, ..Person::careful() }).run();
    assert_eq!(old, OldOutcome::Ended(EndReason::Closed(CloseReason::Expired)));
    assert!(world.elapsed() < Duration::from_secs(181));
}

#[test]
fn a_wrong_code_ends_both_and_nothing_is_released() {
    let (world, old, new) =
        World::new(5, b"secret", Cuts::None, Person { types_right: false, ..Person::careful() }).run();
    assert_eq!(old, OldOutcome::Ended(EndReason::Closed(CloseReason::WrongCode)));
    assert_eq!(new, NewOutcome::Ended(EndReason::Closed(CloseReason::WrongCode)));
    assert_eq!(world.received, 0);
}

#[test]
fn a_code_that_nobody_types_ends_both_after_a_minute() {
    let (world, old, new) = World::new(6, b"secret", Cuts::None, Person { types: false, ..Person::careful() }).run();
    assert_eq!(old, OldOutcome::Ended(EndReason::Closed(CloseReason::CodeTimeout)));
    assert_eq!(new, NewOutcome::Ended(EndReason::Closed(CloseReason::CodeTimeout)));
    assert!(world.elapsed() >= CHECK_CODE_TIMEOUT && world.elapsed() < CHECK_CODE_TIMEOUT + Duration::from_secs(20));
}

#[test]
fn a_photographed_frame_is_refused_and_ends_nothing_for_the_old_app() {
    let person =
        Person { scans_after: Duration::from_secs(2), joins_after: Duration::from_secs(15), ..Person::careful() };
    let (world, old, new) = World::new(7, b"secret", Cuts::None, person).run();
    assert_eq!(new, NewOutcome::Ended(EndReason::Closed(CloseReason::StaleFrame)));
    assert!(world.notes.contains(&Note::JoinRefused(CloseReason::StaleFrame)));
    assert_eq!(old, OldOutcome::Ended(EndReason::Closed(CloseReason::Expired)), "it went on to its deadline");
}
