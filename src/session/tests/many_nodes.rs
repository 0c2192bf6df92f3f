//! What a session does when its parties are on different nodes. Each test tells one story.

use super::cluster::{Cluster, Gauge, Heard, Who};
use super::rig::{LIFETIME, join, open_with, resume};
use crate::protocol::close::CloseReason;
use crate::protocol::message::{CancelReason, ClientMessage, ServerMessage};
use crate::session::ConnectionId;

const WAITING: Gauge = Gauge { waiting: 1, joined: 0 };
const JOINED: Gauge = Gauge { waiting: 0, joined: 1 };
const NOTHING: Gauge = Gauge { waiting: 0, joined: 0 };

fn old_at(cluster: &mut Cluster, at: usize) -> ConnectionId {
    cluster.connect(at, Who::Old, open_with(LIFETIME, 1))
}

fn new_at(cluster: &mut Cluster, at: usize) -> ConnectionId {
    cluster.connect(at, Who::New, join(0, 1))
}

/// Old on the first node, new on the second.
fn apart() -> (Cluster, ConnectionId, ConnectionId) {
    let mut cluster = Cluster::new(3);
    let (old, new) = (old_at(&mut cluster, 0), new_at(&mut cluster, 1));
    cluster.deliver_all();
    (cluster, old, new)
}

fn heard(cluster: &mut Cluster, who: Who) -> Vec<Heard> {
    let heard = std::mem::take(&mut cluster.heard);
    let (its, others): (Vec<_>, Vec<_>) = heard.into_iter().partition(|(hears, _)| *hears == who);
    cluster.heard = others.into();
    its.into_iter().map(|(_, heard)| heard).collect()
}

fn closes(cluster: &mut Cluster, who: Who) -> Vec<CloseReason> {
    let reason = |heard| if let Heard::Closed(reason) = heard { Some(reason) } else { None };
    heard(cluster, who).into_iter().filter_map(reason).collect()
}

fn says_online(heard: &[Heard]) -> bool {
    heard.contains(&Heard::Message(ServerMessage::PeerOnline {}))
}

fn gauges(cluster: &Cluster) -> Vec<Gauge> {
    cluster.nodes.iter().map(|node| node.gauge).collect()
}

#[test]
fn frames_go_from_node_to_node() {
    let (mut cluster, old, new) = apart();
    cluster.send(1, new, &[1, 1]);
    cluster.send(0, old, &[0, 2]);
    cluster.deliver_all();
    assert!(matches!(&heard(&mut cluster, Who::Old)[..], [.., Heard::Data(frame)] if frame[..] == [1, 1]));
    assert!(matches!(&heard(&mut cluster, Who::New)[..], [.., Heard::Data(frame)] if frame[..] == [0, 2]));
}

#[test]
fn a_session_is_counted_once_where_old_is() {
    let (mut cluster, ..) = apart();
    assert_eq!(gauges(&cluster), [JOINED, NOTHING, NOTHING]);
    cluster.connect(2, Who::Old, resume(0));
    cluster.deliver_all();
    assert_eq!(gauges(&cluster), [NOTHING, NOTHING, JOINED]);
    let mut back = Cluster::new(2);
    old_at(&mut back, 0);
    back.connect(1, Who::Old, resume(0));
    back.letters.clear();
    back.connect(0, Who::Old, resume(0));
    assert_eq!(gauges(&back)[0], WAITING, "it never heard that old had left");
}

#[test]
fn who_resumes_elsewhere_is_superseded_where_it_was() {
    let (mut cluster, ..) = apart();
    cluster.heard.clear();
    cluster.connect(2, Who::Old, resume(0));
    cluster.deliver_all();
    assert_eq!(closes(&mut cluster, Who::Old), [CloseReason::Superseded]);
    assert!(says_online(&heard(&mut cluster, Who::New)));
}

#[test]
fn an_old_connection_is_closed_also_if_only_the_record_tells() {
    let mut cluster = Cluster::new(2);
    let old = old_at(&mut cluster, 0);
    let new = new_at(&mut cluster, 0);
    cluster.vanish(0, old);
    let moved = cluster.connect(1, Who::Old, resume(0));
    cluster.letters.clear();
    cluster.send(1, moved, &[0, 2]);
    cluster.deliver_all();
    cluster.heard.clear();
    cluster.send(0, new, &[1, 1]);
    cluster.deliver_all();
    assert!(heard(&mut cluster, Who::Old).contains(&Heard::Data([1, 1][..].to_vec().into())));
}

#[test]
fn late_news_of_an_older_attachment_changes_nothing() {
    let (mut cluster, ..) = apart();
    let third = cluster.connect(2, Who::Old, resume(0));
    let late = cluster.letters.clone();
    cluster.deliver_all();
    cluster.hang_up(2, third);
    let back = cluster.connect(1, Who::Old, resume(0));
    cluster.hang_up(1, back);
    cluster.deliver_all();
    cluster.heard.clear();
    cluster.letters = late;
    cluster.deliver_all();
    assert_eq!(heard(&mut cluster, Who::New), []);
}

#[test]
fn a_party_that_was_taken_for_gone_takes_its_seat_again() {
    let (mut cluster, old, new) = apart();
    cluster.remembers = true;
    cluster.isolate(1);
    cluster.send(0, old, &[0, 2]);
    cluster.deliver_all();
    cluster.put_back(1);
    cluster.deliver_all();
    cluster.heard.clear();
    cluster.send(0, old, &[0, 2]);
    cluster.send(1, new, &[1, 1]);
    cluster.deliver_all();
    assert_eq!(cluster.heard.len(), 2, "both frames arrive");
}

#[test]
fn a_dead_node_is_noticed_and_its_party_leaves() {
    let (mut cluster, old, _) = apart();
    cluster.crash(1);
    cluster.heard.clear();
    cluster.send(0, old, &[0, 2]);
    cluster.deliver_all();
    assert_eq!(heard(&mut cluster, Who::Old), [Heard::Message(ServerMessage::PeerOffline {})]);
}

#[test]
fn old_hears_of_a_join_that_was_told_before_its_own_answer() {
    let mut cluster = Cluster::new(3);
    let old = old_at(&mut cluster, 0);
    cluster.hang_up(0, old);
    cluster.late = true;
    cluster.connect(2, Who::Old, resume(0));
    cluster.late = false;
    new_at(&mut cluster, 1);
    cluster.deliver_all();
    cluster.heard.clear();
    cluster.answer(2);
    let heard = heard(&mut cluster, Who::Old);
    let [Heard::Message(ServerMessage::Resumed { joined, .. })] = &heard[..] else { panic!("{heard:?}") };
    assert!(joined.is_some());
}

#[test]
fn a_second_scan_on_a_third_node_ends_both() {
    let (mut cluster, ..) = apart();
    cluster.connect(2, Who::Stranger, join(0, 2));
    cluster.deliver_all();
    for who in [Who::Old, Who::New, Who::Stranger] {
        assert_eq!(closes(&mut cluster, who), [CloseReason::ScannedTwice], "{who:?}");
    }
    assert_eq!(gauges(&cluster), [NOTHING; 3]);
}

#[test]
fn a_join_and_its_end_that_were_never_told_are_seen_with_the_next_tick() {
    let mut cluster = Cluster::new(2);
    let old = old_at(&mut cluster, 0);
    let new = new_at(&mut cluster, 1);
    cluster.say(1, new, ClientMessage::Cancel { reason: CancelReason::User });
    cluster.letters.clear();
    cluster.look(0, old);
    assert_eq!(closes(&mut cluster, Who::Old), [CloseReason::CancelledByNew]);
}

#[test]
fn a_late_answer_does_not_move_the_deadline() {
    let mut cluster = Cluster::new(2);
    old_at(&mut cluster, 0);
    cluster.late = true;
    new_at(&mut cluster, 1);
    cluster.late = false;
    cluster.reach_the_deadline();
    assert!(!cluster.marks.open_too_long);
}
