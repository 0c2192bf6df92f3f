use std::time::Duration;

use proptest::prelude::*;

use super::*;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;
const LIFETIME: Duration = Duration::from_mins(30);
const COPY: Way = Way::OtherPhone { granted_by: None };

fn key() -> HashKey {
    HashKey::new([3; 32])
}

fn binding(way: Way) -> Binding<'static> {
    Binding { user: b"user", activation: b"activation", purpose: way.purpose() }
}

/// A step as a test names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    UserId(bool),
    Send,
    Pin(&'static str),
    Record(&'static [u8]),
    Biometrics(bool),
    Token(Option<&'static str>),
    Cancel,
    GrantorGone,
}

/// Every kind of step, right and wrong.
const ACTS: [Act; 14] = [
    Act::UserId(true),
    Act::UserId(false),
    Act::Send,
    Act::Pin("12345678"),
    Act::Pin("87654321"),
    Act::Record(b"record"),
    Act::Record(b"other"),
    Act::Biometrics(true),
    Act::Biometrics(false),
    Act::Token(Some("token")),
    Act::Token(Some("other")),
    Act::Token(None),
    Act::Cancel,
    Act::GrantorGone,
];

fn act(flow: &mut Flow, act: Act, now: SystemTime) -> Result<Done, Refused> {
    let key = key();
    let binding = binding(flow.way());
    match act {
        Act::UserId(matches) => flow.handle(Step::UserId { matches }, now),
        Act::Send => {
            let pin = SentPin::new(&"12345678".parse().unwrap(), binding, &key, now);
            flow.handle(Step::SendPin(&pin), now)
        }
        Act::Pin(typed) => {
            let typed: TemporaryPin = typed.parse().unwrap();
            flow.handle(Step::TemporaryPin { typed: &typed, binding, key: &key }, now)
        }
        Act::Record(record) => flow.handle(Step::PersonalPin(record), now),
        Act::Biometrics(wanted) => flow.handle(Step::Biometrics(wanted), now),
        Act::Token(token) => flow.handle(Step::Notifications(token), now),
        Act::Cancel => flow.handle(Step::Cancel, now),
        Act::GrantorGone => flow.handle(Step::GrantorGone, now),
    }
}

/// The steps of a copy that goes well.
const GOOD: [Act; 6] = [
    Act::UserId(true),
    Act::Send,
    Act::Pin("12345678"),
    Act::Record(b"record"),
    Act::Biometrics(true),
    Act::Token(Some("token")),
];

/// A copy in which so many good steps were taken.
fn copy_after(steps: usize) -> Flow {
    let mut flow = Flow::new(COPY, NOW, Duration::ZERO, LIFETIME);
    for step in &GOOD[..steps] {
        act(&mut flow, *step, NOW).unwrap();
    }
    flow
}

#[test]
fn a_copy_asks_for_user_id_temporary_pin_personal_pin_biometrics_and_notifications() {
    let mut flow = copy_after(0);
    let due =
        [Due::UserId, Due::TemporaryPin, Due::TemporaryPin, Due::PersonalPin, Due::Biometrics, Due::Notifications];
    for (step, due) in GOOD.into_iter().zip(due) {
        assert_eq!(flow.due(NOW), due);
        assert_eq!(flow.choices(), None);
        let done = act(&mut flow, step, NOW).unwrap();
        assert_eq!(done, if due == Due::Notifications { Done::Activated } else { Done::Changed });
    }
    assert_eq!(flow.due(NOW), Due::Active);
    let chosen = Choices { record: b"record", biometrics: true, notifications: Some("token") };
    assert_eq!(flow.choices(), Some(chosen));
}

#[test]
fn on_this_phone_no_user_id_is_asked_for_and_there_is_no_waiting() {
    let mut flow = Flow::new(Way::ThisPhone, NOW, Duration::from_hours(1), LIFETIME);
    assert_eq!(flow.due(NOW), Due::TemporaryPin);
    assert_eq!(act(&mut flow, Act::UserId(true), NOW), Err(Refused::NotDue(Due::TemporaryPin)));
    for step in &GOOD[1..] {
        act(&mut flow, *step, NOW).unwrap();
    }
    assert_eq!(flow.due(NOW), Due::Active);
}

/// What a step that is not the next good one comes to, by what was done before. Written from the specification, not
/// from the code.
fn expected(done: usize, step: Act, flow: &Flow) -> Result<Done, Refused> {
    let due = flow.due(NOW);
    let place = GOOD.iter().position(|good| std::mem::discriminant(good) == std::mem::discriminant(&step));
    let is_past = place.is_some_and(|place| place < done);
    match step {
        Act::Cancel | Act::GrantorGone if due == Due::Active => Err(Refused::NotDue(due)),
        Act::Cancel | Act::GrantorGone => Ok(Done::Changed),
        Act::Send if due == Due::TemporaryPin => Ok(Done::Changed),
        Act::UserId(false) if due == Due::UserId => Err(Refused::WrongUserId { left: 4 }),
        Act::Pin(_) if done == 1 => Err(Refused::NoPin),
        Act::Pin("87654321") if done == 2 => Err(Refused::WrongPin { left: 4 }),
        Act::Send => Err(Refused::NotDue(due)),
        _ if is_past && GOOD.contains(&step) => Ok(Done::Repeated),
        _ if is_past => Err(Refused::DoneOtherwise(due)),
        _ if place == Some(done) => Ok(if done == 5 { Done::Activated } else { Done::Changed }),
        Act::UserId(_) | Act::Pin(_) | Act::Record(_) | Act::Biometrics(_) | Act::Token(_) => Err(Refused::NotDue(due)),
    }
}

#[test]
fn every_state_meets_every_step() {
    for done in 0..=GOOD.len() {
        for step in ACTS {
            let mut flow = copy_after(done);
            let expected = expected(done, step, &flow);
            assert_eq!(act(&mut flow, step, NOW), expected, "{step:?} after {done} steps");
        }
    }
    for end in [Act::Cancel, Act::GrantorGone] {
        for done in 0..GOOD.len() {
            let mut ended = copy_after(done);
            act(&mut ended, end, NOW).unwrap();
            for step in ACTS {
                let mut flow = ended.clone();
                let reason = if end == Act::Cancel { End::Cancelled } else { End::GrantorGone };
                let is_repeat = step == Act::Cancel && end == Act::Cancel;
                let expected = if is_repeat { Ok(Done::Repeated) } else { Err(Refused::Ended(reason)) };
                assert_eq!(act(&mut flow, step, NOW), expected, "{step:?} after {end:?}");
                assert_eq!(flow, ended);
            }
        }
    }
}

#[test]
fn a_repeated_step_changes_nothing() {
    for done in 0..=GOOD.len() {
        for step in ACTS {
            let mut flow = copy_after(done);
            let before = flow.clone();
            if act(&mut flow, step, NOW) == Ok(Done::Repeated) {
                assert_eq!(flow, before, "{step:?} after {done} steps");
            }
        }
    }
}

#[test]
fn the_fifth_wrong_user_id_ends_the_activation() {
    let mut flow = copy_after(0);
    for left in (0..5).rev() {
        assert_eq!(act(&mut flow, Act::UserId(false), NOW), Err(Refused::WrongUserId { left }));
    }
    assert_eq!(act(&mut flow, Act::UserId(true), NOW), Err(Refused::Ended(End::UserIdWrong)));
}

#[test]
fn after_five_wrong_pins_only_a_new_one_helps() {
    let mut flow = copy_after(2);
    for left in (0..5).rev() {
        assert_eq!(act(&mut flow, Act::Pin("87654321"), NOW), Err(Refused::WrongPin { left }));
    }
    assert_eq!(act(&mut flow, Act::Pin("12345678"), NOW), Err(Refused::PinUsedUp));
    act(&mut flow, Act::Send, NOW).unwrap();
    assert_eq!(act(&mut flow, Act::Pin("12345678"), NOW), Ok(Done::Changed));
}

#[test]
fn an_activation_that_asks_for_too_many_pins_is_over() {
    let mut flow = copy_after(1);
    for _ in 0..MOST_PINS {
        act(&mut flow, Act::Send, NOW).unwrap();
    }
    assert_eq!(act(&mut flow, Act::Send, NOW), Err(Refused::Ended(End::PinsUsedUp)));
    assert_eq!(act(&mut flow, Act::Pin("12345678"), NOW), Err(Refused::Ended(End::PinsUsedUp)));
}

#[test]
fn a_pin_is_dead_after_five_minutes_and_the_step_stays_due() {
    let mut flow = copy_after(2);
    let late = NOW + Duration::from_mins(5);
    assert!(flow.has_pin(late - Duration::from_millis(1)));
    assert!(!flow.has_pin(late));
    assert_eq!(act(&mut flow, Act::Pin("12345678"), late), Err(Refused::PinExpired));
    assert_eq!(flow.due(late), Due::TemporaryPin);
}

#[test]
fn the_pin_that_was_right_is_right_again_however_old() {
    let mut flow = copy_after(3);
    assert_eq!(act(&mut flow, Act::Pin("12345678"), NOW + Duration::from_mins(20)), Ok(Done::Repeated));
}

#[test]
fn an_activation_is_over_at_its_time_and_an_active_app_stays() {
    for done in 0..GOOD.len() {
        for step in ACTS {
            let mut flow = copy_after(done);
            assert_ne!(flow.due(NOW + LIFETIME - Duration::from_millis(1)), Due::Ended);
            assert_eq!(act(&mut flow, step, NOW + LIFETIME), Err(Refused::Ended(End::Expired)), "{step:?}");
            assert_eq!(flow.choices(), None);
            // A clock that is put back does not bring it back.
            assert_eq!(flow.due(NOW), Due::Ended);
        }
    }
    assert_eq!(copy_after(6).due(NOW + LIFETIME), Due::Active);
}

#[test]
fn a_copy_may_have_to_wait_and_can_be_cancelled_meanwhile() {
    let hour = Duration::from_hours(1);
    let mut flow = Flow::new(COPY, NOW, hour, LIFETIME);
    for step in ACTS.into_iter().filter(|step| !matches!(step, Act::Cancel | Act::GrantorGone)) {
        assert_eq!(act(&mut flow, step, NOW), Err(Refused::Waiting(hour)), "{step:?}");
    }
    assert_eq!(flow.due(NOW), Due::Waiting);
    assert_eq!(flow.due(NOW + hour), Due::UserId);
    assert_eq!(flow.expires(), NOW + hour + LIFETIME);
    assert_eq!(act(&mut flow, Act::Cancel, NOW), Ok(Done::Changed));
    assert_eq!(flow.end(NOW), Some(End::Cancelled));
}

#[test]
fn what_is_over_keeps_nothing_that_was_entered() {
    for done in 0..GOOD.len() {
        let mut flow = copy_after(done);
        act(&mut flow, Act::Cancel, NOW).unwrap();
        let stored = serde_json::to_value(&flow).unwrap();
        for secret in ["pin", "record", "notifications"] {
            assert!(stored[secret].is_null(), "{secret} after {done} steps");
        }
    }
}

#[test]
fn nothing_that_was_entered_shows_in_debug_output() {
    assert_eq!(format!("{:?}", copy_after(6)), "Flow { due: Active, end: None, .. }");
}

proptest! {
    #[test]
    fn no_order_of_steps_reaches_active_without_all_of_them(
        steps in prop::collection::vec((prop::sample::select(ACTS.to_vec()), 0_u64..400), 0..60),
    ) {
        let mut flow = Flow::new(COPY, NOW, Duration::ZERO, LIFETIME);
        let mut now = NOW;
        let mut activated = 0;
        let mut reached = Vec::new();
        for (step, seconds) in steps {
            now += Duration::from_secs(seconds);
            let (before, over) = (flow.due(now), flow.end(now));
            let done = act(&mut flow, step, now);
            activated += usize::from(done == Ok(Done::Activated));
            if flow.due(now) != before {
                reached.push(flow.due(now));
                // Only forwards, and out of an end there is no way.
                prop_assert!(flow.due(now) > before && over.is_none());
            }
            let stored = serde_json::to_string(&flow).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Flow>(&stored).unwrap(), &flow);
        }
        let is_active = flow.due(now) == Due::Active;
        prop_assert_eq!(activated, usize::from(is_active));
        prop_assert_eq!(flow.choices().is_some(), is_active);
        if is_active {
            let all = [Due::TemporaryPin, Due::PersonalPin, Due::Biometrics, Due::Notifications, Due::Active];
            prop_assert_eq!(reached, all);
        }
    }
}
