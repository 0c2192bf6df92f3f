//! 500 handoffs in flight at once on three nodes, with the phones of each on any two of them; and two relays on one
//! Redis, which know nothing of each other.

use futures_util::future::join_all;
use handoff_relay::protocol::Role;
use handoff_relay::protocol::close::CloseReason;
use rand::RngExt as _;
use tokio::sync::Barrier;

use crate::group::Group;
use crate::phones::{Plan, Step, Told, all_complete, hand_over, summary};
use crate::support::messages::Transfer;
use crate::support::party::{Pair, Party};
use crate::support::redis_server::cluster::Cluster;
use crate::support::redis_server::process::RedisProcess;

const IN_FLIGHT: usize = 500;
const NODES: usize = 3;

/// A handoff between phones on any two nodes.
fn any_plan(group: &Group) -> Plan {
    let mut rng = rand::rng();
    let [old, new] = [(); 2].map(|()| group.relays(rng.random_range(0..NODES)));
    Plan { old, new, bytes: rng.random_range(0..=20 * 1024) }
}

/// All of them at once: nobody scans before all have opened, and nobody types before all have joined. `at_code` runs
/// while every handoff is in the middle.
pub(crate) async fn all_at_once(group: &Group, count: usize, at_code: impl AsyncFnOnce()) -> Vec<Told> {
    let [opened, joined, go_on] = [(); 3].map(|()| Barrier::new(count + 1));
    let handoffs = (0..count).map(|_| {
        hand_over(any_plan(group), async |step| match step {
            Step::Opened => {
                opened.wait().await;
            }
            Step::Code => {
                joined.wait().await;
                go_on.wait().await;
            }
            _ => {}
        })
    });
    let watch = async {
        opened.wait().await;
        joined.wait().await;
        at_code().await;
        go_on.wait().await;
    };
    let (told, ()) = tokio::join!(join_all(handoffs), watch);
    all_complete(told)
}

/// How many sessions each node has, and what all nodes together have done.
async fn check_counts(group: &Group, count: usize) {
    let wanted = f64::from(u32::try_from(count).unwrap());
    for metric in ["handoff_sessions_opened_total", "handoff_sessions_joined_total", "handoff_sessions_ended_total"] {
        let total = group.sum(metric).await;
        assert!((total - wanted).abs() < 0.5, "{metric}: {total}");
    }
    let completed = group.sum("handoff_sessions_ended_total{reason=\"completed\"}").await;
    assert!((completed - wanted).abs() < 0.5, "{completed} completed");
}

#[tokio::test]
async fn five_hundred_handoffs_in_flight_across_three_nodes_all_complete() {
    let redis = RedisProcess::start(&[]);
    let group = Group::on_redis(NODES, &redis, "handoff").await;
    let told = all_at_once(&group, IN_FLIGHT, async || {
        group.until_sum("handoff_sessions{state=\"joined\"}", 500.0).await;
        group.until_sum("handoff_connections", 1000.0).await;
        for (index, metrics) in group.metrics().await.iter().enumerate() {
            let (sessions, connections) = (metrics.sum("handoff_sessions"), metrics.sum("handoff_connections"));
            println!("node {index}: {sessions} sessions at home, {connections} connections");
        }
    });
    let told = told.await;
    println!("three nodes, {IN_FLIGHT} at once: {}", summary(&told));
    group.until_quiet().await;
    check_counts(&group, IN_FLIGHT).await;
}

#[tokio::test]
async fn two_relays_on_one_redis_serve_the_same_ids_without_hearing_each_other() {
    let redis = RedisProcess::start(&[]);
    let (a, b) = (Group::on_redis(NODES, &redis, "relay-a").await, Group::on_redis(NODES, &redis, "relay-b").await);
    let both = async || {
        let [a, b] = [a.sum("handoff_sessions").await, b.sum("handoff_sessions").await];
        println!("relay a has {a} sessions, relay b {b}");
    };
    let half = IN_FLIGHT / 2;
    let (in_a, in_b) = tokio::join!(all_at_once(&a, half, async || {}), all_at_once(&b, half, both));
    println!("relay a: {}\nrelay b: {}", summary(&in_a), summary(&in_b));
    for group in [&a, &b] {
        group.until_quiet().await;
        check_counts(group, half).await;
    }

    // A session of one is unknown at the other; and both may have one of the same id.
    let transfer = Transfer::usual();
    let mut here = Pair::waiting(a.address(0), transfer.clone()).await;
    let mut stranger = Party::connect(b.address(1), &transfer.session, Role::New, &transfer.join(0)).await;
    stranger.hear_end(CloseReason::UnknownSession).await;
    let mut stranger = Party::connect(b.address(2), &transfer.session, Role::Old, &transfer.resume(Role::Old)).await;
    stranger.hear_end(CloseReason::NothingToResume).await;
    let there = Pair::joined(b.address(0), transfer).await;
    here.address = a.address(1);
    here.join().await;
    there.finish().await;
    here.finish().await;
}

#[tokio::test]
async fn handoffs_complete_on_a_redis_cluster_of_three_masters() {
    const COUNT: usize = 150;
    let mut cluster = Cluster::start();
    let group = Group::on_cluster(NODES, &cluster).await;
    let mut keys = Vec::new();
    let told = all_at_once(&group, COUNT, async || {
        keys = cluster.nodes().iter().map(|node| node.command::<u64>(&["DBSIZE"])).collect();
    });
    let told = told.await;
    println!("cluster, {COUNT} at once: {}; keys at the masters: {keys:?}", summary(&told));
    assert!(keys.iter().all(|keys| *keys > 0), "{keys:?}");
    group.until_quiet().await;
    check_counts(&group, COUNT).await;
}
