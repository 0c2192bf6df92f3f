//! A node killed at every step of handoffs that it takes part in: all complete on the others, each once.

use std::cell::Cell;

use futures_util::future::join_all;

use crate::group::Group;
use crate::phones::{Plan, Step, Told, all_complete, hand_over, summary};
use crate::support::redis_server::process::RedisProcess;

/// Of one step, and one choice of nodes. The node is killed when the first of them is there; the others are near.
const AT_ONCE: usize = 5;

/// The node that is killed.
const VICTIM: usize = 0;

/// Several windows of frames.
const BYTES: usize = 100 * 1024;

/// Kills the victim when the first of these handoffs has come so far.
async fn kill_at(group: &mut Group, step: Step, old: usize, new: usize) -> Vec<Told> {
    let plan = Plan { old: group.relays(old), new: group.relays(new), bytes: BYTES };
    let is_killed = Cell::new(false);
    let victim = Cell::new(Some(group.take(VICTIM)));
    let handoffs = (0..AT_ONCE).map(|_| {
        hand_over(plan.clone(), async |reached| {
            if reached == step && !is_killed.replace(true) {
                drop(victim.take());
            }
        })
    });
    let told = all_complete(join_all(handoffs).await);
    assert!(is_killed.get(), "nobody has come to {step:?}");
    told
}

/// Every step, with the phones at these nodes. The victim comes back before the next step.
async fn kill_at_every_step(redis: &RedisProcess, prefix: &str, old: usize, new: usize) {
    let mut group = Group::on_redis(3, redis, prefix).await;
    for step in Step::ALL {
        let told = kill_at(&mut group, step, old, new).await;
        println!("killed at {step:?}, old at node {old}, new at node {new}: {}", summary(&told));
        group.start_again(VICTIM).await;
    }
    group.until_sum("handoff_connections", 0.0).await;
}

#[tokio::test]
async fn a_killed_node_costs_no_handoff_at_any_step() {
    let redis = RedisProcess::start(&[]);
    tokio::join!(
        kill_at_every_step(&redis, "both", VICTIM, VICTIM),
        kill_at_every_step(&redis, "old", VICTIM, 1),
        kill_at_every_step(&redis, "new", 1, VICTIM),
    );
}
