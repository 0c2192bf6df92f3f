//! What is traced, what belongs together, and what is never said.

use handoff_relay::protocol::Role;
use handoff_relay::protocol::close::CloseReason;
use rustix::process::Signal;

use crate::collector::{Collector, Span};
use crate::support::eventually;
use crate::support::messages::{Transfer, base64url, complete};
use crate::support::party::{Pair, Party};
use crate::support::redis_server::process::RedisProcess;
use crate::support::relay::Relay;
use crate::support::socket::{Handshake, get};

/// A trace that somebody else has begun.
const FOREIGN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

const HANDSHAKE: &str = "GET /v1/sessions/{session}/{role}";

/// Ends a relay: what it has not sent is sent first.
async fn end(mut relay: Relay) -> String {
    relay.signal(Signal::TERM);
    assert_eq!(relay.until_exit().await.code(), Some(0));
    relay.log()
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found = named(spans, name);
    assert_eq!(found.len(), 1, "{name}: {found:#?}");
    found[0]
}

fn node(span: &Span) -> &str {
    &span.resource["service.instance.id"]
}

/// Waits until a node believes its Redis that a session does not exist: right after the start others may put it back.
async fn until_settled(relay: &Relay) {
    let stranger = Transfer::usual();
    let ask = async || {
        let address = relay.address();
        let mut party = Party::connect(address, &stranger.session, Role::New, &stranger.join(0)).await;
        party.socket.until_end().await
    };
    eventually("settled", ask, |ending| ending.is(CloseReason::UnknownSession)).await;
}

/// A handoff with old at one node and new at the other, who loses the connection and resumes.
async fn across(first: &Relay, second: &Relay, transfer: &Transfer) {
    let mut old = Party::connect(first.address(), &transfer.session, Role::Old, &transfer.open()).await;
    old.hear("opened").await;
    let mut new = Party::connect(second.address(), &transfer.session, Role::New, &transfer.join(0)).await;
    new.hear("joined").await;
    old.hear("peer_joined").await;
    drop(new);
    old.hear("peer_offline").await;
    let resume = transfer.resume(Role::New);
    let mut new = Party::connect(second.address(), &transfer.session, Role::New, &resume).await;
    new.hear("resumed").await;
    old.hear("peer_online").await;
    old.send_data(b"a sealed frame").await;
    assert_eq!(new.hear_data().await, b"a sealed frame");
    old.say(&complete()).await;
    old.hear_end(CloseReason::Completed).await;
    new.hear_end(CloseReason::Completed).await;
}

#[tokio::test]
async fn a_handoff_over_two_nodes_is_one_trace_and_names_nobody() {
    let (collector, redis) = (Collector::start(), RedisProcess::start(&[]));
    let url = format!("redis.url={}", redis.url());
    let settings = [&collector.setting(), "traces.sample=1", &url, "drain.grace=0s", "drain.window=0s"];
    let (first, second) = (Relay::start(&settings), Relay::start(&settings));
    let transfer = Transfer::usual();
    for relay in [&first, &second] {
        until_settled(relay).await;
    }
    across(&first, &second, &transfer).await;
    for (relay, path) in [(&first, "to_node"), (&second, "from_node")] {
        relay.until_metric(&format!("handoff_hop_seconds_count{{path=\"{path}\"}}"), 1.0).await;
    }
    end(first).await;
    end(second).await;

    let spans = collector.spans();
    let sessions = named(&spans, "handoff.session");
    let (at_old, at_new): (Vec<&Span>, Vec<&Span>) =
        sessions.into_iter().partition(|span| span.attributes.contains_key("handoff.end_reason"));
    // New's node forgets the session while new is away.
    assert_eq!((at_old.len(), at_new.len()), (1, 2), "{spans:#?}");
    let at_old = at_old[0];
    for other in &at_new {
        assert_ne!(node(at_old), node(other));
        assert_eq!((&at_old.trace, &at_old.id), (&other.trace, &other.parent), "the other node's is below it");
    }
    assert_eq!(at_old.attributes["handoff.end_reason"], "completed");
    assert_eq!(at_old.resource["service.name"], "handoff-relay");
    assert_eq!(at_old.resource["service.version"], env!("CARGO_PKG_VERSION"));

    // Strangers came before.
    let trace: Vec<Span> = spans.iter().filter(|span| span.trace == at_old.trace).cloned().collect();
    // Each request below the session of its node, with its commands below it, and linked to its handshake.
    for (name, at) in [("handoff.open", vec![at_old]), ("handoff.join", at_new.clone()), ("handoff.resume", at_new)] {
        let request = one(&trace, name);
        let session = at.into_iter().find(|session| session.id == request.parent).expect(name);
        assert_eq!(request.attributes["handoff.outcome"], "accepted");
        assert_eq!(node(request), node(session));
        let commands: Vec<&Span> = spans.iter().filter(|span| span.parent == request.id).collect();
        assert!(!commands.is_empty(), "{name} asked Redis");
        for command in commands {
            assert_eq!(command.trace, request.trace);
            assert_eq!(command.attributes["db.system.name"], "redis");
            assert_eq!(command.attributes["db.operation.name"], command.name);
            assert!(request.started <= command.started && command.started <= command.ended, "{command:?}");
            assert!(command.ended <= request.ended, "{command:?}");
        }
    }
    let handshakes = named(&spans, HANDSHAKE);
    assert!(handshakes.len() > 3, "{handshakes:#?}");
    assert_eq!(one(&trace, HANDSHAKE).id, at_old.parent);
    for handshake in &handshakes {
        assert_eq!(handshake.attributes["http.request.method"], "GET");
        assert_eq!(handshake.attributes["http.route"], "/v1/sessions/{session}/{role}");
        assert_eq!(handshake.attributes["http.response.status_code"], "101");
    }
    let of_new: Vec<&Vec<u8>> = handshakes.iter().map(|span| &span.trace).filter(|at| **at != at_old.trace).collect();
    for name in ["handoff.join", "handoff.resume"] {
        assert!(one(&trace, name).links.iter().any(|link| of_new.contains(&link)), "{name}");
    }
    assert!(named(&spans, "GET /readyz").is_empty(), "health is not traced");

    let said = format!("{:?}", collector.requests());
    let mut secrets = vec![transfer.session.clone(), transfer.session.replace('-', ""), "127.0.0.1".to_owned()];
    secrets.extend([transfer.old_token, transfer.new_token].map(|token| base64url(&token)));
    secrets.push(base64url(&transfer.proofs[0]));
    secrets.push(base64url(&transfer.public_key));
    for secret in secrets {
        assert!(!said.contains(&secret), "{secret} is in a trace");
    }
}

#[tokio::test]
async fn which_trace_a_request_belongs_to_is_believed_only_if_the_settings_say_so() {
    for is_trusted in [false, true] {
        let collector = Collector::start();
        let trust = format!("traces.trust_traceparent={is_trusted}");
        // Nothing that begins here is kept.
        let relay = Relay::start(&[&collector.setting(), "traces.sample=0", &trust, "drain.grace=0s"]);
        let transfer = Transfer::usual();
        let handshake = Handshake::new(&transfer.session, Role::Old).with("traceparent", FOREIGN);
        let mut old = Party::connect_with(relay.address(), Role::Old, &handshake, &transfer.open()).await;
        old.hear("opened").await;
        drop(old);
        end(relay).await;
        let foreign = u128::from_str_radix(&FOREIGN[3..35], 16).unwrap().to_be_bytes();
        let traces: Vec<Vec<u8>> = collector.spans().into_iter().map(|span| span.trace).collect();
        let expected = if is_trusted { vec![foreign.to_vec(); traces.len().max(3)] } else { Vec::new() };
        assert_eq!(traces, expected, "{trust}");
    }
}

#[tokio::test]
async fn a_refused_join_is_in_the_trace_of_its_handshake() {
    let collector = Collector::start();
    let relay = Relay::start(&[&collector.setting(), "traces.sample=1"]);
    let stranger = Transfer::usual();
    let mut new = Party::connect(relay.address(), &stranger.session, Role::New, &stranger.join(0)).await;
    new.hear_end(CloseReason::UnknownSession).await;
    assert_eq!(get(relay.address(), "/v1/sessions/nonsense/old").await.status, 400);
    end(relay).await;
    let spans = collector.spans();
    let join = one(&spans, "handoff.join");
    assert_eq!(join.attributes["handoff.outcome"], "unknown_session");
    let handshakes = named(&spans, HANDSHAKE);
    assert!(handshakes.iter().any(|handshake| (&handshake.trace, &handshake.id) == (&join.trace, &join.parent)));
    assert!(handshakes.iter().any(|handshake| handshake.attributes["http.response.status_code"] == "400"));
    assert!(named(&spans, "handoff.session").is_empty());
}

#[tokio::test]
async fn a_collector_that_is_away_hurts_nobody_and_is_complained_of() {
    let relay = Relay::start(&["traces.endpoint=http://127.0.0.1:9", "traces.sample=1"]);
    Pair::joined(relay.address(), Transfer::usual()).await.finish().await;
    let log = end(relay).await;
    assert!(log.contains("opentelemetry") || log.contains("the last traces were not sent"), "{log}");
}
