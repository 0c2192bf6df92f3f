//! Where settings come from, which source wins, and what is said about them.

use super::*;

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
fn an_unknown_key_is_refused_with_the_keys_that_there_are() {
    assert_eq!(
        error_from_file("[session]\nlifetme = \"90s\""),
        "there is no setting session.lifetme (in FILE); this section has session.lifetime, session.frame_intervals"
    );
    for text in ["[sesion]\nlifetime = \"90s\"", "sesion = 5", "[sesion.x]\ny = 1"] {
        let error = error_from_file(text);
        assert!(error.starts_with("there is no setting sesion"), "{error}");
        assert!(
            error.ends_with(
                "the sections are server, session, limits, network, open, redis, activation, sms, sms_second, \
                 drain, log, traces"
            ),
            "{error}"
        );
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
    assert!(printed.contains("# metrics_listen is not set\n"), "{printed}");
    assert_eq!(from_file(&printed).unwrap(), loaded.settings);
    for key in KEYS {
        let name = key.name.split_once('.').unwrap().1;
        assert!(printed.contains(&format!("{name} ")), "{name}");
    }
}
