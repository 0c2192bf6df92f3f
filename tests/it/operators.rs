//! The commands for whoever runs a relay: settings checked before a start, a running one asked, its log turned up.

use std::process::{Output, Stdio};

use handoff_relay::protocol::close::CloseReason::Completed;
use rustix::process::Signal;
use serde_json::Value;

use crate::cli::stdout;
use crate::handoff::process::handoff;
use crate::handoff::scene::{Folder, write};
use crate::support::eventually;
use crate::support::messages::{Transfer, complete};
use crate::support::party::Pair;
use crate::support::relay::Relay;

fn run(arguments: &[&str]) -> Output {
    handoff(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The exit code of a command that fails, and what it says.
fn refusal(arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(arguments);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn settings_are_checked_without_a_start() {
    assert!(stdout(&["check-config"]).contains("valid"));
    let event: Value = serde_json::from_str(&stdout(&["check-config", "--json", "--sessions", "8000"])).unwrap();
    assert_eq!(event["event"], "valid");
    let warning =
        event["warnings"].as_array().unwrap().iter().find(|text| text.as_str().unwrap().contains("less than"));
    assert!(warning.is_some(), "{event}");

    let (code, text) = refusal(&["check-config", "--lifetime", "4m"]);
    assert!(code == Some(78) && text.contains("session.lifetime"), "{code:?} {text}");
}

#[test]
fn a_file_that_cannot_be_used_is_found_before_a_start() {
    let folder = Folder::with(0);
    let broken = write(&folder.path("broken.pem"), "no certificate");
    let files = [
        (
            vec!["open.policy=jwt".to_owned(), "open.audience=a".to_owned(), format!("open.jwks_file={broken}")],
            "broken",
        ),
        (vec![format!("server.tls_certificate={broken}"), format!("server.tls_key={broken}")], "broken"),
        (vec!["network.asn_database=/nowhere.mmdb".to_owned()], "/nowhere.mmdb"),
        (
            vec!["redis.url=rediss://redis:6379".to_owned(), "redis.certificate_authority=/nowhere.pem".to_owned()],
            "/nowhere.pem",
        ),
        (vec!["activation.enrolment_jwks_file=/nowhere.json".to_owned()], "/nowhere.json"),
        (
            vec![
                "sms.gateway=http".to_owned(),
                "sms.url=http://sms.internal".to_owned(),
                "sms.body=to={to}&text={text}".to_owned(),
            ],
            "an SMS gateway's url must be https",
        ),
    ];
    for (settings, named) in files {
        let flags = settings.iter().flat_map(|setting| ["--set", setting.as_str()]);
        let (code, text) = refusal(&["check-config"].into_iter().chain(flags).collect::<Vec<_>>());
        assert!(code == Some(71) && text.contains(named), "{settings:?}: {code:?} {text}");
    }
}

/// Somebody who wants traces should not have to find out that there are none.
#[cfg(not(feature = "otlp"))]
#[test]
fn a_binary_without_traces_refuses_to_start_with_a_collector() {
    let refused = Relay::try_start(&["traces.endpoint=http://127.0.0.1:4318"]).unwrap_err();
    assert_eq!(refused.code, Some(71));
    assert!(refused.log.contains("--features otlp"), "{}", refused.log);
    let (code, text) = refusal(&["check-config", "--set", "traces.endpoint=http://127.0.0.1:4318"]);
    assert!(code == Some(71) && text.contains("--features otlp"), "{code:?} {text}");
}

#[tokio::test]
async fn a_healthcheck_tells_a_ready_node_from_one_that_leaves_and_from_none() {
    let mut relay = Relay::start(&["drain.grace=60s"]);
    let url = format!("http://{}", relay.address());
    assert_eq!(stdout(&["healthcheck", &url]), "ready\n");
    assert_eq!(stdout(&["healthcheck", "--live", &url]), "alive\n");

    let pair = Pair::waiting(relay.address(), Transfer::usual()).await;
    relay.signal(Signal::TERM);
    relay.until_metric("handoff_draining", 1.0).await;
    let (code, text) = refusal(&["healthcheck", &url]);
    assert!(code == Some(69) && text.contains("/readyz answers 503"), "{code:?} {text}");
    assert_eq!(stdout(&["healthcheck", "--live", &url]), "alive\n");

    drop(pair);
    relay.signal(Signal::TERM);
    relay.until_exit().await;
    let (code, text) = refusal(&["healthcheck", "--live", &url]);
    assert!(code == Some(69) && text.contains(&url), "{code:?} {text}");
}

#[tokio::test]
async fn status_shows_what_a_relay_holds_and_how_its_handoffs_ended() {
    let relay = Relay::start(&["server.metrics_listen=127.0.0.1:0", "limits.sessions=7"]);
    let mut done = Pair::joined(relay.address(), Transfer::usual()).await;
    done.old.as_mut().unwrap().say(&complete()).await;
    done.old.as_mut().unwrap().hear_end(Completed).await;
    let _waiting = Pair::waiting(relay.address(), Transfer::usual()).await;
    relay.until_metric("handoff_connections", 1.0).await;

    let url = format!("http://{}", relay.metrics_address());
    let status: Value = serde_json::from_str(&stdout(&["status", "--json", &url])).unwrap();
    let expected = [
        ("/version", Value::from(env!("CARGO_PKG_VERSION"))),
        ("/ready", true.into()),
        ("/draining", false.into()),
        ("/sessions/waiting", 1.0.into()),
        ("/sessions/joined", 0.0.into()),
        ("/sessions/limit", 7.0.into()),
        ("/connections/open", 1.0.into()),
        ("/since_start/opened", 2.0.into()),
        ("/since_start/joined", 1.0.into()),
        ("/since_start/completed", 1.0.into()),
        ("/since_start/ended_otherwise", 0.0.into()),
        ("/redis_answers", false.into()),
    ];
    for (pointer, value) in expected {
        assert_eq!(status.pointer(pointer), Some(&value), "{pointer} in {status}");
    }
    let text = stdout(&["status", &url]);
    assert!(text.contains("sessions     1 waiting, 0 joined, of 7\n"), "{text}");
    assert!(text.contains("2 opened, 1 joined, 1 completed, 0 expired"), "{text}");

    let (code, text) = refusal(&["status", &format!("http://{}", relay.address())]);
    assert!(code == Some(69) && text.contains("server.metrics_listen"), "{code:?} {text}");
}

#[test]
fn the_version_is_there_for_people_and_for_machines() {
    assert!(stdout(&["version"]).starts_with(concat!("handoff-relay ", env!("CARGO_PKG_VERSION"))));
    let version: Value = serde_json::from_str(&stdout(&["version", "--json"])).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version["protocol"], "handoff.v1");
}

#[tokio::test]
async fn the_log_is_turned_up_while_the_relay_runs() {
    let folder = Folder::with(0);
    let file = write(&folder.path("handoff.toml"), "[log]\nfilter = \"info\"\n");
    let relay = Relay::start_with_file(&file);
    let _quiet = Pair::waiting(relay.address(), Transfer::usual()).await;
    assert!(!relay.log().contains("session opened"), "{}", relay.log());

    write(&folder.path("handoff.toml"), "[log]\nfilter = \"debug\"\n");
    relay.signal(Signal::HUP);
    let log = async || relay.log();
    eventually("reloaded", log, |log| log.contains("\"what\":\"log filter\"")).await;
    let _loud = Pair::waiting(relay.address(), Transfer::usual()).await;
    eventually("loud", log, |log| log.contains("session opened")).await;

    write(&folder.path("handoff.toml"), "[log]\nfilter = \"inof\"\n");
    relay.signal(Signal::HUP);
    eventually("refused", log, |log| log.contains("not reloaded; the old one stays")).await;
    eventually("why", log, |log| log.contains("is not one of off, error")).await;
}
