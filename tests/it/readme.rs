//! README against the program: every command in it is valid, every configuration loads, every table is the code's.
//!
//! A block ```` ```console ```` holds commands. Of a table that the code has no words for, the numbers are compared.

use std::time::Duration;

use clap::Parser as _;
use handoff_relay::cli::Cli;
use handoff_relay::protocol::limits;

use crate::cli::{exit_codes_in_help, handoff_words, stdout};
use crate::handoff::scene::{Folder, write};
use crate::support::relay::Relay;

const README: &str = include_str!("../../README.md");
const TEST_COMMAND: &str = include_str!("../run");

/// The fenced blocks of one language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    let blocks: Vec<&str> = README.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty(), "README has no {language} block");
    blocks
}

/// The rows of the table that begins with this head, without back quotes around a whole cell.
fn table(head: &str) -> Vec<Vec<&'static str>> {
    let (_, rest) = README.split_once(head).unwrap_or_else(|| panic!("README has no table {head}"));
    let rows = rest.lines().skip(2).take_while(|line| line.starts_with('|'));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect();
    assert!(!rows.is_empty(), "the table {head} is empty");
    rows
}

#[test]
fn every_command_is_valid() {
    let lines: Vec<&str> = blocks("console").iter().flat_map(|block| block.lines()).collect();
    let mut handoffs = 0;
    for line in lines {
        if let Some(words) = handoff_words(line) {
            Cli::try_parse_from(&words).unwrap_or_else(|problem| panic!("{line}: {problem}"));
            handoffs += 1;
        } else if let Some(steps) = line.strip_prefix("tests/run") {
            let is_step = |step: &str| TEST_COMMAND.contains(&format!("\nstep_{step}()"));
            assert!(steps.split_whitespace().all(is_step), "{line}: no such step");
        } else {
            // The second is tried by the generator's own tests.
            let known = ["cargo run --release", "cargo run --release -p handoff-load -- run smoke", "cargo bench"];
            assert!(known.contains(&line), "{line}: who checks this?");
        }
    }
    assert!(handoffs >= 5, "only {handoffs} commands");
}

#[test]
fn the_steps_of_the_test_command_are_all_named() {
    let steps = TEST_COMMAND.lines().filter_map(|line| line.strip_prefix("step_")?.split_once("()"));
    for (step, _) in steps {
        assert!(README.contains(&format!("`{step}`")), "README does not name the step {step}");
    }
}

#[test]
fn every_flag_in_the_text_exists() {
    let help: String = ["serve", "old", "new", "enrolment-token"].map(|command| stdout(&[command, "--help"])).concat();
    let quoted = README.split('`').filter(|text| text.starts_with("--") || text.starts_with("handoff "));
    for flag in quoted.flat_map(str::split_whitespace).filter(|word| word.starts_with("--")) {
        assert!(help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n")), "there is no {flag}");
    }
}

#[test]
fn every_configuration_loads() {
    let folder = Folder::with(0);
    for block in blocks("toml") {
        let file = write(&folder.path("handoff.toml"), block);
        stdout(&["serve", "--print-config", "--config", &file]);
    }
}

#[test]
fn the_table_of_settings_is_the_programs() {
    let mut section = "";
    let printed = stdout(&["serve", "--print-config"]);
    let mut known = Vec::new();
    for line in printed.lines().filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some(name) = line.strip_prefix("# ").and_then(|line| line.strip_suffix(" is not set")) {
            known.push((format!("`{section}.{name}`"), "not set".to_owned()));
        } else {
            let (name, value) = line.strip_suffix("  # default").unwrap().split_once(" = ").unwrap();
            known.push((format!("`{section}.{name}`"), format!("`{value}`")));
        }
    }
    let rows = table("| key | default | meaning |").into_iter();
    let documented: Vec<_> = rows.map(|row| (row[0].to_owned(), row[1].to_owned())).collect();
    assert_eq!(documented, known);
}

#[test]
fn the_table_of_exit_codes_is_the_programs() {
    let rows = table("| code | meaning |").into_iter();
    let documented: Vec<_> = rows.map(|row| (row[0].parse::<u8>().unwrap(), row[1].to_owned())).collect();
    assert_eq!(documented, exit_codes_in_help());
}

#[test]
fn the_table_of_limits_is_the_codes() {
    use limits::*;
    let kib = |bytes: usize| format!("{} KiB", bytes / 1024);
    let seconds = |time: Duration| format!("{} s", time.as_secs());
    let age = seconds(FRAME_INTERVAL * u32::from(FRAMES_ACCEPTED));
    let known = [
        ("lifetime of a session", vec![seconds(SESSION_LIFETIME)]),
        ("joins of a session", vec!["1".to_owned()]),
        ("age of a scanned QR frame", vec![age, format!("{} each", seconds(FRAME_INTERVAL))]),
        ("check code", vec!["1 try".to_owned(), seconds(CHECK_CODE_TIMEOUT)]),
        ("credential", vec![kib(MAX_CREDENTIAL_BYTES)]),
        ("data frame; control message", vec![format!("{}; {}", kib(MAX_FRAME_BYTES), kib(MAX_CONTROL_BYTES))]),
        (
            "data of one party in a session",
            vec![format!("{} MiB, {MAX_DIRECTION_FRAMES} frames", MAX_DIRECTION_BYTES / 1024 / 1024)],
        ),
        ("resumes of a session, both parties", vec![MAX_RESUMES.to_string()]),
        ("first message", vec![seconds(FIRST_MESSAGE_TIMEOUT)]),
        ("pings, pongs and texts on a connection", vec![MAX_CONTROL_FRAMES.to_string()]),
        ("connections of a session that said nothing yet", vec![MAX_UNIDENTIFIED.to_string()]),
        ("silence", vec![seconds(SILENCE_TIMEOUT)]),
        ("messages that wait for an app that does not read", vec!["64".to_owned()]),
        ("an ended session is remembered", vec![seconds(TOMBSTONE_GRACE)]),
        ("sessions, sessions opened on the node, connections", vec!["`limits.*`".to_owned()]),
        ("connections, handshakes, opens of one address", vec!["`limits.*`".to_owned()]),
    ];
    let rows = table("| name | value | what happens beyond it |");
    let names: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(names, known.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for (row, (name, values)) in rows.iter().zip(&known) {
        values.iter().for_each(|value| assert!(row[1].contains(value), "{name}: {value} is not in {}", row[1]));
    }
}

#[test]
fn every_reason_in_the_table_of_limits_is_a_close_reason() {
    use handoff_relay::protocol::close::CloseReason;
    let mut named = 0;
    for row in table("| name | value | what happens beyond it |") {
        let quoted = row[2].split('`').skip(1).step_by(2).filter(|word| !word.contains('-'));
        for word in quoted {
            assert!(CloseReason::ALL.iter().any(|reason| reason.label() == word), "{word}");
            named += 1;
        }
    }
    assert!(named >= 10, "only {named} reasons");
}

#[tokio::test]
async fn every_path_in_the_table_is_answered() {
    let relay = Relay::start(&[]);
    let client = handoff_relay::activation::https::client(None).unwrap();
    for row in table("| path | answer |") {
        for path in row[0].split(", ").map(|path| path.trim_matches('`')).filter(|path| !path.contains('{')) {
            let response = client.get(format!("http://{}{path}", relay.address())).send().await.unwrap();
            assert_eq!(response.status(), 200, "{path}");
        }
    }
}
