//! Two copies of one session's record made one: after a directory lost its newest state, or all of it, the nodes put
//! back what they know, in any order.

use super::{Route, Seat};
use crate::protocol::close::CloseReason;
use crate::protocol::message::JoinedPeer;

impl Route {
    /// What both copies know together. What is further wins, field by field, so that the order of merging and stale
    /// copies do not matter. Two copies that contradict each other end the session: somebody joined, or opened, twice.
    #[must_use]
    pub fn merge(mut self, other: &Self) -> Self {
        let contradiction = self.contradiction(other);
        self.old.merge(&other.old);
        self.new = match (self.new, &other.new) {
            (Some((mut seat, joined)), Some((theirs, _))) => {
                seat.merge(theirs);
                Some((seat, joined))
            }
            (ours, theirs) => ours.or_else(|| theirs.clone()),
        };
        self.resumes = self.resumes.max(other.resumes);
        if let Some(reason) = self.ended.or(other.ended).or(contradiction) {
            self.finish(reason);
        }
        self
    }

    fn contradiction(&self, other: &Self) -> Option<CloseReason> {
        let is_new = |(seat, _): &(Seat, JoinedPeer)| seat.resume_hash.clone();
        match (self.new.as_ref().map(is_new), other.new.as_ref().map(is_new)) {
            _ if self.old.resume_hash != other.old.resume_hash => Some(CloseReason::VerificationFailed),
            _ if self.offer.public_key != other.offer.public_key => Some(CloseReason::VerificationFailed),
            (Some(ours), Some(theirs)) if ours != theirs => Some(CloseReason::ScannedTwice),
            _ => None,
        }
    }
}

impl Seat {
    /// The newer attachment wins; of one attachment, its end.
    fn merge(&mut self, other: &Self) {
        if other.place.epoch > self.place.epoch {
            self.place = other.place;
        } else if other.place.epoch == self.place.epoch {
            self.place.online &= other.place.online;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::protocol::Role;
    use crate::protocol::ids::{JoinHash, JoinProof, PublishedKey, ResumeHash, ResumeToken};
    use crate::session::network_tag::{NetworkTag, Refuse};
    use crate::session::node::NodeId;
    use crate::session::route::{Offer, Rules, Transition};

    fn hash(app: u8) -> ResumeHash {
        ResumeHash::of(&ResumeToken::new([app; 32]))
    }

    fn apply(route: &mut Option<Route>, transition: Transition, node: u8) {
        let rules =
            Rules { node: NodeId::from_random([node; 16]), lifetime: Duration::from_mins(3), refuse: Refuse::Nothing };
        drop(Route::apply(route, transition, rules, Duration::ZERO));
    }

    fn opened() -> Route {
        let offer = Offer {
            public_key: PublishedKey::new(vec![4; 65]).unwrap(),
            join_hashes: vec![JoinHash::of(&JoinProof::new([0; 32]))],
            interval: Duration::from_mins(3),
        };
        let mut route = None;
        apply(&mut route, Transition::Open { offer, resume_hash: hash(1), tag: NetworkTag::UNKNOWN, trace: None }, 1);
        route.unwrap()
    }

    fn then(route: &Route, transition: Transition, node: u8) -> Route {
        let mut route = Some(route.clone());
        apply(&mut route, transition, node);
        route.unwrap()
    }

    fn join(app: u8) -> Transition {
        let hash = JoinHash::of(&JoinProof::new([0; 32]));
        Transition::Join { frame: 0, hash, resume_hash: self::hash(app), tag: NetworkTag::UNKNOWN }
    }

    fn resume(role: Role, app: u8) -> Transition {
        Transition::Resume { role, hash: hash(app) }
    }

    #[test]
    fn a_copy_from_before_the_join_does_not_undo_it() {
        let before = opened();
        let after = then(&before, join(2), 2);
        assert_eq!(before.clone().merge(&after), after);
        assert_eq!(after.clone().merge(&before), after);
    }

    #[test]
    fn the_end_is_never_undone_and_its_first_reason_stays() {
        let before = opened();
        let ended = then(&before, Transition::End { reason: CloseReason::CancelledByOld }, 1);
        let ended_otherwise = then(&before, Transition::End { reason: CloseReason::Completed }, 1);
        assert_eq!(before.merge(&ended), ended);
        assert_eq!(ended.clone().merge(&ended_otherwise), ended);
    }

    #[test]
    fn two_copies_with_two_joins_end_the_session() {
        let before = opened();
        let merged = then(&before, join(2), 2).merge(&then(&before, join(3), 3));
        assert_eq!(merged.ended, Some(CloseReason::ScannedTwice));
    }

    #[test]
    fn two_sessions_under_one_id_end_both() {
        let ours = opened();
        let mut theirs = opened();
        theirs.old.resume_hash = hash(9);
        assert_eq!(ours.clone().merge(&theirs).ended, Some(CloseReason::VerificationFailed));
        assert_eq!(theirs.merge(&ours).ended, Some(CloseReason::VerificationFailed));
    }

    fn step() -> impl Strategy<Value = (Transition, u8)> {
        let transition = prop_oneof![
            Just(join(2)),
            Just(resume(Role::Old, 1)),
            Just(resume(Role::New, 2)),
            (0..4_u64).prop_map(|epoch| Transition::Leave { role: Role::Old, epoch }),
            (0..4_u64).prop_map(|epoch| Transition::Leave { role: Role::New, epoch }),
            Just(Transition::End { reason: CloseReason::Completed }),
        ];
        (transition, 1..4_u8)
    }

    proptest! {
        #[test]
        fn any_earlier_copy_adds_nothing_to_a_later_one(steps in proptest::collection::vec(step(), 0..12)) {
            let mut history = vec![opened()];
            for (transition, node) in steps {
                history.push(then(history.last().unwrap(), transition, node));
            }
            let newest = history.last().unwrap();
            for copy in &history {
                prop_assert_eq!(&newest.clone().merge(copy), newest);
                prop_assert_eq!(&copy.clone().merge(newest), newest);
            }
        }
    }
}
