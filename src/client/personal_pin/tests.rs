use std::collections::BTreeMap;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use crate::opaque::server::{Setup, check_upload, finish_login};

const APP: AppName = [7; 16];

fn weakness(pin: &str) -> Option<WeakPin> {
    PersonalPin::choose(pin, pin, &[]).err()
}

fn label(weak: Option<WeakPin>) -> &'static str {
    match weak {
        None => "good",
        Some(WeakPin::NotSixDigits) => "not_six_digits",
        Some(WeakPin::Repeated) => "repeated",
        Some(WeakPin::Sequence) => "sequence",
        Some(WeakPin::Date) => "date",
        Some(WeakPin::Common) => "common",
        Some(WeakPin::Known) => "known",
        Some(WeakPin::NotRepeated) => "not_repeated",
    }
}

#[test]
fn the_frozen_examples_are_refused_for_their_reasons() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/weak-pins.json");
    let frozen: BTreeMap<String, Vec<String>> =
        serde_json::from_value(read(file)["examples"].take()).expect("reasons with lists of PINs");
    assert!(frozen.len() >= 6);
    for (reason, pins) in frozen {
        for pin in pins {
            assert_eq!(label(weakness(&pin)), reason, "{pin}");
        }
    }
}

fn read(file: &str) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn of_a_million_pins_the_frozen_numbers_are_refused() {
    let mut counts = BTreeMap::<String, u32>::new();
    for number in 0..1_000_000 {
        *counts.entry(label(weakness(&format!("{number:06}"))).to_owned()).or_default() += 1;
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/weak-pins.json");
    let frozen: BTreeMap<String, u32> = serde_json::from_value(read(file)["counts"].take()).unwrap();
    assert_eq!(counts, frozen);
}

#[test]
fn every_pin_of_the_published_list_is_refused() {
    for pin in common::COMMON {
        assert!(weakness(pin).is_some(), "{pin}");
    }
    let mut sorted = common::COMMON.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), common::COMMON.len());
}

#[test]
fn the_repeat_must_be_the_same() {
    assert_eq!(PersonalPin::choose("493827", "493828", &[]).unwrap_err(), WeakPin::NotRepeated);
    assert_eq!(PersonalPin::choose("493827", "", &[]).unwrap_err(), WeakPin::NotRepeated);
    assert!(PersonalPin::choose("493827", " 493827 ", &[]).is_ok());
}

#[test]
fn a_pin_is_no_part_of_what_others_know() {
    let known = |pin| PersonalPin::choose(pin, pin, &["maria-49-3827", "+45 87 65 40 93"]).err();
    assert_eq!(known("493827"), Some(WeakPin::Known));
    assert_eq!(known("728394"), Some(WeakPin::Known), "backwards");
    assert_eq!(known("765409"), Some(WeakPin::Known));
    assert_eq!(known("493829"), None);
}

#[test]
fn only_six_ascii_digits_are_a_pin() {
    for bad in ["", "12345", "1234567", "12345a", "４９３８２７", "49 3827", "-49382"] {
        assert_eq!(PersonalPin::typed(bad).unwrap_err(), WeakPin::NotSixDigits, "{bad}");
    }
    assert!(PersonalPin::typed("000000").is_ok(), "a PIN that was chosen elsewhere can be typed");
}

#[test]
fn a_pin_registers_and_opens_and_a_wrong_one_sends_nothing() {
    let mut rng = StdRng::seed_from_u64(1);
    let setup = Setup::random(&mut rng);
    let pin = PersonalPin::choose("493827", "493827", &[]).unwrap();
    let (registration, request) = PinRegistration::start(&pin, APP, &mut rng).unwrap();
    let response = setup.respond(&APP, request.as_slice().try_into().unwrap()).unwrap();
    let upload = registration.finish(&[&[9; SETUP_NAME][..], &response].concat(), &mut rng).unwrap();
    let (name, record) = upload.split_at(SETUP_NAME);
    assert_eq!(name, [9; SETUP_NAME], "the setup's name comes back");
    let record = record.try_into().unwrap();
    check_upload(&record).unwrap();

    let (login, ke1) = PinLogin::start(&pin, APP, &mut rng).unwrap();
    let (ke2, state) = setup.begin_login(&APP, Some(&record), ke1.as_slice().try_into().unwrap(), &mut rng).unwrap();
    let (ke3, key) = login.finish(&ke2, &mut rng).unwrap();
    assert_eq!(finish_login(&APP, &state, ke3.as_slice().try_into().unwrap()).unwrap(), key);

    let wrong = PersonalPin::typed("493828").unwrap();
    let (login, ke1) = PinLogin::start(&wrong, APP, &mut rng).unwrap();
    let (ke2, _) = setup.begin_login(&APP, Some(&record), ke1.as_slice().try_into().unwrap(), &mut rng).unwrap();
    assert_eq!(login.finish(&ke2, &mut rng).unwrap_err(), PinExchangeError::WrongPin);
}

#[test]
fn answers_that_are_none_are_refused() {
    let mut rng = StdRng::seed_from_u64(1);
    let pin = PersonalPin::typed("493827").unwrap();
    for bytes in [&[][..], &[9; 7], &[9; 74], &[9; 258], &[9; 300]] {
        let (registration, _) = PinRegistration::start(&pin, APP, &mut rng).unwrap();
        assert_eq!(registration.finish(bytes, &mut rng).unwrap_err(), PinExchangeError::Malformed);
        let (login, _) = PinLogin::start(&pin, APP, &mut rng).unwrap();
        assert_eq!(login.finish(bytes, &mut rng).unwrap_err(), PinExchangeError::Malformed);
    }
}

#[test]
fn the_pin_does_not_show_in_debug_output() {
    let pin = PersonalPin::typed("493827").unwrap();
    let (login, _) = PinLogin::start(&pin, APP, &mut StdRng::seed_from_u64(1)).unwrap();
    let shown = format!("{pin:?} {login:?}");
    assert!(shown.contains("PersonalPin([redacted])") && !shown.contains("493827"), "{shown}");
}
