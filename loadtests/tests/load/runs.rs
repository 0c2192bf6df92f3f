//! Scenarios against a relay: who completes, and what the results say about it.

use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Ended, Folder, Relay, generator, group, run, sum};

/// Handoffs at once, without people.
pub(crate) const HANDOFFS: &str = "[[group]]\nname = \"handoffs\"\nkind = \"handoff\"\n";

pub(crate) fn burst(count: u32) -> String {
    let stages = format!("[{{ kind = \"burst\", count = {count}, within = \"1s\" }}]");
    format!("{HANDOFFS}arrivals = {{ model = \"open\", spacing = \"even\", stages = {stages} }}\n")
}

#[test]
fn smoke_passes_and_writes_what_it_measured() {
    let (relay, folder) = (Relay::start(&[]), Folder::new("smoke"));
    let [json, html] = ["smoke.json", "smoke.html"].map(|name| folder.path(name));
    let ended = run(&["run", "smoke", "--url", relay.url(), "--json", &json, "--html", &html]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.text.contains("PASSED") && ended.problem.contains("in flight"), "{ended:?}");
    let results: Value = serde_json::from_str(&folder.read("smoke.json")).unwrap();
    assert_eq!((&results["schema"], &results["verdict"]), (&Value::from(1), &Value::from("passed")));
    let handoffs = group(&results, "handoffs");
    assert!(sum(handoffs, "started") > 20 && sum(handoffs, "started") == sum(handoffs, "completed"), "{ended:?}");
    for phase in ["open", "join", "key", "code", "credential", "total", "wall"] {
        assert!(handoffs["phases"][phase].is_string(), "{phase}");
    }
    assert!(folder.read("smoke.html").contains("<polyline"));
}

#[test]
fn a_missed_threshold_is_told_by_the_exit_code() {
    let (relay, folder) = (Relay::start(&[]), Folder::new("missed"));
    let scenario = folder.scenario("\"handoffs.total.p50 < 1us\", \"handoffs.completed == 100%\"", &burst(10));
    let ended = run(&["run", &scenario, "--url", relay.url()]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.text.contains("MISSED  handoffs.total.p50 < 1us"), "{}", ended.text);
    assert!(ended.text.contains("holds   handoffs.completed == 100%"), "{}", ended.text);
}

#[test]
fn a_burst_completes_with_real_cryptography_and_without() {
    let (relay, folder) = (Relay::start(&[]), Folder::new("burst"));
    let scenario = folder.scenario("\"handoffs.completed == 300\", \"handoffs.failed == 0\"", &burst(300));
    for crypto in ["real", "replay"] {
        let ended = run(&["run", &scenario, "--url", relay.url(), "--crypto", crypto]);
        assert_eq!(ended.code, Some(0), "{crypto}: {ended:?}");
    }
}

#[test]
fn a_closed_model_keeps_as_many_users_as_it_has() {
    let (relay, folder) = (Relay::start(&[]), Folder::new("closed"));
    let arrivals =
        "arrivals = { model = \"closed\", users = 3, for = \"3s\", pause = { kind = \"constant\", time = \"200ms\" } }";
    let scenario = folder.scenario("\"handoffs.completed == 100%\"", &format!("{HANDOFFS}{arrivals}\n"));
    let json = folder.path("closed.json");
    let ended = run(&["run", &scenario, "--url", relay.url(), "--json", &json]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let results: Value = serde_json::from_str(&folder.read("closed.json")).unwrap();
    // Each of the three needs more than 200 ms for one.
    assert!((6..=45).contains(&sum(group(&results, "handoffs"), "completed")), "{ended:?}");
    assert!(results["generators"][0]["most_connections"].as_u64().unwrap() <= 6, "{ended:?}");
}

#[test]
fn two_generators_become_one_result() {
    let (relay, folder) = (Relay::start(&[]), Folder::new("merge"));
    let scenario = folder.scenario("\"handoffs.completed == 80\"", &burst(40));
    let files = ["a.json", "b.json"].map(|name| folder.path(name));
    let running = files.clone().map(|json| {
        let args = ["run", &scenario, "--url", relay.url(), "--seed", "7", "--json", &json];
        generator(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    });
    // Alone, each has only half of what the threshold asks for.
    assert!(running.map(|mut child| child.wait().unwrap().code()).iter().all(|code| *code == Some(1)));
    let [json, html] = ["both.json", "both.html"].map(|name| folder.path(name));
    let ended = run(&["merge", &files[0], &files[1], "--json", &json, "--html", &html]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let results: Value = serde_json::from_str(&folder.read("both.json")).unwrap();
    assert_eq!(sum(group(&results, "handoffs"), "completed"), 80);
    assert_eq!(results["generators"].as_array().unwrap().len(), 2);
    assert!(folder.read("both.html").contains("2 generators"));
}

#[test]
fn everybody_comes_back_after_a_storm() {
    let (relay, folder) = (Relay::start(&[]), Folder::new("storm"));
    let phones = "phone = { scan = { kind = \"constant\", time = \"1s\" }, type_code = { kind = \"constant\", time = \"3s\" } }\n";
    let cuts = "[[cut]]\nat = \"1500ms\"\n[[cut]]\nat = \"4s\"\n";
    let scenario = folder.scenario(
        "\"handoffs.completed == 100%\", \"handoffs.resume.p99 < 30s\", \"handoffs.setbacks >= 100\"",
        &format!("{}{phones}{cuts}", burst(100)),
    );
    for crypto in ["real", "replay"] {
        let ended = run(&["run", &scenario, "--url", relay.url(), "--crypto", crypto]);
        assert_eq!(ended.code, Some(0), "{crypto}: {ended:?}");
        assert!(ended.text.contains("connection_lost"), "{crypto}: {ended:?}");
    }
}

#[test]
fn attacks_are_turned_away_and_good_traffic_does_not_suffer() {
    let (relay, folder) = (Relay::start(&[]), Folder::new("abuse"));
    let groups = "\
        [[group]]\nname = \"good\"\nkind = \"handoff\"\n\
        arrivals = { model = \"open\", stages = [{ kind = \"constant\", rate = 10.0, for = \"4s\" }] }\n\
        [[group]]\nname = \"bad\"\nkind = \"abuse\"\n\
        arrivals = { model = \"open\", stages = [{ kind = \"constant\", rate = 100.0, for = \"4s\" }] }\n\
        attacks = { wrong_token = 3, wrong_proof = 3, second_join = 1, garbage = 4, no_upgrade = 3, hang = 2 }\n";
    let scenario = folder.scenario("\"good.completed == 100%\", \"bad.completed == 100%\"", groups);
    let json = folder.path("abuse.json");
    let ended = run(&["run", &scenario, "--url", relay.url(), "--json", &json]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let results: Value = serde_json::from_str(&folder.read("abuse.json")).unwrap();
    let answers = &group(&results, "bad")["answers"];
    let expected = [
        "nothing_to_resume",
        "unknown_session",
        "scanned_twice",
        "malformed_message",
        "http_400",
        "http_426",
        "first_message_timeout",
    ];
    for answer in expected {
        assert!(answers[answer].as_u64() > Some(0), "{answer}: {answers}");
    }
}

#[test]
fn lurkers_are_told_at_their_deadline() {
    let (relay, folder) = (Relay::start(&["session.lifetime=3s"]), Folder::new("lurkers"));
    let groups = "\
        [relay]\nlifetime = \"3s\"\nframe_interval = \"3s\"\n\
        [[group]]\nname = \"lurkers\"\nkind = \"lurker\"\n\
        arrivals = { model = \"open\", stages = [{ kind = \"burst\", count = 100, within = \"1s\" }] }\n";
    let relay_static = Relay::start(&["session.lifetime=3s", "session.frame_intervals=1s"]);
    let scenario = folder.scenario("\"lurkers.completed == 100%\", \"lurkers.ended.max < 2s\"", groups);
    let ended = run(&["run", &scenario, "--url", relay.url()]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // A relay that does not allow the interval turns every one away, and that is a failure.
    let ended = run(&["run", &scenario, "--url", relay_static.url()]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.text.contains("failed: bad_offer"), "{ended:?}");
}

#[test]
fn slow_phones_are_as_slow_as_their_network() {
    let (relay, folder) = (Relay::start(&[]), Folder::new("slow"));
    let network = "phone = { network = { latency = \"100ms\", jitter = \"20ms\" } }\n";
    // TCP, HTTP and `open` are three round trips; a join as many.
    let thresholds = "\"handoffs.completed == 100%\", \"handoffs.open.p50 >= 600ms\", \"handoffs.join.p50 >= 600ms\"";
    let scenario = folder.scenario(thresholds, &format!("{}{network}", burst(20)));
    let ended = run(&["run", &scenario, "--url", relay.url()]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn limits_of_one_address_are_named_and_more_addresses_get_around_them() {
    let relay =
        Relay::start_limited(&["limits.handshakes_burst_per_address=20", "limits.handshakes_per_second_per_address=1"]);
    let folder = Folder::new("limits");
    let phones = "phone = { patience = \"2s\" }\n";
    let scenario = folder.scenario("\"handoffs.completed == 100%\"", &format!("{}{phones}", burst(40)));
    let refused = run(&["run", &scenario, "--url", relay.url()]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.text.contains("refused with HTTP 429: the relay's limits for one address"), "{refused:?}");
    let spread = run(&["run", &scenario, "--url", relay.url(), "--source-addresses", "50"]);
    assert_eq!(spread.code, Some(0), "{spread:?}");
    assert!(spread.text.contains("50 source addresses"), "{spread:?}");
}

#[test]
fn a_generator_without_files_does_not_blame_the_relay() {
    let (relay, folder) = (Relay::start(&[]), Folder::new("files"));
    let phones = "phone = { patience = \"1s\", scan = { kind = \"constant\", time = \"1s\" } }\n";
    let scenario = folder.scenario("\"handoffs.completed == 100%\"", &format!("{}{phones}", burst(100)));
    let script = "ulimit -n 60; exec \"$0\" \"$@\"";
    let args = ["-c", script, env!("CARGO_BIN_EXE_handoff-load"), "run", &scenario, "--url", relay.url()];
    let ended: Ended = Command::new("sh").args(args).output().unwrap().into();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.text.contains("may open only 60 files") && ended.text.contains("NOT TO BE JUDGED"), "{ended:?}");
}

#[test]
fn a_late_generator_does_not_blame_the_relay() {
    let (relay, folder) = (Relay::start(&[]), Folder::new("late"));
    let scenario = folder.scenario("\"handoffs.completed == 100%\"", &burst(20));
    // Nobody's timers are that exact.
    let strict = folder.read("scenario.toml").replace("timer_lag = \"1m\"", "timer_lag = \"1ns\"");
    std::fs::write(&scenario, strict).unwrap();
    let ended = run(&["run", &scenario, "--url", relay.url()]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.text.contains("its timers fired"), "{ended:?}");
}

#[test]
fn an_interrupted_run_says_what_it_knows_and_is_not_judged() {
    let (relay, folder) = (Relay::start(&[]), Folder::new("interrupted"));
    let arrivals = "arrivals = { model = \"open\", stages = [{ kind = \"constant\", rate = 20.0, for = \"10m\" }] }";
    let scenario = folder.scenario("\"handoffs.completed == 100%\"", &format!("{HANDOFFS}{arrivals}\n"));
    let mut command = generator(&["run", &scenario, "--url", relay.url()]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It writes its first line when it has been running for a while.
    let mut progress = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut progress, &mut line).unwrap();
    assert!(line.contains("started"), "{line}");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ended: Ended = child.wait_with_output().unwrap().into();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.text.contains("the run was interrupted"), "{ended:?}");
    assert!(ended.text.contains("handoffs: "), "{ended:?}");
}

#[test]
fn several_nodes_each_get_their_share() {
    // Two relays that do not share a Redis: handoffs whose phones choose different ones cannot complete.
    let (one, two, folder) = (Relay::start(&[]), Relay::start(&[]), Folder::new("nodes"));
    let scenario = folder.scenario("\"handoffs.completed == 100%\"", &burst(40));
    let json = folder.path("nodes.json");
    let ended = run(&["run", &scenario, "--url", one.url(), "--url", two.url(), "--json", &json]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let results: Value = serde_json::from_str(&folder.read("nodes.json")).unwrap();
    let handoffs = group(&results, "handoffs");
    let (completed, lost) = (sum(handoffs, "completed"), handoffs["failures"]["unknown_session"].as_u64().unwrap());
    assert_eq!(completed + lost, 40, "{ended:?}");
    assert!((5..=35).contains(&completed), "{ended:?}");
}
