//! Redis out of reach for 20 s, cut off or silent: sessions with both apps on one node notice nothing, the others wait
//! and go on, no node takes harm or spins, and readiness tells the truth.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::group::Group;
use crate::many::all_at_once;
use crate::phones::{Told, summary};
use crate::support::fault_proxy::FaultProxy;
use crate::support::messages::Transfer;
use crate::support::party::Pair;
use crate::support::redis_server::process::RedisProcess;

const NODES: usize = 3;

/// How long Redis is away.
const AWAY: Duration = Duration::from_secs(20);

/// Processor time that a node may take meanwhile, in a debug build, some data and the questions of this test included.
const MOST_CPU: Duration = Duration::from_secs(2);

/// Handoffs in the middle when Redis goes.
const HANDOFFS: usize = 60;

/// How Redis goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    CutOff,
    Silent,
}

/// Data both ways, every second.
async fn talk_until(pair: &mut Pair, end: Instant) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    let (old, new) = (pair.old.as_mut().unwrap(), pair.new.as_mut().unwrap());
    while Instant::now() < end {
        seconds.tick().await;
        old.send_data(b"to new").await;
        assert_eq!(new.hear_data().await, b"to new");
        new.send_data(b"to old").await;
        assert_eq!(old.hear_data().await, b"to old");
    }
}

/// Both hear that they have each other again.
async fn meet_again(pair: &mut Pair) {
    for party in [&mut pair.old, &mut pair.new] {
        let party = party.as_mut().unwrap();
        party.hear("peer_offline").await;
        party.hear("peer_online").await;
    }
}

async fn without_redis(trouble: Trouble) {
    let redis = RedisProcess::start(&[]);
    let proxy = FaultProxy::start(redis.address(), 1).await;
    let group = Group::through(NODES, proxy.address(), "handoff").await;
    let mut together = Vec::new();
    let mut apart = Vec::new();
    for node in 0..NODES {
        together.push(Pair::joined(group.address(node), Transfer::usual()).await);
        let mut pair = Pair::waiting(group.address(node), Transfer::usual()).await;
        pair.address = group.address((node + 1) % NODES);
        pair.join().await;
        apart.push(pair);
    }
    let ends_meanwhile = Pair::joined(group.address(0), Transfer::usual()).await;
    let away = async || {
        let started = Instant::now();
        match trouble {
            Trouble::CutOff => proxy.cut_off(),
            Trouble::Silent => proxy.stall(true),
        }
        let before: Vec<Duration> = group.nodes().map(crate::support::relay::Relay::cpu_time).collect();
        let talk = join_all(together.iter_mut().map(|pair| talk_until(pair, started + AWAY)));
        let readiness = async {
            group.until_status(503).await;
            println!("{trouble:?}: no node is ready after {:.2?}", started.elapsed());
            ends_meanwhile.finish().await;
        };
        tokio::join!(talk, readiness);
        let cpu = group.nodes().zip(before).map(|(node, before)| node.cpu_time().saturating_sub(before));
        let cpu: Vec<Duration> = cpu.collect();
        println!("{trouble:?}: processor time of the nodes in {:.2?}: {cpu:?}", started.elapsed());
        assert!(cpu.iter().all(|time| *time < MOST_CPU), "{cpu:?}");
        group.until_status(503).await;
        let healed = Instant::now();
        match trouble {
            Trouble::CutOff => proxy.heal(),
            Trouble::Silent => proxy.stall(false),
        }
        group.until_ready().await;
        println!("{trouble:?}: all nodes are ready {:.2?} after Redis is back", healed.elapsed());
        for pair in &mut apart {
            meet_again(pair).await;
        }
        println!("{trouble:?}: apps at two nodes have each other again after {:.2?}", healed.elapsed());
    };
    let told: Vec<Told> = all_at_once(&group, HANDOFFS, away).await;
    println!("{trouble:?}: {}", summary(&told));
    assert_eq!(told.iter().map(|told| told.losses).sum::<usize>(), 0, "Redis is no reason to hang up");
    for pair in together.into_iter().chain(apart) {
        pair.finish().await;
    }
    group.until_quiet().await;
    let errors = group.sum("handoff_redis_errors_total").await;
    println!("{trouble:?}: {errors} errors counted, {} connections to Redis made", proxy.connections());
}

#[tokio::test]
async fn redis_cut_off_for_twenty_seconds_ends_no_session() {
    without_redis(Trouble::CutOff).await;
}

#[tokio::test]
async fn redis_silent_for_twenty_seconds_ends_no_session() {
    without_redis(Trouble::Silent).await;
}
