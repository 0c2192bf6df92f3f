use super::redis_server::process::RedisProcess;
use super::redis_server::sentinel::Sentinels;
use super::*;
use crate::directory::contract::{closed, ended};
use crate::protocol::close::CloseReason;

const RESTORED: &str = "handoff_redis_routes_restored_total";

/// Two nodes on one server: session 1 was opened at the first and joined at the second, session 2 ended.
async fn two_nodes(settings: &Settings) -> (Node, Node) {
    let (first, second) = (Node::start(1, settings.clone()), Node::start(2, settings.clone()));
    first.until_settled().await;
    second.until_settled().await;
    first.attach(1, open(1)).await;
    second.attach(1, join(0, 2)).await;
    first.attach(2, open(1)).await;
    first.apply(2, Transition::End { reason: CloseReason::Completed }).await.unwrap().unwrap();
    (first, second)
}

/// Everything that the nodes knew is there again, the join that only the second saw included.
async fn assert_restored(first: &Node, second: &Node) {
    let at_first = first.eventually(1, resume(Role::Old, 1)).await.unwrap().unwrap();
    assert_eq!(at_first.peer.map(|peer| peer.node), Some(node(2)));
    let at_second = second.eventually(1, resume(Role::New, 2)).await.unwrap().unwrap();
    assert_eq!((at_second.epoch, at_second.peer.map(|peer| (peer.node, peer.epoch))), (2, Some((node(1), 2))));
    assert_eq!(second.eventually(2, resume(Role::Old, 1)).await, ended(CloseReason::Completed));
    assert!(first.eventually(1, join(0, 3)).await.is_err(), "nobody joins twice");
}

#[test]
fn a_redis_that_restarts_empty_gets_back_what_the_nodes_know() {
    watched(async |watch| {
        let mut redis = RedisProcess::start(&[]);
        let settings = settings(&[redis.url()], "handoff");
        let (mut first, mut second) = two_nodes(&settings).await;
        redis.stop();
        first.until_news(&News::Isolated).await;
        second.until_news(&News::Isolated).await;
        assert!(first.refuses(1, resume(Role::Old, 1)).await < Duration::from_millis(500), "known at once");
        // What nobody hears now must not be lost.
        first.refuses(1, Transition::Leave { role: Role::Old, epoch: 1 }).await;
        redis.restart();
        first.until_news(&News::Reconnected).await;
        second.until_news(&News::Reconnected).await;
        let seen = second.eventually(1, Transition::Look { role: Role::New, epoch: 1 }).await.unwrap().unwrap();
        assert_eq!(seen.peer.map(|peer| peer.online), Some(false));
        assert_restored(&first, &second).await;
        assert!(watch.value(RESTORED) >= 2.0);
        let away = watch.complaints().into_iter().filter(|line| line.contains("Redis is away")).count();
        assert!(away <= 4, "one or two kinds of trouble at two nodes: {:?}", watch.complaints());
    });
}

#[test]
fn a_redis_that_is_emptied_gets_back_what_the_nodes_know_and_nobody_is_told_wrong_meanwhile() {
    watched(async |watch| {
        let redis = RedisProcess::start(&[]);
        let settings = settings(&[redis.url()], "handoff");
        let (first, second) = two_nodes(&settings).await;
        first.attach(3, open(1)).await;
        first.apply(3, Transition::Leave { role: Role::Old, epoch: 1 }).await.unwrap().unwrap();
        redis.command::<()>(&["FLUSHALL"]);
        // The second node has never heard of it: at once it can only say that it does not know.
        second.refuses(3, resume(Role::Old, 1)).await;
        second.refuses(3, join(0, 2)).await;
        let resumed = second.eventually(3, resume(Role::Old, 1)).await.unwrap().unwrap();
        assert_eq!((resumed.epoch, resumed.previous), (2, Some(node(1))));
        assert_restored(&first, &second).await;
        assert_eq!(first.eventually(9, join(0, 2)).await, closed(CloseReason::UnknownSession));
        assert!(watch.value(RESTORED) >= 3.0);
        assert_eq!(watch.errors("refused").to_bits(), 0.0_f64.to_bits());
    });
}

#[test]
fn a_record_that_is_put_back_expires_when_it_would_have() {
    watched(async |_| {
        let redis = RedisProcess::start(&[]);
        let node = Node::on(&redis).await;
        node.attach(1, open(1)).await;
        let key = format!("handoff:session:{}", session(1).to_path_segment());
        let opened = clock();
        tokio::time::sleep(Duration::from_millis(300)).await;
        redis.command::<()>(&["FLUSHALL"]);
        node.eventually(1, resume(Role::Old, 1)).await.unwrap();
        let left = Duration::from_millis(redis.command(&["PTTL", &key]));
        assert!(left + opened.elapsed() < Duration::from_millis(50_500), "{left:?}");
    });
}

#[test]
fn a_failover_loses_nothing_that_a_node_knows() {
    watched(async |watch| {
        let mut sentinels = Sentinels::start();
        let topology = Topology::Sentinel { master: Sentinels::MASTER_NAME.to_owned() };
        let settings = Settings { topology, ..settings(&sentinels.urls(), "handoff") };
        let (mut first, second) = two_nodes(&settings).await;
        // In good order; while it lasts, the old master takes writes that nobody will see.
        let (_, ()) = tokio::join!(sentinels.fail_over(), async {
            for number in 10..60 {
                first.eventually(number, open(1)).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        assert_restored(&first, &second).await;
        for number in 10..60 {
            second.eventually(number, resume(Role::Old, 1)).await.unwrap();
        }
        // And after a crash.
        sentinels.kill_master().await;
        first.until_news(&News::Isolated).await;
        first.eventually(3, open(1)).await.unwrap();
        second.eventually(3, join(0, 2)).await.unwrap();
        for number in 10..60 {
            first.eventually(number, resume(Role::Old, 1)).await.unwrap();
        }
        assert!(watch.value(RESTORED) >= 1.0);
        // A sentinel that says nothing is passed over.
        sentinels.sentinels()[0].pause();
        let third = Node::start(3, settings);
        third.until_ready().await;
        third.eventually(10, resume(Role::Old, 1)).await.unwrap();
        sentinels.sentinels()[0].resume();
    });
}

#[test]
fn what_an_old_master_took_after_its_time_is_put_back() {
    watched(async |watch| {
        // Two servers that the node takes for one after the other, as a sentinel that is late would tell it.
        let (old, mut new) = (RedisProcess::start(&[]), RedisProcess::start(&[]));
        let node = Node::on(&old).await;
        node.until_settled().await;
        node.attach(1, open(1)).await;
        let (host, port) = ("127.0.0.1", old.port().to_string());
        new.command::<()>(&["REPLICAOF", host, &port]);
        let in_step = || new.command::<String>(&["INFO", "replication"]).contains("master_link_status:up");
        until("the replica is in step", in_step).await;
        new.command::<()>(&["REPLICAOF", "NO", "ONE"]);
        // Now there are two masters, and the node talks to the one that will lose.
        node.attach(1, join(0, 2)).await;
        node.attach(2, open(1)).await;
        let port = new.port().to_string();
        old.command::<()>(&["REPLICAOF", host, &port]);
        node.until_away().await;
        until("the loser is in step", || {
            old.command::<String>(&["INFO", "replication"]).contains("master_link_status:up")
        })
        .await;
        assert_eq!(old.command::<u64>(&["EXISTS", &format!("handoff:session:{}", session(2).to_path_segment())]), 0);
        assert!(watch.errors("read_only") >= 1.0);
        new.stop();
        old.command::<()>(&["REPLICAOF", "NO", "ONE"]);
        let resumed = node.eventually(1, resume(Role::New, 2)).await.unwrap().unwrap();
        assert_eq!((resumed.epoch, resumed.peer.map(|peer| peer.epoch)), (2, Some(1)));
        node.eventually(2, resume(Role::Old, 1)).await.unwrap();
        assert!(watch.value(RESTORED) >= 2.0);
    });
}
