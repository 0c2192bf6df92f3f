//! What every directory must do, as one specification: written against the trait and a clock that can be moved, and run
//! against each implementation. The rules themselves are tested in `session`; here they must be atomic and forgotten
//! in time.

pub(super) mod nodes;

use std::fmt;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc};

use super::{Directory, News};
use crate::protocol::Role;
use crate::protocol::close::CloseReason;
use crate::protocol::ids::{JoinHash, JoinProof, PublishedKey, ResumeHash, ResumeToken, SessionId};
use crate::protocol::limits;
use crate::session::network_tag::{NetworkTag, Refuse};
use crate::session::node::{NodeId, Place};
use crate::session::route::{Attachment, Offer, Outcome, Refusal, Rules, Transition};

pub(super) const LIFETIME: Duration = Duration::from_secs(20);
const INTERVAL: Duration = Duration::from_secs(5);

/// One node's directory, and what comes from the others.
pub(super) struct Desk {
    pub(super) directory: Arc<dyn Directory>,
    pub(super) news: Option<Mutex<mpsc::Receiver<News>>>,
}

/// A directory on the bench.
pub(super) struct Bench {
    /// The same records as several nodes see them, [`node`] 1 first; one, where they cannot be shared.
    pub(super) desks: Vec<Desk>,
    /// Where answers are waited for.
    pub(super) runtime: Handle,
    /// Lets time pass for the directory.
    pub(super) pass: fn(&Bench, Duration),
    /// How much time may really pass in a test besides.
    pub(super) slack: Duration,
    /// What the keys begin with.
    pub(super) prefix: String,
}

impl fmt::Debug for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bench")
    }
}

pub(super) fn node(number: u8) -> NodeId {
    NodeId::from_random([number; 16])
}

pub(super) fn rules(number: u8) -> Rules {
    Rules { node: node(number), lifetime: LIFETIME, refuse: Refuse::Nothing }
}

/// A rule's name, and its test.
pub(super) type Rule = (&'static str, fn(&Bench));

/// Every test of the specification, by name.
pub(super) const SPECIFICATION: &[Rule] = &[
    ("a session is opened once", a_session_is_opened_once),
    ("one app joins, with a frame that is shown", one_app_joins_with_a_frame_that_is_shown),
    ("a second join ends the session for all", a_second_join_ends_the_session_for_all),
    ("the one who joined may ask again", the_one_who_joined_may_ask_again),
    ("a seat is taken again with its token only", a_seat_is_taken_again_with_its_token_only),
    ("a late goodbye changes nothing", a_late_goodbye_changes_nothing),
    ("a session ends once", a_session_ends_once),
    ("a session expires, is remembered, and is forgotten", a_session_expires_is_remembered_and_is_forgotten),
    ("nothing prolongs a session", nothing_prolongs_a_session),
    (
        "a look changes nothing and belongs to the newest attachment",
        a_look_changes_nothing_and_belongs_to_the_newest_attachment,
    ),
    ("sessions do not disturb each other", sessions_do_not_disturb_each_other),
    ("of many joins at once one wins, and then the session ends", of_many_joins_at_once_one_wins),
    ("of many opens at once one wins", of_many_opens_at_once_one_wins),
];

pub(super) fn session(number: u8) -> SessionId {
    SessionId::from_random([number; 16])
}

pub(super) fn proof(frame: u8) -> JoinProof {
    JoinProof::new([frame; 32])
}

fn hash(app: u8) -> ResumeHash {
    ResumeHash::of(&ResumeToken::new([app; 32]))
}

pub(super) fn open(app: u8) -> Transition {
    let offer = Offer {
        public_key: PublishedKey::new(vec![4; 65]).unwrap(),
        join_hashes: (0..4).map(|frame| JoinHash::of(&proof(frame))).collect(),
        interval: INTERVAL,
    };
    Transition::Open { offer, resume_hash: hash(app), tag: NetworkTag::UNKNOWN, trace: None }
}

pub(super) fn join(frame: u8, app: u8) -> Transition {
    Transition::Join { frame, hash: JoinHash::of(&proof(frame)), resume_hash: hash(app), tag: NetworkTag::UNKNOWN }
}

pub(super) fn resume(role: Role, app: u8) -> Transition {
    Transition::Resume { role, hash: hash(app) }
}

impl Bench {
    pub(super) fn apply(&self, number: u8, transition: Transition) -> Outcome {
        self.apply_at(1, number, transition)
    }

    /// The same at another node.
    fn apply_at(&self, node: usize, number: u8, transition: Transition) -> Outcome {
        let answer = self.desks[node - 1].directory.apply(session(number), transition);
        self.runtime.block_on(answer).unwrap()
    }

    fn attach(&self, number: u8, transition: Transition) -> Attachment {
        self.attach_at(1, number, transition)
    }

    fn attach_at(&self, node: usize, number: u8, transition: Transition) -> Attachment {
        self.apply_at(node, number, transition).unwrap().unwrap()
    }

    fn pass(&self, time: Duration) {
        (self.pass)(self, time);
    }

    /// Shortly before something happens.
    fn moment(&self) -> Duration {
        self.slack.max(Duration::from_millis(1))
    }

    /// Whether a session has this much time left.
    fn assert_left(&self, attachment: &Attachment, expected: Duration) {
        let left = attachment.expires_in;
        assert!((expected.saturating_sub(self.slack)..=expected).contains(&left), "{left:?}, not {expected:?}");
    }
}

pub(super) fn closed(reason: CloseReason) -> Outcome {
    Err(Refusal::Closed(reason))
}

pub(super) fn ended(reason: CloseReason) -> Outcome {
    Err(Refusal::Ended(reason))
}

fn ended_now(reason: CloseReason) -> Outcome {
    Err(Refusal::EndedNow(reason, [None, None]))
}

fn a_session_is_opened_once(bench: &Bench) {
    let opened = bench.attach(1, open(1));
    assert_eq!((opened.epoch, opened.peer, opened.previous, opened.again), (1, None, None, false));
    bench.assert_left(&opened, LIFETIME);
    assert_eq!(bench.apply(1, open(1)), closed(CloseReason::AlreadyOpen));
    assert_eq!(bench.apply(1, open(2)), closed(CloseReason::AlreadyOpen));
    assert_eq!(bench.apply(2, join(0, 2)), closed(CloseReason::UnknownSession));
    assert_eq!(bench.apply(2, resume(Role::Old, 1)), closed(CloseReason::NothingToResume));
}

fn one_app_joins_with_a_frame_that_is_shown(bench: &Bench) {
    bench.attach(1, open(1));
    bench.pass(2 * INTERVAL);
    assert_eq!(bench.apply(1, join(0, 2)), closed(CloseReason::StaleFrame));
    assert_eq!(bench.apply(1, join(3, 2)), closed(CloseReason::StaleFrame));
    assert_eq!(bench.apply(1, join(7, 2)), closed(CloseReason::BadJoinProof));
    let joined = bench.attach(1, join(1, 2));
    assert_eq!((joined.joined.unwrap().frame, joined.peer.unwrap().online, joined.again), (1, true, false));
    bench.assert_left(&joined, LIFETIME - 2 * INTERVAL);
    assert_eq!(joined.public_key.as_bytes(), [4; 65]);
}

fn a_second_join_ends_the_session_for_all(bench: &Bench) {
    bench.attach(1, open(1));
    let first = bench.attach(1, join(0, 2));
    bench.apply(1, Transition::Leave { role: Role::New, epoch: first.epoch }).unwrap();
    let scanned_twice = ended(CloseReason::ScannedTwice);
    assert_eq!(bench.apply(1, join(0, 3)), ended_now(CloseReason::ScannedTwice));
    assert_eq!(bench.apply(1, join(0, 2)), scanned_twice);
    assert_eq!(bench.apply(1, resume(Role::Old, 1)), scanned_twice);
    assert_eq!(bench.apply(1, resume(Role::New, 2)), scanned_twice);
}

fn the_one_who_joined_may_ask_again(bench: &Bench) {
    bench.attach(1, open(1));
    bench.attach(1, join(0, 2));
    bench.pass(3 * INTERVAL);
    let again = bench.attach(1, join(0, 2));
    assert_eq!((again.epoch, again.again), (2, true));
}

fn a_seat_is_taken_again_with_its_token_only(bench: &Bench) {
    bench.attach(1, open(1));
    bench.attach(1, join(0, 2));
    for (role, app) in [(Role::Old, 2), (Role::New, 1), (Role::Old, 3), (Role::New, 3)] {
        assert_eq!(bench.apply(1, resume(role, app)), closed(CloseReason::NothingToResume));
    }
    let old = bench.attach(1, resume(Role::Old, 1));
    assert_eq!((old.epoch, old.again, old.peer.unwrap().online, old.joined.unwrap().frame), (2, true, true, 0));
    for _ in 1..limits::MAX_RESUMES {
        bench.attach(1, resume(Role::New, 2));
    }
    assert_eq!(bench.apply(1, resume(Role::New, 2)), ended_now(CloseReason::TooManyResumes));
    assert_eq!(bench.apply(1, resume(Role::Old, 1)), ended(CloseReason::TooManyResumes));
}

fn a_late_goodbye_changes_nothing(bench: &Bench) {
    let opened = bench.attach(1, open(1));
    bench.attach(1, resume(Role::Old, 1));
    bench.apply(1, Transition::Leave { role: Role::Old, epoch: opened.epoch }).unwrap();
    assert!(bench.attach(1, join(0, 2)).peer.unwrap().online);
    bench.apply(1, Transition::Leave { role: Role::Old, epoch: opened.epoch + 1 }).unwrap();
    assert!(!bench.attach(1, resume(Role::New, 2)).peer.unwrap().online);
    assert_eq!(bench.apply(9, Transition::Leave { role: Role::Old, epoch: 1 }), Ok(None));
}

fn a_session_ends_once(bench: &Bench) {
    bench.attach(1, open(1));
    for reason in [CloseReason::Completed, CloseReason::CancelledByOld] {
        assert_eq!(bench.apply(1, Transition::End { reason }), Ok(None));
        assert_eq!(bench.apply(1, resume(Role::Old, 1)), ended(CloseReason::Completed));
    }
    assert_eq!(bench.apply(1, open(1)), ended(CloseReason::Completed));
    bench.pass(LIFETIME);
    assert_eq!(bench.apply(1, resume(Role::Old, 1)), ended(CloseReason::Completed), "also past its deadline");
}

fn a_session_expires_is_remembered_and_is_forgotten(bench: &Bench) {
    let moment = bench.moment();
    bench.attach(1, open(1));
    bench.pass(LIFETIME - moment);
    bench.assert_left(&bench.attach(1, resume(Role::Old, 1)), moment);
    bench.pass(moment);
    assert_eq!(bench.apply(1, resume(Role::Old, 1)), ended(CloseReason::Expired));
    bench.pass(limits::TOMBSTONE_GRACE - 2 * moment);
    assert_eq!(bench.apply(1, join(3, 2)), ended(CloseReason::Expired));
    bench.pass(2 * moment);
    assert_eq!(bench.apply(1, resume(Role::Old, 1)), closed(CloseReason::NothingToResume));
    assert_eq!(bench.apply(1, join(0, 2)), closed(CloseReason::UnknownSession));
    bench.assert_left(&bench.attach(1, open(5)), LIFETIME);
}

fn nothing_prolongs_a_session(bench: &Bench) {
    bench.attach(1, open(1));
    bench.attach(1, join(0, 2));
    bench.pass(LIFETIME / 2);
    bench.assert_left(&bench.attach(1, resume(Role::Old, 1)), LIFETIME / 2);
    bench.apply(1, Transition::End { reason: CloseReason::Completed }).unwrap();
    bench.pass(LIFETIME / 2 + limits::TOMBSTONE_GRACE);
    assert_eq!(bench.apply(1, join(0, 2)), closed(CloseReason::UnknownSession));
}

fn a_look_changes_nothing_and_belongs_to_the_newest_attachment(bench: &Bench) {
    let look = |role, epoch| bench.apply(1, Transition::Look { role, epoch });
    assert_eq!(look(Role::Old, 1), closed(CloseReason::NothingToResume));
    bench.attach(1, open(1));
    assert_eq!(look(Role::New, 1), closed(CloseReason::Superseded));
    bench.attach(1, join(0, 2));
    for _ in 0..2 {
        let seen = look(Role::Old, 1).unwrap().unwrap();
        assert_eq!((seen.epoch, seen.joined.unwrap().frame), (1, 0));
        assert_eq!(seen.peer, Some(Place { node: node(1), epoch: 1, online: true }));
    }
    bench.attach(1, resume(Role::Old, 1));
    assert_eq!(look(Role::Old, 1), closed(CloseReason::Superseded));
    assert_eq!(look(Role::Old, 2).unwrap().unwrap().epoch, 2);
    bench.apply(1, Transition::End { reason: CloseReason::CancelledByNew }).unwrap();
    assert_eq!(look(Role::Old, 2), ended(CloseReason::CancelledByNew));
}

fn sessions_do_not_disturb_each_other(bench: &Bench) {
    (0..100).for_each(|number| drop(bench.attach(number, open(1))));
    bench.apply(50, Transition::End { reason: CloseReason::Completed }).unwrap();
    for number in 0..100 {
        let expected = if number == 50 { Some(Refusal::Ended(CloseReason::Completed)) } else { None };
        assert_eq!(bench.apply(number, join(0, 2)).err(), expected, "{number}");
    }
}

/// What `count` threads got that asked for this at the same moment, as many nodes as there are.
fn at_once(bench: &Bench, number: u8, count: u8, transition: fn(u8) -> Transition) -> Vec<Outcome> {
    let barrier = Barrier::new(usize::from(count));
    std::thread::scope(|scope| {
        let ask = |app| {
            barrier.wait();
            bench.apply_at(1 + usize::from(app) % bench.desks.len(), number, transition(app))
        };
        let threads: Vec<_> = (0..count).map(|app| scope.spawn(move || ask(app))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn of_many_joins_at_once_one_wins(bench: &Bench) {
    for number in 0..20 {
        bench.attach(number, open(99));
        let outcomes = at_once(bench, number, 8, |app| join(0, app));
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        let is_end = |outcome: &&Outcome| matches!(outcome, Err(Refusal::EndedNow(CloseReason::ScannedTwice, _)));
        assert_eq!(outcomes.iter().filter(is_end).count(), 1, "{outcomes:?}");
        let others = outcomes.iter().filter(|outcome| **outcome == ended(CloseReason::ScannedTwice)).count();
        assert_eq!(others, 6, "{outcomes:?}");
        assert_eq!(bench.apply(number, resume(Role::Old, 99)), ended(CloseReason::ScannedTwice));
    }
}

fn of_many_opens_at_once_one_wins(bench: &Bench) {
    for number in 0..20 {
        let outcomes = at_once(bench, number, 8, open);
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        let others = outcomes.iter().filter(|outcome| **outcome == closed(CloseReason::AlreadyOpen)).count();
        assert_eq!(others, 7, "{outcomes:?}");
    }
}
