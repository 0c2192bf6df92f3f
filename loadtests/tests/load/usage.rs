//! The command line: what it refuses and what it lists.

use crate::support::{Folder, run};

#[test]
fn a_scenario_with_an_unknown_key_is_refused_by_the_keys_name() {
    let folder = Folder::new("unknown-key");
    let scenario = folder.scenario("", "[[group]]\nname = \"a\"\nkind = \"handoff\"\nspeed = 3\n");
    let ended = run(&["run", &scenario]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.problem.contains("unknown field `speed`") && ended.problem.contains("scenario.toml"), "{ended:?}");
}

#[test]
fn what_cannot_be_run_is_refused_with_a_reason() {
    let refusals: [(&[&str], &str); 7] = [
        (&["run", "smok"], "no built-in scenario \"smok\""),
        (&["run", "absent.toml"], "cannot read absent.toml"),
        (&["run", "smoke", "--url", "http://127.0.0.1"], "starts with wss://"),
        (&["run", "smoke", "--url", "ws://relay.example"], "--insecure"),
        (&["run", "smoke", "--rate-scale", "0"], "--rate-scale"),
        (&["merge", "absent.json"], "cannot read absent.json"),
        (&["show", "smok"], "no built-in scenario \"smok\""),
    ];
    for (args, reason) in refusals {
        let ended = run(args);
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(ended.problem.contains(reason), "{args:?}: {}", ended.problem);
    }
}

#[test]
fn every_built_in_scenario_is_listed_and_can_be_shown() {
    let list = run(&["list"]);
    assert_eq!(list.code, Some(0));
    let names: Vec<&str> = list.text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names.len(), 8, "{}", list.text);
    for name in names {
        let shown = run(&["show", name]);
        assert!(shown.text.contains(&format!("name = \"{name}\"")), "{}", shown.text);
    }
}

#[test]
fn the_readme_knows_every_flag_and_every_scenario() {
    let readme = include_str!("../../README.md");
    let help = run(&["run", "--help"]).text + &run(&["merge", "--help"]).text;
    let flags = help.split_whitespace().filter(|word| word.starts_with("--") && !word.starts_with("---"));
    for flag in flags.map(|flag| flag.trim_end_matches([',', '.', ':', ';', ')', '`'])) {
        assert!(["--help", "--version"].contains(&flag) || readme.contains(flag), "{flag}");
    }
    for line in run(&["list"]).text.lines() {
        let name = line.split(' ').next().unwrap();
        assert!(readme.contains(&format!("`{name}`")), "{name}");
    }
}
