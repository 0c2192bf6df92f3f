//! Whether a handoff can still finish when nothing goes wrong any more: from one situation, everything on its way
//! arrives, nodes notice what is gone, apps come back, time passes. No luck and no choice in it.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::super::cluster::Who;
use super::world::{Action, World};
use crate::protocol::close::CloseReason;

/// Rounds of everything that helps; far more than any situation needs.
const ROUNDS: usize = 12;

/// Situations from which it is known to finish.
#[derive(Debug, Default)]
pub(super) struct Completion(Mutex<HashSet<u64>>);

impl Completion {
    pub(super) fn is_possible(&self, from: &World) -> bool {
        let mut world = from.clone();
        let mut path = Vec::new();
        for _ in 0..ROUNDS {
            let here = world.fingerprint();
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if known.contains(&here) || world.over || is_finished(&world) {
                known.extend(path);
                known.insert(here);
                return true;
            }
            drop(known);
            path.push(here);
            let before = here;
            calm_round(&mut world);
            if world.fingerprint() == before {
                return false;
            }
        }
        false
    }

    /// What a round without faults does, in words: for a counterexample.
    pub(super) fn explain(from: &World) -> String {
        let mut world = from.clone();
        for _ in 0..ROUNDS {
            if !is_finished(&world) {
                calm_round(&mut world);
            }
        }
        format!("ended: {:?}\nold: {:?}\nnew: {:?}\n{:#?}", world.ended(), world.old, world.new, world.cluster.route)
    }
}

/// Both apps have the same end: the handoff is complete, or somebody has ended it.
fn is_finished(world: &World) -> bool {
    match (world.old.over, world.new.over) {
        (Some(CloseReason::Completed), Some(CloseReason::Completed)) => true,
        (Some(old), Some(new)) => {
            let by_somebody = |reason| {
                matches!(reason, CloseReason::ScannedTwice | CloseReason::CancelledByOld | CloseReason::CancelledByNew)
            };
            // Two ends at the same moment: old has the receipt, and says so; or either has cancelled before it hears.
            let is_right = |reason, own| Some(reason) == world.ended() && by_somebody(reason) || reason == own;
            let has_receipt = old == CloseReason::Completed && world.old.has_receipt();
            (has_receipt || is_right(old, CloseReason::CancelledByOld)) && is_right(new, CloseReason::CancelledByNew)
        }
        _ => false,
    }
}

fn calm_round(world: &mut World) {
    for at in 0..world.cluster.nodes.len() {
        let node = &world.cluster.nodes[at];
        if node.isolated || node.owes {
            world.apply(Action::PutBack(at));
        }
    }
    arrive(world);
    for (at, id) in world.connections(true) {
        world.apply(Action::Notice { at, id });
    }
    arrive(world);
    let last = world.cluster.nodes.len() - 1;
    for (who, at) in [(Who::Old, 0), (Who::New, last)] {
        if world.may_connect(who) {
            world.apply(Action::Connect { who, at, late: false });
            arrive(world);
        }
    }
    for (at, id) in world.connections(false) {
        world.apply(Action::Look { at, id, late: false });
        arrive(world);
    }
    for who in [Who::Old, Who::New] {
        world.apply(Action::Resend(who));
        arrive(world);
    }
}

/// Everything on its way arrives.
fn arrive(world: &mut World) {
    loop {
        let answered = world.cluster.nodes.iter().position(|node| !node.answers.is_empty());
        match answered {
            Some(at) => world.apply(Action::Answer(at)),
            None if !world.cluster.letters.is_empty() => world.apply(Action::Deliver(0)),
            None => return,
        }
    }
}
