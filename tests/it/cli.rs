//! The command line as a person meets it: help, examples, exit codes, completions, the demo, slips of the pen.

mod words;

use std::process::{Command, Output, Stdio};

use clap::{CommandFactory as _, Parser as _};
use handoff_relay::cli::{Cli, Exit};

use crate::handoff::process::{Process, handoff};
use crate::handoff::scene::{Folder, write};

pub(crate) use words::{commands, handoff_words};

/// Runs a command to its end.
fn run(arguments: &[&str]) -> Output {
    handoff(arguments).stdin(Stdio::null()).output().unwrap()
}

/// What a command that succeeds prints.
pub(crate) fn stdout(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that fails says, and its exit code.
fn refusal(arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(arguments);
    assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// A text without the line breaks that depend on the terminal.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The commands that there are, but for `help` itself.
fn names() -> Vec<String> {
    let command = Cli::command();
    command.get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

/// Every exit code; one that is added does not compile until it is here.
const EXITS: [Exit; 8] = {
    use Exit::{CannotRun, Config, Ended, File, Interrupted, Success, Unreachable, Usage};
    match Success {
        Success | Ended | Usage | File | Unreachable | CannotRun | Config | Interrupted => {}
    }
    [Success, Ended, Usage, File, Unreachable, CannotRun, Config, Interrupted]
};

/// The exit codes of the help text with their meanings.
pub(crate) fn exit_codes_in_help() -> Vec<(u8, String)> {
    let help = stdout(&["--help"]);
    let table = help.split("Exit codes:").nth(1).unwrap();
    let rows = table.lines().skip(1).map_while(|line| line.trim().split_once("  "));
    rows.map(|(code, meaning)| (code.parse().unwrap(), meaning.trim().to_owned())).collect()
}

#[test]
fn the_exit_codes_in_the_help_text_are_those_of_the_program() {
    let documented: Vec<u8> = exit_codes_in_help().into_iter().map(|(code, _)| code).collect();
    assert_eq!(documented, EXITS.map(Exit::code));
}

#[test]
fn every_command_has_a_help_text_that_says_what_it_is_for() {
    let all = stdout(&["--help"]);
    assert!(
        unwrapped(&all).contains("a relay that can read nothing") && all.contains("Start with: handoff demo"),
        "{all}"
    );
    for name in names() {
        assert!(all.contains(&format!("  {name} ")), "{name} is not listed");
        let help = stdout(&[&name, "--help"]);
        assert!(help.contains(&format!("Usage: handoff {name}")) && help.contains("--json"), "{help}");
        assert!(!help.starts_with("Usage"), "{name} does not say what it is for");
        assert_eq!(stdout(&["help", &name]), help);
    }
    for (name, phrases) in [
        ("serve", ["HANDOFF_SECTION__KEY", "SIGHUP", "--print-config", "--set", "127.0.0.1:8080"].as_slice()),
        ("old", &["at most 256 KiB", "--static-qr", "mlkem768-p256", "--patience", "ws://127.0.0.1:8080"]),
        ("new", &["standard input", "readable by its owner only", "--force", "--ca-file"]),
        ("activate", &["goes on where it was", "--enrolment-token-file", "readable by its owner only", "yes or no"]),
        ("apps", &["list", "rename", "delete", "cancel", "--state"]),
        ("unlock", &["after ten wrong ones", "--state"]),
        ("demo", &["See it all in this terminal", "Nothing is asked"]),
        ("completions", &["bash", "zsh", "fish"]),
        ("check-config", &["Ends with 78", "with 71", "--set"]),
        ("healthcheck", &["without a shell", "/readyz", "http://127.0.0.1:8080"]),
        ("status", &["server.metrics_listen"]),
        ("migrate", &["before an upgrade", "with 71", "--set"]),
        ("users", &["import", "people.csv"]),
        ("enrolment-token", &["development.key", "sms.gateway", "A token serves once", "--phone"]),
        ("outbox", &["temporary PINs", "--follow", "http://127.0.0.1:8080"]),
    ] {
        let help = unwrapped(&stdout(&[name, "--help"]));
        phrases.iter().for_each(|phrase| assert!(help.contains(phrase), "{name}: {phrase} is missing in {help}"));
    }
}

#[test]
fn every_example_in_a_help_text_is_a_valid_command() {
    let of_relay = ["serve", "old", "new", "activate", "apps", "unlock", "check-config", "healthcheck", "status"];
    let of_activation = ["migrate", "users", "enrolment-token", "outbox"];
    for name in of_relay.into_iter().chain(of_activation) {
        let help = stdout(&[name, "--help"]);
        let examples = commands(help.split("Examples:").nth(1).unwrap());
        assert!(examples.len() >= 3, "{name}: {examples:?}");
        examples.iter().for_each(|example| {
            Cli::try_parse_from(example).unwrap_or_else(|problem| panic!("{example:?}: {problem}"));
        });
    }
}

#[test]
fn the_relays_own_advice_at_its_start_is_a_valid_command() {
    let mut relay = Process::start(&["serve", "--listen", "127.0.0.1:0"]);
    let told = relay.until_text("Or everything in one");
    let advice = commands(&told.join("\n"));
    assert_eq!(advice.len(), 2, "{told:?}");
    advice.iter().for_each(|command| drop(Cli::try_parse_from(command).unwrap()));
    assert!(told.last().unwrap().ends_with(": handoff demo"), "{told:?}");
}

#[test]
fn completion_scripts_are_valid_and_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&["completions", shell]);
        names().iter().for_each(|name| assert!(script.contains(name.as_str()), "{shell}: {name}"));
        assert!(script.contains("qr-out"), "{shell}");
    }
    let folder = Folder::with(0);
    let script = write(&folder.path("handoff.bash"), &stdout(&["completions", "bash"]));
    let checked = Command::new("bash").args(["-n", &script]).output().expect("bash is missing: apt-get install bash");
    assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");
}

#[test]
fn the_demo_activates_an_app_and_copies_it_to_another_phone() {
    let end = Process::start(&["demo", "--json"]).end();
    assert_eq!((end.code, end.errors.as_str()), (Some(0), ""), "{end:?}");
    assert_eq!(end.events[0]["event"], "listening");
    let told = |who: &str| -> Vec<&str> {
        let events = end.events.iter().filter(|event| event["who"] == who && event["event"] != "remark");
        events.map(|event| event["event"].as_str().unwrap()).collect()
    };
    let (old, new) = (told("old phone"), told("new phone"));
    for (told, steps) in [
        (&old, &["activated", "qr_shown", "peer_joined", "ask_code", "code_accepted", "delivered", "app", "app"][..]),
        (&new, &["joined", "show_code", "code_accepted", "credential_received", "confirmed", "activated"]),
    ] {
        let mut rest = told.iter();
        steps.iter().for_each(|step| assert!(rest.any(|event| event == step), "{step} is not in its place: {told:?}"));
    }
    let activated: Vec<_> = end.events.iter().filter(|event| event["event"] == "activated").collect();
    let listed: Vec<_> = end.events.iter().filter(|event| event["event"] == "app").collect();
    let ids = |events: &[&serde_json::Value]| events.iter().map(|event| event["app"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&listed), ids(&activated));
    for who in ["person", "SMS", "issuer"] {
        assert!(end.events.iter().any(|event| event["event"] == "remark" && event["who"] == who), "{who}");
    }
}

#[test]
fn the_demo_is_readable_and_tells_the_same_story_each_time() {
    let text = stdout(&["demo"]);
    let lines = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.contains('\u{1b}')).map(str::to_owned).collect()
    };
    let first = lines(&text);
    assert!(first[0].starts_with("service ") && first.last().unwrap().ends_with(" New phone"), "{text}");
    assert!(first.iter().any(|line| line.starts_with("person     Reads ")), "{text}");
    assert!(text.lines().count() > first.len() + 15, "no QR code is drawn");
    assert!(first.len() <= 60 && first.iter().all(|line| line.len() <= 120), "{text}");
    let without_digits = |lines: &[String]| -> Vec<String> {
        lines.iter().map(|line| line.chars().filter(|c| !c.is_ascii_digit()).collect()).collect()
    };
    assert_eq!(without_digits(&lines(&stdout(&["demo"]))), without_digits(&first));
}

#[test]
fn the_effective_settings_are_a_configuration() {
    let folder = Folder::with(0);
    let changed = ["--set", "session.frame_intervals=5s,2s", "--set", "server.trusted_proxies=10.0.0.0/8,::1"];
    let further = [
        "--sessions",
        "7",
        "--log",
        "warn,handoff_relay=debug",
        "--set",
        "open.audience=a \"b\" # c",
        "--open-policy",
        "jwt",
        "--jwks-file",
        "k",
    ];
    let first = stdout(&[&["serve", "--print-config"], &changed[..], &further[..]].concat());
    let file = write(&folder.path("handoff.toml"), &first);
    let second = stdout(&["serve", "--print-config", "--config", &file]);
    assert_eq!(values(&second), values(&first));
    assert_ne!(values(&first), values(&stdout(&["serve", "--print-config"])));
}

/// The lines without what says where each value comes from.
fn values(config: &str) -> Vec<&str> {
    config.lines().map(|line| line.rsplit_once("  # ").map_or(line, |(value, _)| value)).collect()
}

#[test]
fn a_slip_of_the_pen_is_answered_with_what_was_meant() {
    for (arguments, code, advice) in [
        (&["sevre"][..], 2, "'serve'"),
        (&["demo", "--jsno"], 2, "'--json'"),
        (&["old"], 2, "--credential <FILE>"),
        (&["new", "--qr", "HO:", "--qr-image", "qr.png", "--out", "x"], 2, "cannot be used with"),
        (&["completions", "tcsh"], 2, "fish"),
        (&["serve", "--set", "session.lifetme=90s"], 78, "this section has session.lifetime"),
        (&["serve", "--set", "sesion.lifetime=90s"], 78, "the sections are server, session, limits"),
        (&["serve", "--lifetime", "4m"], 78, "session.lifetime"),
        (&["serve", "--config", "/no/such/file"], 78, "/no/such/file cannot be read"),
        (&["serve", "--listen", "0.0.0.0:0"], 78, "open.policy"),
    ] {
        let (found, text) = refusal(arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {text}");
        assert!(text.contains(advice), "{arguments:?}: {advice:?} is not in {text}");
    }
}

#[test]
fn an_address_that_is_taken_is_named_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, text) = refusal(&["serve", "--listen", &address]);
    assert_eq!(code, Some(71), "{text}");
    assert!(text.contains(&format!("cannot listen on {address}: ")), "{text}");
    assert_eq!(text.matches("in use").count(), 1, "{text}");
}

#[test]
fn without_a_command_the_relay_runs() {
    let mut command = handoff(&["--json"]);
    command.env("HANDOFF_SERVER__LISTEN", "127.0.0.1:0");
    let mut relay = Process::start_as(command);
    let listening = relay.until("listening");
    assert_eq!(listening["tls"], false);
    relay.signal(rustix::process::Signal::INT);
    assert_eq!(relay.end().code, Some(0));
}

#[test]
fn the_version_is_the_packages() {
    assert_eq!(stdout(&["--version"]).trim(), format!("handoff {}", env!("CARGO_PKG_VERSION")));
    let document: serde_json::Value = serde_json::from_str(&stdout(&["openapi"])).unwrap();
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
}
