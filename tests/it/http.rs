//! The pages for operators: health, version, metrics, problems, and the document that describes them.

use std::collections::BTreeSet;

use handoff_relay::protocol::Role::New;
use handoff_relay::protocol::close::CloseReason::Expired;
use handoff_relay::telemetry;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::eventually;
use crate::support::messages::{Transfer, random_session};
use crate::support::party::Pair;
use crate::support::relay::{Metrics, Relay};
use crate::support::socket::{Handshake, Socket, get};

#[tokio::test]
async fn a_relay_says_that_it_lives_is_ready_and_which_version_it_is() {
    let relay = Relay::start(&[]);
    for (path, body) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let response = get(relay.address(), path).await;
        assert_eq!((response.status, response.body.as_slice()), (200, body.as_bytes()), "{path}");
    }
    let version = get(relay.address(), "/version").await.json();
    assert_eq!(version["name"], env!("CARGO_PKG_NAME"));
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version["protocol"], "handoff.v1");
}

#[tokio::test]
async fn every_metric_of_the_table_is_there_from_the_start() {
    let relay = Relay::start(&[]);
    let metrics = relay.metrics().await;
    let found: BTreeSet<&str> = metrics.names().collect();
    for metric in telemetry::names::ALL {
        let name = metric.name;
        let is_there = found.contains(name) || found.contains(format!("{name}_count").as_str());
        assert!(is_there, "{name}");
    }
    for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds"] {
        assert!(metrics.value(name) > 0.0, "{name}");
    }
    assert!((metrics.value("process_resident_memory_bytes") / as_f64(relay.resident_bytes()) - 1.0).abs() < 0.2);
}

fn as_f64(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}

fn assert_counts(metrics: &Metrics, expected: &[(&str, f64)]) {
    for (series, value) in expected {
        let found = metrics.value(series);
        assert!((found - value).abs() < 1e-9, "{series} is {found} and not {value}");
    }
}

#[tokio::test]
async fn a_handoff_is_counted_as_what_it_was() {
    let relay = Relay::start(&[]);
    let mut pair = Pair::waiting(relay.address(), Transfer::usual()).await;
    let waiting = [("handoff_sessions{state=\"waiting\"}", 1.0), ("handoff_sessions{state=\"joined\"}", 0.0)];
    assert_counts(&relay.metrics().await, &waiting);

    let mut stranger = pair.party(New, &pair.transfer.join(35)).await;
    stranger.socket.until_end().await;
    pair.join().await;
    pair.old.as_mut().unwrap().send_data(&[7; 1000]).await;
    assert_eq!(pair.new.as_mut().unwrap().hear_data().await, [7; 1000]);
    drop(pair.new.take());
    pair.old.as_mut().unwrap().hear("peer_offline").await;
    pair.old.as_mut().unwrap().send_data(b"lost").await;
    relay.until_metric("handoff_frames_dropped_total", 1.0).await;
    let joined = [
        ("handoff_sessions{state=\"waiting\"}", 0.0),
        ("handoff_sessions{state=\"joined\"}", 1.0),
        ("handoff_connections{role=\"old\"}", 1.0),
        ("handoff_connections{role=\"new\"}", 0.0),
    ];
    assert_counts(&relay.metrics().await, &joined);
    pair.finish().await;
    relay.until_metric("handoff_connections", 0.0).await;

    let metrics = relay.metrics().await;
    let after = [
        ("handoff_sessions{state=\"joined\"}", 0.0),
        ("handoff_sessions_opened_total", 1.0),
        ("handoff_sessions_joined_total", 1.0),
        ("handoff_sessions_ended_total{reason=\"completed\"}", 1.0),
        ("handoff_joined_sessions_ended_total{reason=\"completed\"}", 1.0),
        ("handoff_session_transfer_seconds_count", 1.0),
        ("handoff_session_duration_seconds_count", 1.0),
        ("handoff_session_join_wait_seconds_count", 1.0),
        ("handoff_connections_opened_total{role=\"old\"}", 1.0),
        ("handoff_connections_opened_total{role=\"new\"}", 3.0),
        ("handoff_connections_closed_total{role=\"old\",reason=\"completed\"}", 1.0),
        ("handoff_connections_closed_total{role=\"new\",reason=\"completed\"}", 1.0),
        ("handoff_connections_closed_total{role=\"new\",reason=\"stale_frame\"}", 1.0),
        ("handoff_joins_refused_total{reason=\"stale_frame\"}", 1.0),
        ("handoff_resumes_total{role=\"new\",outcome=\"resumed\"}", 1.0),
        ("handoff_resumes_total{role=\"new\",outcome=\"nothing_to_resume\"}", 0.0),
        ("handoff_session_reply_seconds_count", 1.0),
        ("handoff_frames_relayed_total{from=\"old\"}", 2.0),
        ("handoff_frames_relayed_total{from=\"new\"}", 1.0),
        ("handoff_frame_bytes_relayed_total{from=\"old\"}", 1006.0),
        ("handoff_frame_bytes_relayed_total{from=\"new\"}", 6.0),
        ("handoff_frames_dropped_total{from=\"old\"}", 1.0),
    ];
    assert_counts(&metrics, &after);
    assert!(metrics.sum("handoff_sessions_ended_total") < 1.5);
    assert!(metrics.sum("handoff_handshakes_refused_total") < 0.5);
}

#[tokio::test]
async fn of_eight_frames_of_a_connection_the_way_of_one_is_measured() {
    let relay = Relay::start(&[]);
    let mut pair = Pair::joined(relay.address(), Transfer::usual()).await;
    for number in 0..24 {
        pair.old.as_mut().unwrap().send_data(&[number; 100]).await;
        assert_eq!(pair.new.as_mut().unwrap().hear_data().await, [number; 100]);
    }
    relay.until_metric("handoff_hop_seconds_count{path=\"here\"}", 3.0).await;
    let metrics = relay.metrics().await;
    let counts = [
        ("handoff_frames_relayed_total{from=\"old\"}", 24.0),
        ("handoff_connection_queue_messages_count", 3.0),
        // One after the other: none waited for another.
        ("handoff_connection_queue_messages_sum", 3.0),
        ("handoff_hop_seconds_count{path=\"to_node\"}", 0.0),
        ("handoff_session_queue_full_total", 0.0),
    ];
    assert_counts(&metrics, &counts);
    let took = metrics.value("handoff_hop_seconds_sum{path=\"here\"}");
    assert!(took > 0.0 && took < 3.0, "{took}");
}

#[tokio::test]
async fn a_session_that_nobody_joined_is_not_among_the_joined_ones_that_ended() {
    let relay = Relay::start(&["session.lifetime=1s", "session.frame_intervals=1s"]);
    let mut pair = Pair::waiting(relay.address(), Transfer::random(1000, 1000)).await;
    pair.old.as_mut().unwrap().hear_end(Expired).await;
    relay.until_metric("handoff_sessions_ended_total", 1.0).await;
    let metrics = relay.metrics().await;
    assert!(metrics.sum("handoff_joined_sessions_ended_total") < 0.5);
    assert_counts(&metrics, &[("handoff_session_transfer_seconds_count", 0.0)]);
}

#[tokio::test]
async fn a_node_tells_what_it_has_room_for_and_whether_it_leaves() {
    let relay = Relay::start(&["limits.sessions=17", "limits.connections=35", "drain.grace=60s"]);
    let pair = Pair::waiting(relay.address(), Transfer::usual()).await;
    let staying = [
        ("handoff_sessions_limit", 17.0),
        ("handoff_connections_limit", 35.0),
        ("handoff_ready", 1.0),
        ("handoff_draining", 0.0),
    ];
    assert_counts(&relay.metrics().await, &staying);
    eventually("lag", async || relay.metrics().await.sum("handoff_worker_lag_seconds_count"), |many| *many > 0.0).await;

    relay.signal(Signal::TERM);
    relay.until_metric("handoff_draining", 1.0).await;
    assert_counts(&relay.metrics().await, &[("handoff_ready", 0.0)]);
    drop(pair);
}

#[tokio::test]
async fn a_refused_handshake_is_counted_by_its_code() {
    let relay = Relay::start(&[]);
    for number in 1..=3 {
        let mut socket = Socket::connect(relay.address()).await;
        socket.send(&Handshake::new(&random_session(), New).with("Origin", "https://evil.example").bytes()).await;
        assert_eq!(socket.response().await.unwrap().status, 403);
        let counted = [("handoff_handshakes_refused_total{reason=\"origin-not-allowed\"}", f64::from(number))];
        assert_counts(&relay.metrics().await, &counted);
    }
}

#[tokio::test]
async fn operators_pages_are_on_their_own_listener_only_when_there_is_one() {
    let pages = ["/metrics", "/version", "/openapi.json"];
    let together = Relay::start(&[]);
    let apart = Relay::start(&["server.metrics_listen=127.0.0.1:0"]);
    assert_ne!(apart.address(), apart.metrics_address());
    for page in pages {
        assert_eq!(get(together.address(), page).await.status, 200, "{page}");
        assert_eq!(get(apart.metrics_address(), page).await.status, 200, "{page}");
        assert_eq!(get(apart.address(), page).await.json()["code"], "not-found", "{page}");
    }
    for page in ["/healthz", "/readyz"] {
        assert_eq!(get(apart.metrics_address(), page).await.status, 200, "{page}");
        assert_eq!(get(apart.address(), page).await.status, 200, "{page}");
    }
    let mut socket = Socket::connect(apart.metrics_address()).await;
    socket.send(&Handshake::new(&random_session(), New).bytes()).await;
    assert_eq!(socket.response().await.unwrap().status, 404, "apps are not let in where metrics are");
}

#[tokio::test]
async fn a_problem_is_an_object_of_rfc_9457_that_says_what_to_do() {
    let relay = Relay::start(&[]);
    let mut socket = Socket::connect(relay.address()).await;
    socket.send(&Handshake::new(&random_session(), New).without("Upgrade").bytes()).await;
    let response = socket.response().await.unwrap();
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(response.header("upgrade"), Some("websocket"));
    let problem = response.json();
    let names: Vec<&String> = problem.as_object().unwrap().keys().collect();
    assert_eq!(names, ["code", "detail", "status", "title", "type"]);
    assert_eq!(problem["type"], "urn:handoff-relay:problem:upgrade-required");
    assert_eq!(problem["status"], response.status);

    let mut socket = Socket::connect(relay.address()).await;
    socket.send(b"PUT /healthz HTTP/1.1\r\nHost: relay.example\r\nContent-Length: 0\r\n\r\n").await;
    let response = socket.response().await.unwrap();
    assert_eq!((response.status, response.header("allow")), (405, Some("GET")));
}

/// Every reference of the document, wherever it stands.
fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(members) => {
            let own = members.get("$ref").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(members.values().flat_map(references)).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

#[tokio::test]
async fn the_openapi_document_lists_each_route_and_every_status() {
    let relay = Relay::start(&[]);
    let document = get(relay.address(), "/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let paths: BTreeSet<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let expected = ["/v1/sessions/{session}/{role}", "/healthz", "/readyz", "/metrics", "/version", "/openapi.json"];
    assert_eq!(paths, BTreeSet::from(expected));
    for reference in references(&document) {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
    for (path, item) in document["paths"].as_object().unwrap() {
        let operation = &item["get"];
        assert!(
            operation["operationId"].is_string() && !operation["responses"].as_object().unwrap().is_empty(),
            "{path}"
        );
        let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path").count();
        assert_eq!(in_path, path.matches('{').count(), "{path}");
    }
    let statuses = document["paths"]["/v1/sessions/{session}/{role}"]["get"]["responses"].as_object().unwrap();
    let statuses: Vec<&String> = statuses.keys().collect();
    assert_eq!(statuses, ["101", "400", "403", "404", "426", "429", "503"]);
}
