use std::collections::BTreeSet;

use super::redis_server::cluster::Cluster;
use super::redis_server::process::RedisProcess;
use super::*;
use crate::directory::contract::LIFETIME;
use crate::protocol::limits;

/// What the relay must be allowed, besides its keys and channels; as the example configuration says.
const COMMANDS: [&str; 8] = ["+info", "+get", "+pttl", "+set", "+getrange", "+eval", "+spublish", "+ssubscribe"];

/// And on a cluster.
const CLUSTER_COMMANDS: [&str; 2] = ["+cluster|slots", "+ping"];

const NAMES: [&str; 3] = ["~handoff:*", "resetchannels", "&handoff:*"];

fn password(password: &str) -> Arc<zeroize::Zeroizing<String>> {
    Arc::new(zeroize::Zeroizing::new(password.to_owned()))
}

/// Whether the permissions are enough to be ready, before there is the first complaint.
async fn is_enough(settings: Settings, watch: &Watch) -> bool {
    let complaints = watch.complaints().len();
    let node = Node::start(1, settings);
    until("it is ready, or in trouble", || node.directory.is_ready() || watch.complaints().len() > complaints).await;
    node.directory.is_ready()
}

/// Everything that a relay does.
async fn use_all(settings: &Settings) {
    let (first, mut second) = (Node::start(1, settings.clone()), Node::start(2, settings.clone()));
    first.until_settled().await;
    second.until_settled().await;
    first.attach(1, open(1)).await;
    second.attach(1, join(0, 2)).await;
    first.attach(1, resume(Role::Old, 1)).await;
    let event = PeerEvent::Left { role: Role::Old, epoch: 1 };
    first.directory.tell(node(2), session(1), event.clone());
    second.until_news(&News::Said { session: session(1), from: node(1), event, arrived: Arrived::default() }).await;
}

#[test]
fn a_user_needs_these_permissions_and_no_more() {
    watched(async |watch| {
        let rules = [&NAMES[..], &COMMANDS[..]].concat();
        let redis = RedisProcess::start_with_user("relay", "secret", &rules);
        let url = format!("redis://{}/", redis.address());
        let user = Some("relay".to_owned());
        let settings = Settings { username: user, password: Some(password("secret")), ..settings(&[url], "handoff") };
        use_all(&settings).await;
        let denied: Vec<redis::Value> = redis.command(&["ACL", "LOG"]);
        assert!(denied.is_empty(), "{denied:?}");
        for command in COMMANDS {
            let without = command.replace('+', "-");
            redis.command::<()>(&["ACL", "SETUSER", "relay", &without]);
            assert!(!is_enough(settings.clone(), watch).await, "{command} is not needed");
            redis.command::<()>(&["ACL", "SETUSER", "relay", command]);
        }
        for (less, all) in [(["resetkeys"].as_slice(), "~handoff:*"), (&["resetchannels"], "&handoff:*")] {
            redis.command::<()>(&[&["ACL", "SETUSER", "relay"], less].concat());
            assert!(!is_enough(settings.clone(), watch).await, "{all} is not needed");
            redis.command::<()>(&["ACL", "SETUSER", "relay", all]);
        }
        assert!(is_enough(settings.clone(), watch).await);
        assert!(!is_enough(Settings { prefix: "other".to_owned(), ..settings }, watch).await, "other keys");
    });
}

#[test]
fn the_documents_name_these_permissions() {
    let example = include_str!("../../../../deploy/handoff-relay.example.toml");
    let readme = include_str!("../../../../README.md");
    let list = [&NAMES[..], &COMMANDS].concat().join(" ");
    assert!(readme.contains(&format!("`{list}`")), "{list}");
    for document in [example, readme] {
        for words in [NAMES.join(" "), COMMANDS.join(" "), CLUSTER_COMMANDS.join(" ")] {
            assert!(document.contains(&words), "{words}");
        }
    }
}

#[test]
fn tls_is_trusted_by_the_named_authority_only() {
    watched(async |watch| {
        let redis = RedisProcess::start_with_tls(&[]);
        let strict = settings(&[redis.url()], "handoff");
        assert!(!is_enough(strict.clone(), watch).await);
        let certificate_authority = redis.ca_pem().map(|pem| pem.as_bytes().to_vec());
        let trusting = Settings { certificate_authority, ..strict };
        use_all(&trusting).await;
        let plain = settings(&[redis.url().replace("rediss", "redis")], "handoff");
        assert!(!is_enough(plain, watch).await, "and nobody talks to it in the clear");
    });
}

#[test]
fn settings_that_cannot_be_right_are_refused_without_their_secrets() {
    let (push, _news) = mpsc::channel(1);
    let push = push::Push::new(node(1), clock, push, State::default().suspicion());
    let refused = |settings: Settings| settings.connector(push.clone()).err().unwrap().to_string();
    for url in ["", "http://host", "redis://:hunter2@host:port/", "redis://host/x"] {
        let problem = refused(settings(&[url.to_owned()], "handoff"));
        assert!(problem.starts_with("redis.url") && !problem.contains("hunter2"), "{problem}");
    }
    refused(settings(&[], "handoff"));
    let authority = Some(b"-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n".to_vec());
    let tls = Settings { certificate_authority: authority, ..settings(&["rediss://host".to_owned()], "handoff") };
    refused(tls);
    let secret = Settings { password: Some(password("hunter2")), ..settings(&["redis://host".to_owned()], "handoff") };
    assert!(!format!("{secret:?}").contains("hunter2"));
}

#[test]
fn a_cluster_shares_records_and_inboxes_among_its_masters_and_gets_back_what_one_has_lost() {
    watched(async |watch| {
        let mut cluster = Cluster::start();
        let user = [&["ACL", "SETUSER", "relay", "on", ">secret"], &NAMES[..], &COMMANDS, &CLUSTER_COMMANDS].concat();
        cluster.nodes().iter().for_each(|server| server.command(&user));
        let base = settings(&cluster.urls(), "handoff");
        let topology = Topology::Cluster;
        let settings =
            Settings { topology, username: Some("relay".to_owned()), password: Some(password("secret")), ..base };
        let (first, mut second) = (Node::start(1, settings.clone()), Node::start(2, settings.clone()));
        first.until_settled().await;
        second.until_settled().await;
        for number in 0..30 {
            first.attach(number, open(1)).await;
            second.attach(number, join(0, 2)).await;
        }
        let keys = |server: &RedisProcess| server.command::<BTreeSet<String>>(&["KEYS", "handoff:session:*"]);
        let shares: Vec<usize> = cluster.nodes().iter().map(|server| keys(server).len()).collect();
        assert!(shares.iter().sum::<usize>() == 30 && shares.iter().all(|share| *share > 0), "{shares:?}");
        for number in [1, 2] {
            let inbox = format!("handoff:inbox:{}", node(number));
            let heard: Vec<String> = cluster.node_of(&inbox).command(&["PUBSUB", "SHARDCHANNELS"]);
            assert!(heard.contains(&inbox), "{heard:?}");
        }

        // The master of the second node's inbox, so that this one is lost too.
        let inbox = format!("handoff:inbox:{}", node(2));
        let lost = cluster.node_of(&inbox);
        let before = keys(lost);
        lost.stop();
        lost.restart();
        lost.command::<()>(&user);
        cluster.until_whole().await;
        for number in 0..30 {
            let resumed = first.eventually(number, resume(Role::Old, 1)).await.unwrap().unwrap();
            assert_eq!(resumed.peer.map(|peer| peer.node), Some(node(2)), "{number}");
            second.eventually(number, resume(Role::New, 2)).await.unwrap();
        }
        assert_eq!(keys(cluster.node_of(&inbox)), before);
        assert!(watch.value("handoff_redis_routes_restored_total") >= 1.0);
        let event = PeerEvent::Left { role: Role::Old, epoch: 1 };
        let said = News::Said { session: session(1), from: node(1), event: event.clone(), arrived: Arrived::default() };
        second.until_settled().await;
        first.directory.tell(node(2), session(1), event);
        second.until_news(&said).await;
        let left: u64 = cluster.node_of(&inbox).command(&["PTTL", before.first().unwrap()]);
        assert!(Duration::from_millis(left) < LIFETIME + limits::TOMBSTONE_GRACE);
    });
}
