//! Redis loses what it knew, all of it or the newest: the nodes put back the records of their sessions, with the same
//! deadline and the same one join; and a session that no node knows any more ends with its reason at once.

use std::cell::Cell;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use handoff_relay::client::{Connector, EndReason, OldApp, OldEvent, OldOutcome, OldSettings};
use handoff_relay::crypto::{Credential, DeviceInfo};
use handoff_relay::protocol::Role::{New, Old};
use handoff_relay::protocol::close::CloseReason;
use handoff_relay::protocol::qr::RelayRef;
use rand::RngExt as _;

use crate::group::{Group, RELAY};
use crate::many::all_at_once;
use crate::phones::{Plan, all_complete, hand_over, summary};
use crate::rolling::keep_handing_over;
use crate::support::eventually;
use crate::support::messages::Transfer;
use crate::support::party::{Pair, Party};
use crate::support::redis_server::process::RedisProcess;
use crate::support::redis_server::sentinel::Sentinels;

const NODES: usize = 3;

/// What the relay and the phone may be apart when they say how much time is left.
const CLOCKS: Duration = Duration::from_millis(1500);

/// Time within which a phone hears that its session is lost: nodes that saw a loss wait 3 s for each other, and ask
/// phones to come back after a second.
const AT_ONCE: Duration = Duration::from_secs(10);

/// One session with its apps at two nodes.
async fn joined(group: &Group, old: usize, new: usize) -> Pair {
    let mut pair = Pair::waiting(group.address(old), Transfer::usual()).await;
    pair.address = group.address(new);
    pair.join().await;
    pair
}

fn frame_shown(pair: &Pair) -> usize {
    let elapsed = u64::try_from(pair.opened_at.elapsed().as_millis()).unwrap();
    usize::try_from(elapsed / pair.transfer.interval_ms).unwrap()
}

/// Resumes old at another node; the deadline must be the one of the beginning.
async fn check_deadline(pair: &mut Pair, node: std::net::SocketAddr) -> Duration {
    pair.address = node;
    let mut old = pair.party(Old, &pair.transfer.resume(Old)).await;
    let left = old.hear("resumed").await["expires_in_ms"].as_u64().unwrap();
    let wanted = Duration::from_mins(3).saturating_sub(pair.opened_at.elapsed());
    let left = Duration::from_millis(left);
    assert!(left.abs_diff(wanted) < CLOCKS, "{left:?} left and not {wanted:?}");
    pair.old = Some(old);
    left.abs_diff(wanted)
}

/// Somebody else joins a session that new has joined.
async fn join_again(pair: &mut Pair, node: std::net::SocketAddr) {
    let join = pair.transfer.join_of_another(frame_shown(pair));
    let mut stranger = Party::connect(node, &pair.transfer.session, New, &join).await;
    stranger.hear_end(CloseReason::ScannedTwice).await;
    for party in [&mut pair.old, &mut pair.new] {
        party.as_mut().unwrap().hear_end(CloseReason::ScannedTwice).await;
    }
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_gets_every_record_back() {
    const HANDOFFS: usize = 100;
    let mut redis = RedisProcess::start(&[]);
    let group = Group::on_redis(NODES, &redis, "handoff").await;
    let mut waiting = Pair::waiting(group.address(0), Transfer::usual()).await;
    let mut twice = joined(&group, 0, 1).await;
    let done = joined(&group, 1, 2).await;
    let done_transfer = done.transfer.clone();
    done.finish().await;
    let lose = async || {
        let records: u64 = redis.command(&["DBSIZE"]);
        let started = Instant::now();
        redis.restart();
        eventually("records", async || redis.command::<u64>(&["DBSIZE"]), |now| *now == records).await;
        let (took, restored) = (started.elapsed(), group.sum("handoff_redis_routes_restored_total").await);
        println!("emptied: all {} records are back after {took:.2?}, in {restored} writes", records - 1);
        group.until_settled().await;
        println!("emptied: joins are decided again after {:.2?}", started.elapsed());
        let apart = check_deadline(&mut waiting, group.address(2)).await;
        println!("emptied: a deadline is {apart:.2?} from where it was");
        waiting.join().await;
        join_again(&mut twice, group.address(2)).await;
        let mut late = Party::connect(group.address(0), &done_transfer.session, New, &done_transfer.resume(New)).await;
        late.hear_end(CloseReason::Completed).await;
    };
    let told = all_at_once(&group, HANDOFFS, lose).await;
    println!("emptied: {}", summary(&told));
    waiting.finish().await;
    group.until_quiet().await;
}

/// What only a killed node knew, and Redis has lost, nobody can put back.
#[tokio::test]
async fn what_nobody_can_put_back_is_told_at_once() {
    const SESSIONS: usize = 20;
    let mut redis = RedisProcess::start(&[]);
    let mut group = Group::on_redis(NODES, &redis, "handoff").await;
    let (relays, victim) = (group.relays(0), Cell::new(None));
    let lonely = async || {
        let settings = OldSettings::new(RelayRef::Listed(RELAY), DeviceInfo::new("old", "1").unwrap());
        let old = OldApp::new(relays.clone(), Connector::plain());
        let mut old = old.start(settings, Credential::new(vec![1; 100])).unwrap();
        old.next_event_where(|event| matches!(event, OldEvent::QrShown { .. })).await.unwrap();
        old
    };
    let lonely = join_all((0..SESSIONS).map(|_| lonely())).await;
    let plan = Plan { old: group.relays(0), new: group.relays(1), bytes: 5000 };
    let (began, go_on) = (tokio::sync::Barrier::new(SESSIONS + 1), tokio::sync::Barrier::new(SESSIONS + 1));
    let shared = (0..SESSIONS).map(|_| {
        hand_over(plan.clone(), async |step| {
            if step == crate::phones::Step::Code {
                began.wait().await;
                go_on.wait().await;
            }
        })
    });
    let lose = async {
        began.wait().await;
        victim.set(Some(group.take(0)));
        drop(victim.take());
        redis.restart();
        let started = Instant::now();
        go_on.wait().await;
        let outcomes = join_all(lonely.into_iter().map(handoff_relay::client::OldHandle::join)).await;
        (outcomes, started.elapsed())
    };
    let (told, (outcomes, took)) = tokio::join!(join_all(shared), lose);
    let told = all_complete(told);
    println!("lost with their node and Redis: {} sessions, told after {took:.2?}", outcomes.len());
    println!("known to another node as well: {}", summary(&told));
    assert!(outcomes.iter().all(|outcome| *outcome == OldOutcome::Ended(EndReason::SessionLost)), "{outcomes:?}");
    assert!(took < AT_ONCE, "{took:?}");
    group.until_sum("handoff_connections", 0.0).await;
}

#[tokio::test]
async fn a_sentinel_failover_under_load_fails_no_handoff() {
    const PAIRS: usize = 30;
    let mut sentinels = Sentinels::start();
    let group = Group::on_sentinels(NODES, &sentinels).await;
    let mut waiting = Pair::waiting(group.address(0), Transfer::usual()).await;
    let mut twice = joined(&group, 0, 1).await;
    let is_over = Cell::new(false);
    let any = || group.relays(rand::rng().random_range(0..NODES));
    let plan = || Plan { old: any(), new: any(), bytes: rand::rng().random_range(0..=40 * 1024) };
    let fail_over = async {
        group.until_busy(10.0).await;
        let started = Instant::now();
        sentinels.kill_master().await;
        let elected = started.elapsed();
        group.until_settled().await;
        let restored = group.sum("handoff_redis_routes_restored_total").await;
        println!(
            "failover: another master after {elected:.2?}, joins decided again after {:.2?}, {restored} records put back",
            started.elapsed()
        );
        let apart = check_deadline(&mut waiting, group.address(2)).await;
        println!("failover: a deadline is {apart:.2?} from where it was");
        join_again(&mut twice, group.address(2)).await;
        waiting.join().await;
        is_over.set(true);
    };
    let (told, ()) = tokio::join!(join_all((0..PAIRS).map(|_| keep_handing_over(plan, &is_over))), fail_over);
    let told = all_complete(told.into_iter().flatten().collect());
    println!("failover: {}", summary(&told));
    waiting.finish().await;
    group.until_quiet().await;
}
