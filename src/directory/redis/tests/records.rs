use std::collections::BTreeMap;

use redis::Value;

use super::redis_server::Redis;
use super::*;
use crate::directory::contract::{LIFETIME, ended, proof};
use crate::protocol::close::CloseReason;
use crate::protocol::limits;

/// Time that a record is kept.
const KEPT: Duration = Duration::from_secs(LIFETIME.as_secs() + limits::TOMBSTONE_GRACE.as_secs());

/// How long Redis keeps the only record of this prefix.
fn left(redis: &Redis) -> Duration {
    let keys: Vec<String> = redis.command(&["KEYS", &format!("{}:session:*", redis.prefix())]);
    assert_eq!(keys.len(), 1, "{keys:?}");
    Duration::from_millis(redis.command(&["PTTL", &keys[0]]))
}

async fn nodes(redis: &Redis, numbers: std::ops::RangeInclusive<u8>) -> Vec<Node> {
    let nodes: Vec<Node> =
        numbers.map(|number| Node::start(number, settings(&[redis.url()], redis.prefix()))).collect();
    for node in &nodes {
        node.until_settled().await;
    }
    nodes
}

#[test]
fn redis_itself_drops_a_record_and_nothing_prolongs_that() {
    watched(async |_| {
        let redis = Redis::shared();
        let nodes = nodes(&redis, 1..=2).await;
        let opened = clock();
        nodes[0].attach(1, open(1)).await;
        let mut before = KEPT;
        let transitions = [
            open(1),
            join(0, 2),
            join(7, 2),
            resume(Role::New, 2),
            Transition::Look { role: Role::Old, epoch: 1 },
            Transition::Leave { role: Role::New, epoch: 2 },
            resume(Role::Old, 1),
            Transition::End { reason: CloseReason::Completed },
            open(1),
        ];
        for transition in transitions {
            for node in &nodes {
                drop(node.apply(1, transition.clone()).await.unwrap());
                let now = left(&redis);
                assert!(now <= before, "{transition:?}");
                // And nothing shortens it: it is the record's clock.
                assert!(now + opened.elapsed() >= KEPT - Duration::from_millis(5), "{transition:?}");
                before = now;
            }
        }
        let keys: Vec<String> = redis.command(&["KEYS", &format!("{}*", redis.prefix())]);
        assert_eq!(keys.len(), 2, "the record and the mark: {keys:?}");
    });
}

#[test]
fn redis_gets_hashes_and_what_is_public_and_no_secret() {
    watched(async |_| {
        let redis = Redis::shared();
        let nodes = nodes(&redis, 1..=2).await;
        nodes[0].attach(1, open(81)).await;
        nodes[1].attach(1, join(0, 82)).await;
        nodes[1].attach(1, resume(Role::New, 82)).await;
        let mut dump: Vec<u8> = Vec::new();
        for key in redis.command::<Vec<String>>(&["KEYS", &format!("{}*", redis.prefix())]) {
            dump.extend(key.as_bytes());
            dump.extend(redis.command::<Vec<u8>>(&["GET", &key]));
        }
        let text = String::from_utf8_lossy(&dump);
        assert!(text.contains("public_key") && text.contains("resume_hash"), "{text}");
        // Not the first two, whose bytes are elsewhere too.
        let proofs = (2..4).map(|frame| proof(frame).as_bytes().to_vec());
        for secret in [vec![81; 32], vec![82; 32]].into_iter().chain(proofs) {
            for spelling in spellings(&secret) {
                assert!(!dump.windows(spelling.len()).any(|window| window == spelling), "{secret:?} in {text}");
            }
        }
    });
}

/// As bytes, in both cases of hexadecimal, in base64 with and without padding, and as JSON numbers.
fn spellings(secret: &[u8]) -> Vec<Vec<u8>> {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    let hex = secret.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let numbers: Vec<String> = secret.iter().map(u8::to_string).collect();
    vec![
        secret.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        STANDARD_NO_PAD.encode(secret).into_bytes(),
        URL_SAFE_NO_PAD.encode(secret).into_bytes(),
        numbers.join(",").into_bytes(),
    ]
}

#[test]
fn two_relays_share_a_redis_and_nothing_in_it() {
    watched(async |_| {
        let redis = Redis::shared();
        let relay = |name: &str| settings(&[redis.url()], &format!("{}{name}", redis.prefix()));
        let (ours, mut theirs) = (Node::start(1, relay("a")), Node::start(1, relay("b")));
        ours.until_settled().await;
        theirs.until_settled().await;
        theirs.until_news(&News::Reconnected).await;
        ours.attach(1, open(1)).await;
        theirs.attach(1, open(2)).await;
        ours.apply(1, Transition::End { reason: CloseReason::Completed }).await.unwrap().unwrap();
        theirs.attach(1, join(0, 3)).await;
        // The same node id, so that only the prefix tells them apart.
        let event = PeerEvent::Ended { reason: CloseReason::Completed };
        ours.directory.tell(node(1), session(1), event.clone());
        theirs.directory.tell(node(1), session(2), event.clone());
        assert_eq!(
            theirs.news.recv().await,
            Some(News::Said { session: session(2), from: node(1), event, arrived: Arrived::default() })
        );
    });
}

#[test]
fn a_value_of_somebody_else_is_refused_loudly_and_left_alone() {
    watched(async |watch| {
        let redis = Redis::shared();
        let node = Node::start(1, settings(&[redis.url()], redis.prefix()));
        node.until_settled().await;
        let key = format!("{}:session:{}", redis.prefix(), session(1).to_path_segment());
        redis.command::<()>(&["SET", &key, "somebody else's, and long enough", "PX", "60000"]);
        for _ in 0..3 {
            node.refuses(1, open(1)).await;
        }
        assert_eq!(watch.errors("bad_record").to_bits(), 3.0_f64.to_bits());
        assert_eq!(watch.complaints().len(), 1, "{:?}", watch.complaints());
        assert!(node.directory.is_ready());
        assert_eq!(redis.command::<Value>(&["EXISTS", &key]), Value::Int(1));
    });
}

#[test]
fn transitions_of_one_session_at_one_node_do_not_undo_each_other() {
    watched(async |_| {
        let redis = Redis::shared();
        let nodes = nodes(&redis, 1..=1).await;
        nodes[0].attach(1, open(1)).await;
        nodes[0].attach(1, join(0, 2)).await;
        let (old, new, leave, look) = tokio::join!(
            nodes[0].attach(1, resume(Role::Old, 1)),
            nodes[0].attach(1, resume(Role::New, 2)),
            nodes[0].apply(1, Transition::Leave { role: Role::New, epoch: 1 }),
            nodes[0].apply(1, Transition::Look { role: Role::Old, epoch: 9 }),
        );
        assert_eq!((old.epoch, new.epoch, leave), (2, 2, Ok(Ok(None))));
        assert!(look.unwrap().is_err());
        let seen = nodes[0].attach(1, Transition::Look { role: Role::Old, epoch: 2 }).await;
        assert_eq!(seen.peer.map(|peer| (peer.epoch, peer.online)), Some((2, true)));
        nodes[0].apply(1, Transition::End { reason: CloseReason::Completed }).await.unwrap().unwrap();
        assert_eq!(nodes[0].apply(1, resume(Role::Old, 1)).await, Ok(ended(CloseReason::Completed)));
    });
}

#[test]
fn what_a_node_knows_is_bounded_and_forgotten_in_time() {
    let known = KnownRoutes::new(2);
    let (origin, route) = (clock(), opened());
    let put = |number| {
        known.put(session(number), &known::Known { route: route.clone(), tag: None, opened_at: origin }, origin);
    };
    (0..3).for_each(put);
    put(2);
    let has = |now| (0..3).filter(|number| known.get(&session(*number), now).is_some()).collect::<Vec<u8>>();
    assert_eq!(has(origin), [1, 2], "the oldest made room");
    known.put_unsaved(session(1), known.get(&session(1), origin).unwrap());
    assert_eq!(known.unsaved(), [session(1)]);
    put(1);
    assert!(known.unsaved().is_empty());
    assert_eq!(has(origin + KEPT).len(), 0);
    known.sweep(origin + KEPT - Duration::from_millis(1));
    assert_eq!(known.sessions().len(), 2);
    known.sweep(origin + KEPT);
    assert!(known.sessions().is_empty());
}

#[test]
fn of_two_transitions_that_end_in_another_order_none_is_forgotten() {
    let known = KnownRoutes::new(2);
    let origin = clock();
    let mut routes = BTreeMap::from([(0, opened())]);
    for (step, transition) in [(1, join(0, 2)), (2, resume(Role::New, 2))] {
        let mut route = routes.get(&(step - 1)).cloned();
        drop(crate::session::route::Route::apply(&mut route, transition, rules(1), Duration::ZERO));
        routes.insert(step, route.unwrap());
    }
    for step in [0, 2, 1] {
        let route = routes.get(&step).cloned().unwrap();
        known.put(session(1), &known::Known { route, tag: Some([step; 16]), opened_at: origin }, origin);
    }
    assert_eq!(Some(&known.get(&session(1), origin).unwrap().route), routes.get(&2));
}

fn opened() -> crate::session::route::Route {
    let mut route = None;
    drop(crate::session::route::Route::apply(&mut route, open(1), rules(1), Duration::ZERO));
    route.unwrap()
}
