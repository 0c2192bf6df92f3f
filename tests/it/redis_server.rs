//! The Redis servers of the other tests do what they say.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::sentinel::{SentinelClient, SentinelServerType};
use redis::{AsyncCommands as _, AsyncConnectionConfig};

use crate::support::fault_proxy::FaultProxy;
use crate::support::redis_server::cluster::Cluster;
use crate::support::redis_server::process::RedisProcess;
use crate::support::redis_server::sentinel::Sentinels;
use crate::support::redis_server::{Redis, Source};

#[tokio::test]
async fn a_server_keeps_what_it_is_told_for_one_test() {
    let (first, second) = (Redis::start(), Redis::start());
    let key = format!("{}key", first.prefix());
    let mut connection = connection(&first.url()).await;
    connection.set::<_, _, ()>(&key, "value").await.unwrap();
    assert_eq!(first.command::<String>(&["GET", &key]), "value");
    if first.source() != Source::Given {
        assert_eq!(second.command::<u64>(&["DBSIZE"]), 0);
    }
    first.command::<()>(&["DEL", &key]);
}

#[test]
fn tests_at_the_same_time_share_a_server_and_no_key() {
    let (first, second) = (Redis::shared(), Redis::shared());
    assert_eq!(first.url(), second.url());
    assert_ne!(first.prefix(), second.prefix());
    let alone = Redis::start();
    assert!(alone.url() != first.url() || alone.source() == Source::Given);
}

/// `tests/run` asks for a container wherever it has found or started a Docker engine.
#[test]
fn a_server_comes_from_where_the_environment_says() {
    let says = |name: &str| std::env::var(name).is_ok_and(|value| !value.is_empty());
    let redis = Redis::start();
    let info: String = redis.command(&["INFO", "server"]);
    let is_first_process = info.lines().any(|line| line.trim() == "process_id:1");
    println!("redis comes from: {:?}", redis.source());
    match redis.source() {
        Source::Given => assert!(says("HANDOFF_TEST_REDIS_URL")),
        Source::Container => assert!(is_first_process, "{info}"),
        Source::Process => assert!(!is_first_process && !says("HANDOFF_TEST_REDIS_IMAGE")),
    }
    if std::env::var("HANDOFF_TEST_REQUIRE_CONTAINER").is_ok_and(|value| value == "1") {
        assert_eq!(redis.source(), Source::Container);
    }
}

#[test]
fn a_process_that_was_killed_comes_back_empty_on_the_same_port() {
    let mut redis = RedisProcess::start(&[]);
    let url = redis.url();
    redis.command::<()>(&["SET", "key", "value"]);
    redis.stop();
    assert!(redis.try_command::<()>(&["PING"]).is_err());
    redis.restart();
    assert_eq!((redis.url(), redis.command::<u64>(&["DBSIZE"])), (url, 0));
    assert!(redis.log().contains("Ready to accept connections"));
}

#[tokio::test]
async fn a_process_that_is_paused_answers_when_it_goes_on() {
    let redis = RedisProcess::start(&[]);
    let mut connection = connection(&redis.url()).await;
    redis.pause();
    assert!(connection.ping::<String>().await.unwrap_err().is_timeout());
    redis.resume();
    assert_eq!(connection.ping::<String>().await.unwrap(), "PONG");
}

#[test]
fn a_server_with_a_password_or_users_knows_who_may_do_what() {
    let open = |url: &str| redis::Client::open(url).unwrap().get_connection();
    let redis = RedisProcess::start_with_password("secret");
    assert_eq!(redis.command::<String>(&["PING"]), "PONG");
    open(&redis.url()).unwrap();
    let mut stranger = open(&redis.url().replace(":secret@", "")).unwrap();
    assert!(redis::cmd("PING").exec(&mut stranger).is_err());

    let redis = RedisProcess::start_with_user("relay", "secret", &["~handoff:*", "+set"]);
    redis.command::<()>(&["SET", "other", "value"]);
    let mut relay = open(&redis.url()).unwrap();
    redis::cmd("SET").arg("handoff:key").arg("value").exec(&mut relay).unwrap();
    assert!(redis::cmd("SET").arg("other").arg("value").exec(&mut relay).is_err());
    assert!(redis::cmd("GET").arg("handoff:key").exec(&mut relay).is_err());
}

#[test]
fn a_server_with_tls_answers_those_who_trust_its_authority() {
    let redis = RedisProcess::start_with_tls(&[]);
    assert!(redis.url().starts_with("rediss://"));
    assert_eq!(redis.command::<String>(&["PING"]), "PONG");
    assert!(redis::Client::open(redis.url()).unwrap().get_connection().is_err());
    assert_eq!(std::fs::read_to_string(redis.ca_file().unwrap()).unwrap(), redis.ca_pem().unwrap());
}

#[test]
fn a_server_with_little_memory_refuses_what_does_not_fit() {
    let redis = RedisProcess::start(&["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]);
    let value = "x".repeat(512 * 1024);
    let fill = |number: u8| redis.try_command::<()>(&["SET", &number.to_string(), &value]);
    let refused = (0..8).find_map(|number| fill(number).err()).unwrap();
    assert!(refused.to_string().contains("OOM"), "{refused}");
}

#[tokio::test]
async fn redis_is_cut_off_and_comes_back() {
    let redis = RedisProcess::start(&[]);
    let proxy = FaultProxy::start(redis.address(), 1).await;
    let url = redis.url_at(proxy.address());
    let mut before = connection(&url).await;
    assert_eq!(before.ping::<String>().await.unwrap(), "PONG");
    proxy.cut_off();
    assert!(before.ping::<String>().await.is_err());
    assert!(try_connection(&url).await.is_err());
    proxy.heal();
    let mut after = connection(&url).await;
    assert_eq!(after.ping::<String>().await.unwrap(), "PONG");
    proxy.stall(true);
    assert!(after.ping::<String>().await.unwrap_err().is_timeout());
    proxy.stall(false);
    assert_eq!(after.ping::<String>().await.unwrap(), "PONG");
}

#[tokio::test]
async fn sentinels_make_another_server_master_in_good_order_and_after_a_crash() {
    let mut sentinels = Sentinels::start();
    let name = Sentinels::MASTER_NAME.to_owned();
    let mut client = SentinelClient::build(sentinels.urls(), name, None, SentinelServerType::Master).unwrap();
    let mut masters = BTreeSet::from([sentinels.master().address()]);
    for number in 0..2 {
        let mut connection = client.get_async_connection().await.unwrap();
        connection.set::<_, _, ()>("number", number).await.unwrap();
        assert_eq!(sentinels.master().command::<i32>(&["GET", "number"]), number);
        let new = if number == 0 { sentinels.fail_over().await } else { sentinels.kill_master().await };
        assert_eq!(sentinels.master().address(), new);
        masters.insert(new);
    }
    assert!(masters.len() >= 2);
    assert_eq!(sentinels.sentinels().len(), 3);
}

#[tokio::test]
async fn a_cluster_has_three_masters_with_all_slots_and_is_whole_again_after_a_crash() {
    let mut cluster = Cluster::start();
    let client = redis::cluster::ClusterClient::new(cluster.urls()).unwrap();
    let mut connection = client.get_async_connection().await.unwrap();
    for number in 0..20 {
        connection.set::<_, _, ()>(format!("key:{number}"), number).await.unwrap();
    }
    let kept: Vec<u64> = cluster.nodes().iter().map(|node| node.command(&["DBSIZE"])).collect();
    assert_eq!((kept.len(), kept.iter().sum::<u64>()), (3, 20));
    assert!(kept.iter().all(|keys| *keys > 0), "{kept:?}");

    let node = cluster.node_of("key:7");
    assert_eq!(node.command::<u64>(&["GET", "key:7"]), 7);
    node.stop();
    node.restart();
    cluster.until_whole().await;
    assert_eq!(cluster.node_of("key:7").command::<u64>(&["DBSIZE"]), 0);
}

async fn connection(url: &str) -> redis::aio::MultiplexedConnection {
    try_connection(url).await.unwrap()
}

async fn try_connection(url: &str) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_millis(300)));
    redis::Client::open(url).unwrap().get_multiplexed_async_connection_with_config(&config).await
}
