use tokio::net::TcpListener;

use super::redis_server::process::RedisProcess;
use super::*;
use crate::protocol::close::CloseReason;

/// How often a node tries to connect in three seconds at most: every half second.
const MOST_ATTEMPTS: u64 = 7;

fn connections(redis: &RedisProcess) -> u64 {
    let info: String = redis.command(&["INFO", "stats"]);
    let line = info.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn a_redis_that_nobody_reaches_is_tried_again_without_haste_and_reached_when_it_is_there() {
    watched(async |watch| {
        let mut redis = RedisProcess::start(&[]);
        redis.stop();
        let listener = TcpListener::bind(redis.address()).await.unwrap();
        let mut node = Node::start(1, settings(&[redis.url()], "handoff"));
        let attempts = async {
            let mut attempts = 0;
            while let Ok((connection, _)) = listener.accept().await {
                attempts += 1;
                drop(connection);
                if attempts > MOST_ATTEMPTS {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(3), attempts).await.unwrap_err();
        drop(listener);
        for _ in 0..100 {
            assert!(node.refuses(1, open(1)).await < Duration::from_millis(100));
        }
        assert!(!node.directory.is_ready());
        assert!(watch.errors("unreachable") >= 100.0);
        let complaints = watch.complaints();
        assert!(complaints.len() <= 2, "one for each kind of trouble: {complaints:?}");
        redis.restart();
        node.until_news(&News::Reconnected).await;
        node.eventually(1, open(1)).await.unwrap();
        assert_eq!(watch.value("handoff_redis_up").to_bits(), 1.0_f64.to_bits());
    });
}

#[test]
fn a_redis_that_is_frozen_is_given_up_within_seconds_and_taken_back() {
    watched(async |watch| {
        let redis = RedisProcess::start(&[]);
        let mut node = Node::on(&redis).await;
        node.until_settled().await;
        node.attach(1, open(1)).await;
        redis.pause();
        let waited = node.refuses(1, resume(Role::Old, 1)).await;
        assert!((TIMEOUT / 2..=2 * TIMEOUT + Duration::from_secs(1)).contains(&waited), "{waited:?}");
        let frozen = clock();
        node.until_news(&News::Isolated).await;
        assert!(frozen.elapsed() < 3 * TIMEOUT, "a check every second, and the time that it may take");
        assert!(node.refuses(1, resume(Role::Old, 1)).await < Duration::from_millis(100), "and then at once");
        assert!(watch.errors("timeout") >= 1.0);
        redis.resume();
        node.until_news(&News::Reconnected).await;
        // The lost answers may have been made, once each.
        let resumed = node.eventually(1, resume(Role::Old, 1)).await.unwrap().unwrap();
        assert!((2..=3).contains(&resumed.epoch), "{resumed:?}");
        assert!(watch.complaints().len() <= 3, "{:?}", watch.complaints());
    });
}

#[test]
fn a_full_redis_takes_no_new_sessions_until_there_is_room() {
    watched(async |watch| {
        let redis = RedisProcess::start(&["--maxmemory-policy", "noeviction"]);
        let node = Node::on(&redis).await;
        node.attach(1, open(1)).await;
        redis.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
        for number in 2..5 {
            assert!(node.refuses(number, open(1)).await < Duration::from_millis(500));
        }
        node.until_away().await;
        assert!(watch.errors("out_of_memory") >= 3.0);
        // What is there can be looked at, and ends are noted here.
        node.attach(1, Transition::Look { role: Role::Old, epoch: 1 }).await;
        node.refuses(1, Transition::End { reason: CloseReason::Completed }).await;
        assert_eq!(watch.complaints().len(), 1, "{:?}", watch.complaints());
        redis.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
        node.until_ready().await;
        node.eventually(2, open(1)).await.unwrap();
        // Written by now, so that another node knows it too.
        let other = Node::start(2, settings(&[redis.url()], "handoff"));
        let is_over = Err(crate::session::route::Refusal::Ended(CloseReason::Completed));
        assert_eq!(other.eventually(1, resume(Role::Old, 1)).await, is_over);
        assert_eq!(watch.value("handoff_redis_connects_total").to_bits(), 2.0_f64.to_bits(), "nobody was cut off");
    });
}

#[test]
fn an_end_that_could_not_be_written_is_written_without_a_new_connection() {
    watched(async |_| {
        let redis = RedisProcess::start(&[]);
        let node = Node::on(&redis).await;
        node.attach(1, open(1)).await;
        redis.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
        node.refuses(1, Transition::End { reason: CloseReason::Completed }).await;
        redis.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
        let key = format!("handoff:session:{}", session(1).to_path_segment());
        let has_ended = || redis.command::<String>(&["GETRANGE", &key, "16", "-1"]).contains("completed");
        until("the end is written", has_ended).await;
    });
}

#[test]
fn a_replica_is_no_directory_until_it_is_master() {
    watched(async |watch| {
        let redis = RedisProcess::start(&[]);
        redis.command::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
        let mut node = Node::start(1, settings(&[redis.url()], "handoff"));
        until("the trouble is known", || watch.errors("read_only") >= 2.0).await;
        assert!(!node.directory.is_ready());
        assert_eq!(watch.complaints().len(), 1, "{:?}", watch.complaints());
        redis.command::<()>(&["REPLICAOF", "NO", "ONE"]);
        node.until_news(&News::Reconnected).await;
        node.eventually(1, open(1)).await.unwrap();
    });
}

#[test]
fn a_wrong_password_is_said_once_and_tried_again_without_haste() {
    watched(async |watch| {
        let redis = RedisProcess::start_with_password("right");
        let password = Some(Arc::new(zeroize::Zeroizing::new("wrong-password".to_owned())));
        let before = connections(&redis);
        let node = Node::start(1, Settings { password, ..settings(&[redis.url()], "handoff") });
        tokio::time::sleep(Duration::from_secs(3)).await;
        // One of them asks for this number.
        let attempts = connections(&redis) - before - 1;
        assert!((2..=MOST_ATTEMPTS).contains(&attempts), "{attempts}");
        assert!(watch.errors("refused") >= 2.0);
        let complaints = watch.complaints();
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(complaints[0].contains("WRONGPASS") && !complaints[0].contains("wrong-password"), "{complaints:?}");
        assert!(!node.directory.is_ready());
        redis.command::<()>(&["ACL", "SETUSER", "default", ">wrong-password"]);
        node.eventually(1, open(1)).await.unwrap();
    });
}

#[test]
fn a_connection_that_is_killed_is_made_again_within_a_second_or_two() {
    watched(async |watch| {
        let redis = RedisProcess::start(&[]);
        let mut node = Node::on(&redis).await;
        node.until_settled().await;
        node.attach(1, open(1)).await;
        let killed = clock();
        redis.command::<()>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        node.until_news(&News::Isolated).await;
        node.until_news(&News::Reconnected).await;
        assert!(killed.elapsed() < Duration::from_secs(3));
        assert_eq!(node.attach(1, resume(Role::Old, 1)).await.epoch, 2, "and nothing has to settle");
        assert_eq!(watch.value("handoff_redis_routes_restored_total").to_bits(), 0.0_f64.to_bits());
    });
}

#[test]
fn a_node_that_ends_is_gone_and_one_that_connects_anew_is_not() {
    watched(async |_| {
        let redis = RedisProcess::start(&[]);
        let mut first = Node::on(&redis).await;
        let second = Node::start(2, settings(&[redis.url()], "handoff"));
        second.until_settled().await;
        let left = PeerEvent::Left { role: Role::New, epoch: 1 };
        // Both are cut off; the first is told to write before the second listens again.
        redis.command::<()>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        first.until_news(&News::Isolated).await;
        first.until_news(&News::Reconnected).await;
        first.directory.tell(node(2), session(1), left.clone());
        second.until_ready().await;
        drop(second);
        let told = clock();
        let gone = News::Gone { session: session(2), node: node(2) };
        loop {
            first.directory.tell(node(2), session(2), left.clone());
            match tokio::time::timeout(Duration::from_millis(100), first.news.recv()).await {
                Ok(Some(News::Gone { session: about, .. })) if about == session(1) => panic!("it was there"),
                Ok(Some(news)) if news == gone => break,
                _ => assert!(told.elapsed() < PATIENCE),
            }
        }
        assert!(told.elapsed() >= SETTLE);
    });
}

#[test]
fn a_redis_that_runs_long_enough_serves_the_first_node_at_once() {
    watched(async |_| {
        let redis = RedisProcess::start(&[]);
        let uptime = || {
            let info: String = redis.command(&["INFO", "server"]);
            let line = info.lines().find_map(|line| line.strip_prefix("uptime_in_seconds:"));
            line.unwrap().trim().parse::<u64>().unwrap()
        };
        until("it has run for a while", || uptime() >= SETTLE.as_secs()).await;
        let node = Node::start(1, settings(&[redis.url()], "handoff"));
        node.until_ready().await;
        node.attach(1, open(1)).await;
        node.attach(1, join(0, 2)).await;
        let unknown = Err(crate::session::route::Refusal::Closed(CloseReason::UnknownSession));
        assert_eq!(node.apply(2, join(0, 2)).await, Ok(unknown));
    });
}
