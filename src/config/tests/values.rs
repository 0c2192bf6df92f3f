//! What each setting may be.

use super::*;

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
        let is_free_text =
            name == "filter" || ["a text", "the name"].iter().any(|start| key.allowed.starts_with(start));
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

#[test]
fn redis_is_named_by_addresses_without_a_password() {
    let urls = |urls: &str, more: &str| from_file(&format!("[redis]\nurl = {urls}\n{more}"));
    for good in ["[]", "[\"redis://10.0.0.1\"]", "[\"rediss://redis.internal:6380/3\"]"] {
        assert!(urls(good, "").is_ok(), "{good}");
    }
    assert!(load("", &[], &["--redis-url", "redis://127.0.0.1:6379"]).is_ok());
    for bad in ["[\"http://h\"]", "[\"redis:///1\"]", "[\"h:6379\"]", "[\"redis://h?protocol=resp2\"]"] {
        assert!(urls(bad, "").unwrap_err().to_string().starts_with("redis.url = "), "{bad}");
    }
    let two = "[\"redis://a\", \"redis://b\"]";
    assert!(urls(two, "").unwrap_err().to_string().ends_with("must be one address with redis.topology = \"single\""));
    assert!(urls(two, "topology = \"cluster\"").is_ok());
    assert!(urls("[\"redis://a\", \"rediss://b\"]", "topology = \"cluster\"").is_err(), "not half of it in clear text");
    let error = error_from_flags(&["--redis-url", "redis://user:hunter2@h:1"]);
    assert!(error.contains("HANDOFF_REDIS__PASSWORD_FILE") && !error.contains("hunter2"), "{error}");
}

#[test]
fn sentinels_watch_a_master_that_has_a_name() {
    let topology = |more: &str| from_file(&format!("[redis]\nurl = [\"redis://a\", \"redis://b\"]\n{more}"));
    assert!(topology("topology = \"sentinel\"\nsentinel_master = \"handoff\"").is_ok());
    assert!(
        topology("topology = \"sentinel\"").unwrap_err().to_string().starts_with("redis.sentinel_master = nothing")
    );
    assert!(topology("topology = \"cluster\"\nsentinel_master = \"handoff\"").is_err());
}

#[test]
fn what_belongs_to_a_redis_that_is_not_named_is_refused_for_it_would_be_one_node_alone() {
    for setting in ["username = \"u\"", "password = \"p\"", "topology = \"cluster\"", "certificate_authority = \"/ca\""]
    {
        let error = error_from_file(&format!("[redis]\n{setting}"));
        assert!(error.ends_with("has no effect without redis.url"), "{error}");
    }
    assert!(from_file("[redis]\nprefix = \"eid:prod-1\"").is_ok());
    assert!(from_file("[redis]\nprefix = \"a b\"").is_err() && from_file("[redis]\nprefix = \"\"").is_err());
    assert!(from_file("[redis]\ntimeout = \"99ms\"").is_err() && from_file("[redis]\ntimeout = \"11s\"").is_err());
}

#[test]
fn a_second_sms_gateway_needs_a_first_one_that_sends() {
    let second = "[sms_second]\ngateway = \"gatewayapi\"\ntoken = \"t\"\nsender = \"e-ID\"\n";
    let error = error_from_file(second);
    assert!(
        error.starts_with("sms_second.gateway = \"gatewayapi\" (in FILE): has no effect with sms.gateway"),
        "{error}"
    );
    assert!(from_file(&format!("[sms]\ngateway = \"gatewayapi\"\ntoken = \"t\"\nsender = \"e-ID\"\n{second}")).is_ok());
    for setting in ["token = \"t\"", "sender = \"e-ID\"", "url = \"https://h\"", "report_key = \"k\""] {
        let error = error_from_file(&format!("[sms_second]\n{setting}"));
        let name = setting.split(' ').next().unwrap();
        assert!(error.starts_with(&format!("sms_second.{name} = ")), "{error}");
        assert!(error.ends_with("has no effect without sms_second.gateway"), "{error}");
    }
}

#[test]
fn a_policy_about_networks_needs_tags_that_all_nodes_can_compare() {
    let redis = "[redis]\nurl = [\"redis://a\"]\n[network]\nrefuse = \"different\"\n";
    assert!(error_from_file(redis).contains("needs network.tag_key, the same on all nodes"));
    assert!(from_file(&format!("{redis}tag_key = \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"")).is_ok());
    let warned = load("[redis]\nurl = [\"redis://a\"]", &[], &[]).unwrap().warnings(None);
    assert!(warned.iter().any(|warning| warning.starts_with("network.tag_key is not set")), "{warned:?}");
}
