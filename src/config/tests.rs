use std::collections::BTreeSet;
use std::time::Duration;

use clap::Parser;
use tempfile::NamedTempFile;

use super::keys::{KEYS, Shape};
use super::*;
use crate::session::network_tag::Refuse;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

/// The flags of a command line. `HANDOFF_CONFIG` is not read here: no test sets it.
fn args(flags: &[&str]) -> Args {
    Cli::try_parse_from(["handoff"].iter().chain(flags)).unwrap().args
}

fn variables(set: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    set.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn toml(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// What a file, variables and flags make together.
fn load(file: &str, environment: &[(&str, &str)], flags: &[&str]) -> Result<Loaded, ConfigError> {
    let file = toml(file);
    let args = Args { config: Some(file.path().to_owned()), ..args(flags) };
    let name = file.path().display().to_string();
    Loaded::load(&args, variables(environment)).map_err(|mut error| {
        if let ConfigError::UnknownKey { origin, .. } | ConfigError::BadValue { origin, .. } = &mut error {
            // The file's name is random.
            *origin = origin.replace(&name, "FILE");
        }
        error
    })
}

fn from_file(text: &str) -> Result<Settings, ConfigError> {
    load(text, &[], &[]).map(|loaded| loaded.settings)
}

fn error_from_file(text: &str) -> String {
    from_file(text).expect_err(text).to_string()
}

fn error_from_flags(flags: &[&str]) -> String {
    load("", &[], flags).expect_err(&flags.join(" ")).to_string()
}

fn lifetime(file: &str, environment: &[(&str, &str)], flags: &[&str]) -> u64 {
    load(file, environment, flags).unwrap().settings.session.lifetime.as_secs()
}

#[test]
fn without_anything_the_defaults_are_in_force() {
    let loaded = Loaded::load(&Args::default(), variables(&[])).unwrap();
    assert_eq!(loaded.settings, Settings::default());
    assert_eq!(loaded.settings.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(loaded.settings.session.lifetime, Duration::from_mins(3));
    assert_eq!(loaded.settings.open.effective_policy(), OpenPolicy::Anyone);
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = "[session]\nlifetime = \"100s\"";
    let environment = [("HANDOFF_SESSION__LIFETIME", "110s")];
    assert_eq!(lifetime(file, &[], &[]), 100);
    assert_eq!(lifetime(file, &environment, &[]), 110);
    assert_eq!(lifetime(file, &environment, &["--lifetime", "120s"]), 120);
    assert_eq!(lifetime(file, &environment, &["--lifetime", "120s", "--set", "session.lifetime=130s"]), 130);
    assert_eq!(lifetime("", &environment, &[]), 110);
}

#[test]
fn one_layer_leaves_the_other_settings_of_a_section_alone() {
    let file = "[session]\nlifetime = \"100s\"\nframe_intervals = [\"2s\"]";
    let settings = load(file, &[("HANDOFF_SESSION__LIFETIME", "110s")], &[]).unwrap().settings;
    assert_eq!(settings.session.frame_intervals, [FrameInterval::Every(Duration::from_secs(2))]);
}

#[test]
fn lists_are_separated_by_commas_outside_the_file_and_replace_what_was_there() {
    let file = "[server]\ntrusted_proxies = [\"192.0.2.0/24\", \"198.51.100.1\"]";
    let proxies = |environment, flags| -> Vec<String> {
        let settings = load(file, environment, flags).unwrap().settings;
        settings.server.trusted_proxies.iter().map(ToString::to_string).collect()
    };
    assert_eq!(proxies(&[], &[]), ["192.0.2.0/24", "198.51.100.1/32"]);
    let environment = [("HANDOFF_SERVER__TRUSTED_PROXIES", "10.0.0.0/8, fd00::1")];
    assert_eq!(proxies(&environment, &[]), ["10.0.0.0/8", "fd00::1/128"]);
    assert_eq!(proxies(&environment, &["--set", "server.trusted_proxies="]), [""; 0]);
}

#[test]
fn every_flag_changes_its_setting() {
    let flags = [
        ("--listen", "127.0.0.1:9", "server.listen"),
        ("--metrics-listen", "127.0.0.1:10", "server.metrics_listen"),
        ("--lifetime", "90s", "session.lifetime"),
        ("--sessions", "7", "limits.sessions"),
        ("--open-policy", "anyone", "open.policy"),
        ("--log-format", "json", "log.format"),
        ("--log", "debug", "log.filter"),
    ];
    for (flag, value, key) in flags {
        let loaded = load("", &[], &[flag, value]).unwrap();
        assert_eq!(loaded.origins, BTreeMap::from([(key, format!("from {flag}"))]));
        assert_ne!(loaded.print_config(), Loaded::load(&Args::default(), []).unwrap().print_config());
    }
    let jwt = load("", &[], &["--open-policy=jwt", "--jwks-file=/keys.json", "--audience=us"]).unwrap().settings.open;
    assert_eq!(jwt.effective_policy(), OpenPolicy::Jwt);
    assert_eq!((jwt.jwks_file, jwt.audience.as_deref()), (Some("/keys.json".into()), Some("us")));
}

#[test]
fn a_wrong_value_is_refused_with_its_key_value_origin_and_what_is_allowed() {
    assert_eq!(
        error_from_file("[session]\nlifetime = \"soon\""),
        "session.lifetime = \"soon\" (in FILE): must be a time such as 180s, from 1s to 180s"
    );
    let from_environment = load("", &[("HANDOFF_LIMITS__SESSIONS", "many")], &[]).unwrap_err();
    assert_eq!(
        from_environment.to_string(),
        "limits.sessions = \"many\" (from the environment variable HANDOFF_LIMITS__SESSIONS): must be a number from 1 \
         to 1000000"
    );
    assert_eq!(
        error_from_flags(&["--listen", "8080"]),
        "server.listen = \"8080\" (from --listen): must be an address and a port, such as 127.0.0.1:8080 or [::]:8080"
    );
    assert_eq!(
        error_from_flags(&["--set", "server.trusted_proxies=10.0.0.0/8,10.0.0.0/99"]),
        "server.trusted_proxies = [\"10.0.0.0/8\", \"10.0.0.0/99\"] (from --set): must be a list of addresses and \
         networks, such as 10.0.0.0/8"
    );
}

#[test]
fn no_value_of_the_wrong_type_is_accepted_anywhere() {
    let wrong = ["{}", "[[1]]", "\"\\u0000\"", "-1", "1979-05-27"];
    for key in KEYS {
        let (section, name) = key.name.split_once('.').unwrap();
        let is_free_text = ["audience", "issuer", "filter"].contains(&name) || key.allowed.starts_with("the name");
        for value in wrong.iter().filter(|value| !is_free_text || value.starts_with(['{', '['])) {
            let text = format!("[{section}]\n{name} = {value}");
            let error = error_from_file(&text);
            assert!(error.contains(key.name), "{text}: {error}");
        }
    }
}

#[test]
fn the_lifetime_is_from_1s_to_180s_and_never_more() {
    for good in ["1s", "90s", "2m 59s", "180s", "3m", "1500ms"] {
        assert!(load("", &[], &[&format!("--lifetime={good}")]).is_ok(), "{good}");
    }
    for bad in ["0s", "999ms", "181s", "4m", "1h", "180", "", "-5s", "180s1ns"] {
        assert!(error_from_flags(&[&format!("--lifetime={bad}")]).starts_with("session.lifetime = "), "{bad}");
    }
    assert!(error_from_file("[session]\nlifetime = 120").contains("must be a time such as 180s"));
}

#[test]
fn frame_intervals_are_from_1s_to_180s_and_static_is_the_lifetime() {
    let intervals = |list: &str| {
        let flags = ["--lifetime=60s".to_owned(), format!("--set=session.frame_intervals={list}")];
        load("", &[], &[&flags[0], &flags[1]]).map(|loaded| loaded.settings.session.intervals())
    };
    let seconds = |list: &[u64]| list.iter().map(|seconds| Duration::from_secs(*seconds)).collect::<Vec<_>>();
    assert_eq!(intervals("static,5s,5s,1s"), Ok(seconds(&[1, 5, 60])));
    assert_eq!(intervals("60s,static"), Ok(seconds(&[60])));
    for bad in ["", "500ms", "181s", "never", "0s"] {
        assert!(intervals(bad).unwrap_err().to_string().starts_with("session.frame_intervals = "), "{bad}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_keys_that_there_are() {
    assert_eq!(
        error_from_file("[session]\nlifetme = \"90s\""),
        "there is no setting session.lifetme (in FILE); this section has session.lifetime, session.frame_intervals"
    );
    for text in ["[sesion]\nlifetime = \"90s\"", "sesion = 5", "[sesion.x]\ny = 1"] {
        let error = error_from_file(text);
        assert!(error.starts_with("there is no setting sesion"), "{error}");
        assert!(error.ends_with("the sections are server, session, limits, network, open, log"), "{error}");
    }
    let error = error_from_flags(&["--set", "limits.session=5"]);
    assert!(error.starts_with("there is no setting limits.session (from --set)"), "{error}");
    assert!(error_from_flags(&["--set", "limits.sessions"]).starts_with("--set needs section.key=value"));
    let variable = load("", &[("HANDOFF_SESSION__LIFETME", "1s")], &[]).unwrap_err().to_string();
    assert!(variable.starts_with("there is no setting session.lifetme (from the environment variable"), "{variable}");
}

#[test]
fn a_section_must_be_a_table() {
    assert!(error_from_file("session = \"90s\"").starts_with("there is no setting session (in FILE)"));
    assert!(from_file("[session]\n[limits]").is_ok(), "an empty section says nothing");
}

#[test]
fn a_variable_with_one_underscore_where_two_belong_is_not_passed_over() {
    let error = load("", &[("HANDOFF_SESSION_LIFETIME", "90s")], &[]).unwrap_err().to_string();
    assert_eq!(
        error,
        "HANDOFF_SESSION_LIFETIME is not a setting; session.lifetime is set with HANDOFF_SESSION__LIFETIME"
    );
}

#[test]
fn variables_that_are_not_settings_are_passed_over() {
    let environment = [
        ("HANDOFF_PORT", "tcp://10.0.0.1:8080"),
        ("HANDOFF_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("HANDOFF_CONFIG", "/nowhere"),
        ("HANDOFFX__Y", "1"),
        ("PATH", "/bin"),
        ("HANDOFF_SESSION__LIFETIME", ""),
    ];
    assert_eq!(load("", &environment, &[]).unwrap().settings, Settings::default());
}

#[test]
fn a_file_that_is_missing_or_not_toml_is_named_and_its_text_not_repeated() {
    let missing = Args { config: Some("/nowhere/relay.toml".into()), ..Args::default() };
    let error = Loaded::load(&missing, []).unwrap_err().to_string();
    assert!(error.starts_with("the configuration file /nowhere/relay.toml cannot be read: No such file"), "{error}");
    let error = error_from_file("[network]\ntag_key = \"hunter2\" hunter3");
    assert!(error.contains("line 2") && !error.contains("hunter"), "{error}");
}

#[test]
fn who_may_open_must_be_said_when_others_than_this_machine_can_connect() {
    for open_to_all in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:8080"] {
        let error = error_from_flags(&["--listen", open_to_all]);
        assert!(error.starts_with("open.policy = nothing (default): must be said when server.listen"), "{error}");
        assert!(error.contains("open.policy = \"jwt\" with open.jwks_file and open.audience"), "{error}");
        assert!(error.contains("open.policy = \"anyone\""), "{error}");
        assert!(load("", &[], &["--listen", open_to_all, "--open-policy", "anyone"]).is_ok());
    }
    for here in ["127.0.0.1:8080", "127.8.8.8:80", "[::1]:8080", "[::ffff:127.0.0.1]:80"] {
        assert!(load("", &[], &["--listen", here]).is_ok(), "{here}");
    }
}

#[test]
fn tokens_need_keys_and_an_audience_and_keys_need_the_policy() {
    let error = |flags: &[&str]| error_from_flags(flags);
    assert!(error(&["--open-policy=jwt"]).starts_with("open.jwks_file = nothing (default): is needed"));
    assert!(error(&["--open-policy=jwt", "--jwks-file=a"]).starts_with("open.audience = nothing (default): is needed"));
    assert!(error(&["--open-policy=jwt", "--jwks-file=a", "--audience="]).starts_with("open.audience = \"\""));
    for in_vain in [&["--jwks-file=a"][..], &["--open-policy=anyone", "--audience=a"]] {
        assert!(error(in_vain).ends_with("has no effect without open.policy = \"jwt\""));
    }
    assert!(error(&["--set=open.leeway=6m"]).ends_with("must be at most 5m"));
}

#[test]
fn a_certificate_and_its_key_come_together() {
    assert!(error_from_flags(&["--set=server.tls_key=k"]).contains("needs server.tls_certificate"));
    assert!(error_from_flags(&["--set=server.tls_certificate=c"]).contains("needs server.tls_key"));
    assert!(load("", &[], &["--set=server.tls_certificate=c", "--set=server.tls_key=k"]).is_ok());
}

#[test]
fn nobody_can_trust_everybody_as_a_proxy() {
    for everybody in ["0.0.0.0/0", "::/0"] {
        assert!(error_from_flags(&["--set", &format!("server.trusted_proxies={everybody}")]).contains("everybody"));
    }
}

#[test]
fn an_allowed_origin_is_written_as_browsers_write_it() {
    let set = |origin: &str| load("", &[], &["--set", &format!("server.allowed_origins={origin}")]);
    for good in ["https://app.example", "http://localhost:8000", "https://[2001:db8::1]:444"] {
        assert!(set(good).is_ok(), "{good}");
    }
    let error = set("https://App.example:443/").unwrap_err().to_string();
    assert!(error.ends_with("\"https://App.example:443/\" must be written \"https://app.example\""), "{error}");
    for bad in ["app.example", "*", "null", "file:///x", "data:,x"] {
        assert!(set(bad).unwrap_err().to_string().contains("is not an origin such as"), "{bad}");
    }
}

#[test]
fn a_policy_on_countries_needs_a_database_of_countries() {
    assert!(error_from_flags(&["--set=network.refuse=different_country"]).contains("needs network.country_database"));
    let flags = ["--set=network.refuse=different_country", "--set=network.country_database=c.mmdb"];
    assert_eq!(load("", &[], &flags).unwrap().settings.network.refuse, Refuse::DifferentCountry);
    assert!(load("", &[], &["--set=network.refuse=different"]).is_ok());
}

#[test]
fn limits_are_at_least_one_and_rates_above_zero() {
    for key in KEYS.iter().filter(|key| key.name.starts_with("limits.")) {
        for bad in ["0", "-1", "nan", "inf", "99999999999"] {
            let error = error_from_flags(&["--set", &format!("{}={bad}", key.name)]);
            assert!(error.starts_with(key.name), "{error}");
        }
    }
    let slow = load("", &[], &["--set=limits.opens_per_second_per_address=0.5"]).unwrap();
    assert!((slow.settings.limits.opens_per_second_per_address - 0.5).abs() < f64::EPSILON);
}

#[test]
fn a_log_filter_that_cannot_be_understood_is_refused() {
    assert!(error_from_flags(&["--log", "inof"]).contains("is not one of off, error, warn, info, debug and trace"));
    assert!(error_from_flags(&["--log-format", "xml"]).ends_with("must be auto, json or text"));
}

#[test]
fn too_few_open_files_for_the_connections_are_warned_about() {
    let loaded = Loaded::load(&Args::default(), []).unwrap();
    assert_eq!(loaded.warnings(Some(18_100)), [""; 0]);
    assert_eq!(loaded.warnings(None), [""; 0]);
    let warnings = loaded.warnings(Some(1024));
    assert!(warnings[0].starts_with("limits.connections = 9000 needs 18100 open files"), "{warnings:?}");
    let few = load("", &[], &["--set=limits.connections=7999"]).unwrap();
    assert!(few.warnings(None)[0].contains("not all of them can be joined"));
}

const TAG_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

#[test]
fn a_secret_is_read_from_a_variable_or_from_a_file_that_one_names() {
    let bytes: Vec<u8> = (0..32).collect();
    let key = |environment: &[(&str, &str)]| load("", environment, &[]).unwrap().settings.network.tag_key.unwrap();
    assert_eq!(key(&[("HANDOFF_NETWORK__TAG_KEY", TAG_KEY)]).expose().as_slice(), bytes);
    let file = toml(&format!("{TAG_KEY}\n"));
    let path = file.path().to_str().unwrap();
    assert_eq!(key(&[("HANDOFF_NETWORK__TAG_KEY_FILE", path)]).expose().as_slice(), bytes);
    let error = load("", &[("HANDOFF_NETWORK__TAG_KEY_FILE", "/nowhere")], &[]).unwrap_err().to_string();
    assert!(error.starts_with("HANDOFF_NETWORK__TAG_KEY_FILE names /nowhere, which cannot be read"), "{error}");
    assert!(load("", &[("HANDOFF_SESSION__LIFETIME_FILE", path)], &[]).is_err(), "only secrets come from files");
}

#[test]
fn a_secret_is_shown_neither_when_it_is_wrong_nor_when_it_is_printed() {
    for bad in ["hunter2", &TAG_KEY[1..], &format!("{TAG_KEY}=")] {
        let error = load("", &[("HANDOFF_NETWORK__TAG_KEY", bad)], &[]).unwrap_err().to_string();
        assert!(error.starts_with("network.tag_key = [redacted] (from the environment variable"), "{error}");
        assert!(!error.contains(bad), "{error}");
    }
    assert!(!error_from_file("[network]\ntag_key = [\"hunter2\"]").contains("hunter2"));
    let loaded = load("", &[("HANDOFF_NETWORK__TAG_KEY", TAG_KEY)], &[]).unwrap();
    let shown = format!("{}{loaded:?}", loaded.print_config());
    assert!(!shown.contains(TAG_KEY) && shown.contains("SecretKey([redacted])"), "{shown}");
    assert!(shown.contains("# tag_key is set and not shown"), "{shown}");
}

#[test]
fn the_printed_configuration_says_where_each_setting_is_from_and_can_be_read_back() {
    let file =
        "[server]\nlisten = \"0.0.0.0:80\"\n[open]\npolicy = \"jwt\"\njwks_file = \"k\"\naudience = \"a\\\"\\u007f\"";
    let loaded = load(file, &[("HANDOFF_LIMITS__OPENS_PER_SECOND", "0.25")], &["--lifetime", "61s"]).unwrap();
    let printed = loaded.print_config();
    assert!(printed.contains("lifetime = \"1m 1s\"  # from --lifetime\n"), "{printed}");
    assert!(printed.contains("opens_per_second = 0.25  # from the environment variable HANDOFF_LIMITS"), "{printed}");
    assert!(printed.contains("sessions = 4000  # default\n"), "{printed}");
    assert!(printed.contains("# workers is not set\n"), "{printed}");
    assert_eq!(from_file(&printed).unwrap(), loaded.settings);
    for key in KEYS {
        let name = key.name.split_once('.').unwrap().1;
        assert!(printed.contains(&format!("{name} ")), "{name}");
    }
}

#[test]
fn the_table_of_keys_is_exactly_the_settings() {
    let values = serde_json::to_value(Settings::default()).unwrap();
    let sections = values.as_object().unwrap().iter();
    let of_structs: BTreeSet<String> = sections
        .flat_map(|(section, keys)| keys.as_object().unwrap().keys().map(move |name| format!("{section}.{name}")))
        .collect();
    let of_table: BTreeSet<String> = KEYS.iter().map(|key| key.name.to_owned()).collect();
    assert_eq!(of_table, of_structs);
    for key in KEYS {
        let (section, name) = key.name.split_once('.').unwrap();
        assert_eq!(values[section][name].is_array(), key.shape == Shape::List, "{}", key.name);
    }
}

/// A commented setting of the example file.
struct Line {
    section: &'static str,
    name: &'static str,
    /// With its value, as it would stand in a file.
    setting: &'static str,
    is_example: bool,
}

impl Line {
    fn key(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }
}

fn example_lines() -> Vec<Line> {
    let mut section = "";
    let mut lines = Vec::new();
    for line in include_str!("../../deploy/handoff-relay.example.toml").lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some(setting) = line.strip_prefix('#').filter(|rest| rest.starts_with(char::is_alphabetic)) {
            let name = setting.split(' ').next().unwrap();
            lines.push(Line { section, name, setting, is_example: line.ends_with("# (example)") });
        } else {
            assert!(line.is_empty() || line.starts_with("# ") || line == "#", "{line}");
        }
    }
    lines
}

#[test]
fn the_example_file_names_every_setting_once_and_changes_nothing() {
    let names: Vec<String> = example_lines().iter().map(Line::key).collect();
    let unique: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(unique, KEYS.iter().map(|key| key.name).collect());
    assert_eq!(names.len(), KEYS.len());
    assert_eq!(from_file(include_str!("../../deploy/handoff-relay.example.toml")).unwrap(), Settings::default());
}

#[test]
fn each_commented_default_of_the_example_file_is_the_real_default() {
    let defaults = serde_json::to_value(Settings::default()).unwrap();
    for line in example_lines() {
        let is_unset = defaults[line.section][line.name].is_null();
        assert_eq!(is_unset, line.is_example, "{}: what is not set by default is an example", line.key());
        if !line.is_example {
            let text = format!("[{}]\n{}", line.section, line.setting);
            assert_eq!(from_file(&text).unwrap(), Settings::default(), "{}", line.key());
        }
    }
}

#[test]
fn the_examples_of_the_example_file_are_accepted_together() {
    let text = include_str!("../../deploy/handoff-relay.example.toml").lines();
    let uncommented = text.map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line));
    let settings = from_file(&uncommented.collect::<Vec<_>>().join("\n")).unwrap();
    assert_eq!(settings.open.effective_policy(), OpenPolicy::Jwt);
    assert_eq!(settings.server.workers, Some(2));
    assert!(settings.network.tag_key.is_some());
}
