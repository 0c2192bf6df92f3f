//! All nodes of a relay restarted one after the other while people hand over: no handoff fails.

use std::cell::Cell;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::RngExt as _;
use rustix::process::Signal;

use crate::group::Group;
use crate::phones::{Plan, Step, Told, all_complete, hand_over, summary};
use crate::support::redis_server::process::RedisProcess;

const NODES: usize = 3;

/// Phones in each other's company at any moment.
const PAIRS: usize = 30;

/// A person takes so long at most to fetch the other phone, and again to type the code.
const MOST_THOUGHT: Duration = Duration::from_secs(6);

/// One handoff after the other until the restarts are over. People take their time: some handoffs of each node are in
/// the middle when it goes.
pub(crate) async fn keep_handing_over(plan: impl Fn() -> Plan, is_over: &Cell<bool>) -> Vec<Result<Told, String>> {
    let mut told = Vec::new();
    while !is_over.get() {
        let thinks = async |step| {
            if matches!(step, Step::Opened | Step::Code) {
                let thought = rand::rng().random_range(Duration::ZERO..=MOST_THOUGHT);
                tokio::time::sleep(thought).await;
            }
        };
        told.push(hand_over(plan(), thinks).await);
    }
    told
}

async fn restart(group: &mut Group, index: usize) {
    let started = Instant::now();
    let mut node = group.take(index);
    node.signal(Signal::TERM);
    let status = node.until_exit().await;
    let drained = started.elapsed();
    assert_eq!(status.code(), Some(0));
    assert!(!node.log().contains("panicked"), "{}", node.log());
    group.start_again(index).await;
    println!("node {index}: gone after {drained:.2?}, back and ready after {:.2?}", started.elapsed());
}

#[tokio::test]
async fn a_rolling_restart_under_load_fails_no_handoff() {
    let redis = RedisProcess::start(&[]);
    let settings = [crate::group::url(&redis.url()), "drain.grace=1s".to_owned(), "drain.window=2s".to_owned()];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let mut group = Group::start(NODES, &settings).await;
    let lists: Vec<_> = (0..NODES).map(|first| group.relays(first)).collect();
    let any = || lists[rand::rng().random_range(0..NODES)].clone();
    let plan = || Plan { old: any(), new: any(), bytes: rand::rng().random_range(0..=40 * 1024) };
    let is_over = Cell::new(false);
    let restarts = async {
        for index in 0..NODES {
            group.until_busy(10.0).await;
            restart(&mut group, index).await;
        }
        is_over.set(true);
    };
    let (told, ()) = tokio::join!(join_all((0..PAIRS).map(|_| keep_handing_over(plan, &is_over))), restarts);
    let told = all_complete(told.into_iter().flatten().collect());
    println!("rolling restart of {NODES} nodes: {}", summary(&told));
    assert!(told.iter().map(|told| told.losses).sum::<usize>() > 0, "nobody was sent elsewhere");
    group.until_quiet().await;
}
