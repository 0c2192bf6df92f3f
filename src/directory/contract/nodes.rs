//! What every directory must do that several nodes share: the first desk of the bench is node 1, the second node 2, the
//! third node 3.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::*;
use crate::directory::Arrived;
use crate::session::node::PeerEvent;

/// Every test of the specification, by name.
pub(in crate::directory) const SPECIFICATION: &[Rule] = &[
    ("what one node writes the others read", what_one_node_writes_the_others_read),
    ("a party that moves to another node names the one it left", a_party_that_moves_names_the_node_it_left),
    ("whoever ends a session learns which nodes do not know yet", whoever_ends_a_session_learns_who_does_not_know),
    ("a late goodbye of another node changes nothing", a_late_goodbye_of_another_node_changes_nothing),
    ("what nodes do at the same moment is not lost", what_nodes_do_at_the_same_moment_is_not_lost),
    ("what a node tells another arrives in order", what_a_node_tells_another_arrives_in_order),
    ("a node that is not there any more is gone", a_node_that_is_not_there_is_gone),
];

fn place(number: u8, epoch: u64, online: bool) -> Place {
    Place { node: node(number), epoch, online }
}

fn look(role: Role, epoch: u64) -> Transition {
    Transition::Look { role, epoch }
}

impl Bench {
    /// The next that a node hears.
    fn hear(&self, node: usize) -> News {
        let news = self.desks[node - 1].news.as_ref().unwrap();
        let next = async { tokio::time::timeout(Duration::from_secs(20), news.lock().await.recv()).await };
        self.runtime.block_on(next).unwrap().unwrap()
    }

    /// What a node hears of a session next.
    fn hear_of(&self, node: usize, number: u8) -> News {
        loop {
            match self.hear(node) {
                News::Isolated | News::Reconnected => {}
                News::Said { session: about, .. } | News::Gone { session: about, .. } if about != session(number) => {}
                news @ (News::Said { .. } | News::Gone { .. }) => return news,
            }
        }
    }
}

fn what_one_node_writes_the_others_read(bench: &Bench) {
    bench.attach_at(1, 1, open(1));
    for node in 1..=3 {
        assert_eq!(bench.apply_at(node, 1, open(2)), closed(CloseReason::AlreadyOpen));
    }
    let joined = bench.attach_at(2, 1, join(0, 2));
    assert_eq!(joined.peer, Some(place(1, 1, true)));
    assert_eq!(bench.attach_at(1, 1, look(Role::Old, 1)).peer, Some(place(2, 1, true)));
    bench.apply_at(2, 1, Transition::Leave { role: Role::New, epoch: 1 }).unwrap();
    assert_eq!(bench.attach_at(1, 1, look(Role::Old, 1)).peer, Some(place(2, 1, false)));
    bench.apply_at(3, 1, Transition::End { reason: CloseReason::Completed }).unwrap();
    for node in 1..=3 {
        assert_eq!(bench.apply_at(node, 1, look(Role::Old, 1)), ended(CloseReason::Completed));
        assert_eq!(bench.apply_at(node, 1, join(0, 2)), ended(CloseReason::Completed));
    }
    bench.pass(LIFETIME + limits::TOMBSTONE_GRACE);
    for node in 1..=3 {
        assert_eq!(bench.apply_at(node, 1, join(0, 2)), closed(CloseReason::UnknownSession));
    }
}

fn a_party_that_moves_names_the_node_it_left(bench: &Bench) {
    bench.attach_at(1, 1, open(1));
    bench.attach_at(2, 1, join(0, 2));
    let moved = bench.attach_at(3, 1, resume(Role::Old, 1));
    assert_eq!((moved.epoch, moved.previous, moved.peer), (2, Some(node(1)), Some(place(2, 1, true))));
    let stayed = bench.attach_at(3, 1, resume(Role::Old, 1));
    assert_eq!((stayed.epoch, stayed.previous), (3, None));
    let moved = bench.attach_at(1, 1, join(0, 2));
    assert_eq!((moved.epoch, moved.previous, moved.peer), (2, Some(node(2)), Some(place(3, 3, true))));
    assert_eq!(bench.apply_at(1, 1, look(Role::Old, 1)), closed(CloseReason::Superseded));
    assert_eq!(bench.apply_at(2, 1, look(Role::New, 1)), closed(CloseReason::Superseded));
}

fn whoever_ends_a_session_learns_who_does_not_know(bench: &Bench) {
    let twice = |nodes| Err(Refusal::EndedNow(CloseReason::ScannedTwice, nodes));
    for (number, by, nodes) in
        [(1, 1, [None, Some(node(2))]), (2, 2, [Some(node(1)), None]), (3, 3, [Some(node(1)), Some(node(2))])]
    {
        bench.attach_at(1, number, open(1));
        bench.attach_at(2, number, join(0, 2));
        assert_eq!(bench.apply_at(by, number, join(0, 3)), twice(nodes));
    }
}

fn a_late_goodbye_of_another_node_changes_nothing(bench: &Bench) {
    bench.attach_at(1, 1, open(1));
    bench.attach_at(2, 1, join(0, 2));
    bench.attach_at(3, 1, resume(Role::New, 2));
    bench.apply_at(2, 1, Transition::Leave { role: Role::New, epoch: 1 }).unwrap();
    assert_eq!(bench.attach_at(1, 1, look(Role::Old, 1)).peer, Some(place(3, 2, true)));
}

fn what_nodes_do_at_the_same_moment_is_not_lost(bench: &Bench) {
    for number in 0..5 {
        bench.attach_at(1, number, open(1));
        bench.attach_at(2, number, join(0, 2));
        let outcomes = at_once(bench, number, 12, |app| match app % 2 {
            0 => resume(Role::Old, 1),
            _ => resume(Role::New, 2),
        });
        let epochs = |role: usize| -> BTreeSet<u64> {
            let ours = outcomes.iter().skip(role).step_by(2);
            ours.map(|outcome| outcome.clone().unwrap().unwrap().epoch).collect()
        };
        let expected: BTreeSet<u64> = (2..8).collect();
        assert_eq!((epochs(0), epochs(1)), (expected.clone(), expected));
    }
}

fn what_a_node_tells_another_arrives_in_order(bench: &Bench) {
    const MESSAGES: u64 = 300;
    let event = |from: u8, number| PeerEvent::Data {
        role: Role::Old,
        epoch: number,
        frame: Bytes::from(vec![from; usize::try_from(number).unwrap()]),
    };
    for number in 0..MESSAGES {
        for (from, to) in [(1_u8, 2_u8), (3, 2), (2, 1)] {
            let about = session(if number.is_multiple_of(2) { from } else { from + 10 });
            bench.desks[usize::from(from) - 1].directory.tell(node(to), about, event(from, number));
        }
    }
    for (to, senders) in [(2, vec![1_u8, 3]), (1, vec![2])] {
        let mut next = [0_u64; 4];
        let total = MESSAGES * u64::try_from(senders.len()).unwrap();
        let mut heard = 0;
        while heard < total {
            let News::Said { session: about, from, event: said, arrived: _ } = bench.hear(to) else { continue };
            let sender = *senders.iter().find(|sender| node(**sender) == from).unwrap();
            let number = next[usize::from(sender)];
            next[usize::from(sender)] += 1;
            assert_eq!(said, event(sender, number));
            assert_eq!(about, session(if number.is_multiple_of(2) { sender } else { sender + 10 }));
            heard += 1;
        }
    }
}

fn a_node_that_is_not_there_is_gone(bench: &Bench) {
    let left = PeerEvent::Left { role: Role::New, epoch: 1 };
    bench.desks[0].directory.tell(node(9), session(1), left.clone());
    assert_eq!(bench.hear_of(1, 1), News::Gone { session: session(1), node: node(9) });
    bench.desks[0].directory.tell(node(2), session(1), left.clone());
    assert_eq!(
        bench.hear_of(2, 1),
        News::Said { session: session(1), from: node(1), event: left, arrived: Arrived::default() }
    );
}
