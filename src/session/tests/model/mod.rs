//! A model checker explores every situation that two apps, several nodes and a bounded number of faults can reach,
//! with the real session and the real record.
//!
//! `HANDOFF_MODEL=large` checks larger configurations too (many minutes).

mod app;
mod completion;
mod world;

use stateright::{Checker as _, Expectation, HasDiscoveries, Model, Property};

use super::cluster::{Flaw, News, Who};
use completion::Completion;
use world::{Action, Faults, World};

const ONE_JOIN: &str = "at most one join";
const NO_THIRD_PARTY: &str = "a frame is never delivered to a third party";
const NOTHING_AFTER_THE_END: &str = "no delivery after the end";
const DEADLINE: &str = "the deadline holds";
const CAN_FINISH: &str = "without further faults an unfinished handoff can always finish";
const COUNTED: &str = "each session is counted on the node where old is";
const COMPLETES: &str = "a handoff completes";

struct Relay {
    nodes: u8,
    faults: Faults,
    flaw: Option<Flaw>,
    completion: Completion,
}

impl Model for Relay {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.nodes, self.faults, self.flaw)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.over {
            return;
        }
        let at_all = || 0..world.cluster.nodes.len();
        for who in [Who::Old, Who::New] {
            let app = world.app(who);
            if world.may_connect(who) {
                for at in at_all() {
                    actions.push(Action::Connect { who, at, late: false });
                    actions.extend((world.left.late > 0).then_some(Action::Connect { who, at, late: true }));
                }
            }
            if app.connection.is_some() && world.left.vanish[usize::from(who == Who::New)] > 0 {
                actions.push(Action::Vanish(who));
            }
            actions.extend(world.resends(who).then_some(Action::Resend(who)));
            actions.extend((world.left.cancel > 0 && app.is_attached()).then_some(Action::Cancel(who)));
        }
        for (index, letter) in world.cluster.letters.iter().enumerate() {
            let earlier = &world.cluster.letters[..index];
            if earlier.iter().any(|other| (other.from, other.to) == (letter.from, letter.to)) {
                continue;
            }
            actions.push(Action::Deliver(index));
            actions.extend((world.left.lose > 0).then_some(Action::Lose(index)));
            let can_repeat = world.left.duplicate > 0 && matches!(letter.news, News::Said(_));
            actions.extend(can_repeat.then_some(Action::Duplicate(index)));
        }
        actions.extend(world.connections(true).into_iter().map(|(at, id)| Action::Notice { at, id }));
        for (at, id) in world.connections(false).into_iter().chain(world.connections(true)) {
            actions.push(Action::Look { at, id, late: false });
            actions.extend((world.left.late > 0).then_some(Action::Look { at, id, late: true }));
        }
        for at in at_all() {
            let node = &world.cluster.nodes[at];
            actions.extend((!node.answers.is_empty()).then_some(Action::Answer(at)));
            actions.extend((node.isolated || node.owes).then_some(Action::PutBack(at)));
            actions.extend((world.left.crash > 0 && node.session.is_some()).then_some(Action::Crash(at)));
            actions.extend((world.left.isolate > 0 && !node.isolated).then_some(Action::Isolate(at)));
            actions.extend((world.left.intrude > 0).then_some(Action::Intrude(at)));
            actions.extend((world.left.pretend > 0).then_some(Action::Pretend(at)));
        }
        if world.cluster.route.is_some() {
            actions.extend((world.left.lose_newest > 0).then_some(Action::LoseRecord { all: false }));
            actions.extend((world.left.lose_all > 0).then_some(Action::LoseRecord { all: true }));
            actions.push(Action::Deadline);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.apply(action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_JOIN, |_, world: &World| world.cluster.marks.joins <= 1),
            Property::always(NO_THIRD_PARTY, |_, world: &World| !world.cluster.marks.to_a_third_party),
            Property::always(NOTHING_AFTER_THE_END, |_, world: &World| !world.cluster.marks.after_the_end),
            Property::always(DEADLINE, |_, world: &World| !world.cluster.marks.open_too_long),
            Property::always(COUNTED, |_, world: &World| !world.cluster.marks.miscounted),
            Property::always(CAN_FINISH, |model: &Self, world: &World| model.completion.is_possible(world)),
            Property::sometimes(COMPLETES, |_, world: &World| world.has_completed()),
        ]
    }
}

/// Explores one configuration; answers the rules that do not hold, each with a path.
fn check(name: &str, nodes: u8, faults: Faults, flaw: Option<Flaw>) -> Vec<(&'static str, String)> {
    let model = Relay { nodes, faults, flaw, completion: Completion::default() };
    let until = if flaw.is_some() { HasDiscoveries::All } else { HasDiscoveries::AnyFailures };
    let checker = model.checker().threads(2).finish_when(until).spawn_bfs().join();
    let found = checker.discoveries();
    println!(
        "{name}: {nodes} nodes, {} situations, {} steps, at most {} deep",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
    );
    let mut failed = Vec::new();
    for Property { name, expectation, .. } in checker.model().properties() {
        let path = found.get(name);
        let holds = path.is_some() == (expectation == Expectation::Sometimes);
        println!("  {} {name}", if holds { "holds:" } else { "FAILS:" });
        if let (false, Some(path)) = (holds, path) {
            let steps: Vec<String> = path.clone().into_actions().iter().map(|step| format!("{step:?}")).collect();
            let after = if name == CAN_FINISH { Completion::explain(path.last_state()) } else { String::new() };
            failed.push((name, format!("{}\n{after}", steps.join("\n"))));
        } else if !holds {
            failed.push((name, String::from("never")));
        }
    }
    failed
}

fn assert_sound(name: &str, nodes: u8, faults: Faults) {
    if let Some((rule, path)) = check(name, nodes, faults, None).into_iter().next() {
        panic!("{name}: not always: {rule}\n{path}");
    }
}

fn assert_noticed(flaw: Flaw, rule: &str, faults: Faults) {
    let nodes = 2 + faults.intrude;
    let found = check(&format!("{flaw:?}"), nodes, faults, Some(flaw));
    assert!(found.iter().any(|(broken, _)| *broken == rule), "{flaw:?} must be noticed");
}

const NONE: Faults = Faults {
    vanish: [0, 0],
    lose: 0,
    duplicate: 0,
    late: 0,
    crash: 0,
    isolate: 0,
    lose_newest: 0,
    lose_all: 0,
    intrude: 0,
    pretend: 0,
    cancel: 0,
};

#[test]
fn a_calm_world_is_sound() {
    assert_sound("nothing goes wrong", 2, NONE);
}

#[test]
fn both_apps_may_move_and_messages_may_be_lost() {
    assert_sound("both move, one message lost", 2, Faults { vanish: [1, 1], lose: 1, ..NONE });
}

#[test]
fn messages_may_be_repeated_late() {
    assert_sound("one repeated", 2, Faults { vanish: [2, 0], duplicate: 1, ..NONE });
}

#[test]
fn the_directory_may_answer_late() {
    assert_sound("late answers", 2, Faults { vanish: [1, 1], late: 1, ..NONE });
}

#[test]
fn nodes_may_crash() {
    assert_sound("a crash", 2, Faults { crash: 2, lose: 1, ..NONE });
}

#[test]
fn nodes_may_be_isolated() {
    assert_sound("an isolated node", 2, Faults { isolate: 1, vanish: [1, 0], ..NONE });
}

#[test]
fn the_record_may_be_lost() {
    assert_sound("the newest write lost", 2, Faults { lose_newest: 1, vanish: [1, 0], ..NONE });
    assert_sound("the record lost", 2, Faults { lose_all: 1, vanish: [1, 0], ..NONE });
}

#[test]
fn strangers_may_come() {
    assert_sound("strangers", 3, Faults { intrude: 1, pretend: 1, ..NONE });
}

#[test]
fn either_may_cancel() {
    assert_sound("one cancels", 2, Faults { cancel: 1, lose: 3, ..NONE });
}

/// `HANDOFF_MODEL=large`, or the name of one.
#[test]
fn larger_worlds_are_sound() {
    let Ok(wanted) = std::env::var("HANDOFF_MODEL") else { return };
    let all = [
        ("three-nodes", 3, Faults { vanish: [1, 1], lose: 1, ..NONE }),
        ("three-nodes-loss", 3, Faults { lose_newest: 1, vanish: [1, 0], ..NONE }),
        ("loss-both-move", 2, Faults { lose_newest: 1, vanish: [1, 1], ..NONE }),
        ("isolation-loss", 2, Faults { isolate: 2, lose: 1, ..NONE }),
        ("isolation-late", 2, Faults { isolate: 1, late: 1, vanish: [0, 1], ..NONE }),
        ("late-both-move", 2, Faults { vanish: [1, 1], late: 2, ..NONE }),
        ("crash-late", 3, Faults { crash: 1, late: 1, ..NONE }),
        ("crash-both-move", 2, Faults { crash: 1, vanish: [1, 1], lose: 1, ..NONE }),
        ("strangers-both-move", 3, Faults { intrude: 1, vanish: [1, 1], ..NONE }),
    ];
    for (name, nodes, faults) in all {
        if wanted == name || wanted == "large" {
            assert_sound(name, nodes, faults);
        }
    }
}

#[test]
fn a_second_join_would_be_noticed() {
    assert_noticed(Flaw::JoinAgain, ONE_JOIN, Faults { intrude: 1, ..NONE });
}

#[test]
fn a_stranger_in_the_seat_would_be_noticed() {
    assert_noticed(Flaw::AnyTokenResumes, NO_THIRD_PARTY, Faults { pretend: 1, ..NONE });
}

#[test]
fn frames_after_the_end_would_be_noticed() {
    assert_noticed(Flaw::GoesOnAfterTheEnd, NOTHING_AFTER_THE_END, Faults { intrude: 1, ..NONE });
}

#[test]
fn a_lifetime_that_begins_anew_would_be_noticed() {
    assert_noticed(Flaw::ResumeProlongs, DEADLINE, Faults { vanish: [1, 0], ..NONE });
}

#[test]
fn a_lost_message_that_nobody_makes_good_would_be_noticed() {
    assert_noticed(Flaw::NoLooks, CAN_FINISH, Faults { lose: 1, ..NONE });
}

#[test]
fn late_news_taken_for_new_would_be_noticed() {
    assert_noticed(Flaw::NoEpochs, CAN_FINISH, Faults { vanish: [2, 0], duplicate: 1, ..NONE });
}

#[test]
fn a_session_counted_twice_would_be_noticed() {
    assert_noticed(Flaw::MovedOutUnreported, COUNTED, Faults { vanish: [1, 0], ..NONE });
}
