//! Who may know whom: the modules and crates that each part imports, and the few rules that hold for every file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest file outside tests, in lines.
const MOST_LINES: usize = 450;

/// One part of the crate: the parts below it that it may know, and the crates that it may use.
struct Part {
    name: &'static str,
    parts: &'static [&'static str],
    crates: &'static [&'static str],
}

const PARTS: &[Part] = &[
    Part {
        name: "protocol",
        parts: &[],
        crates: &["base45", "base64", "serde", "serde_json", "sha2", "subtle", "thiserror", "url", "uuid", "zeroize"],
    },
    Part {
        name: "crypto",
        parts: &["protocol"],
        crates: &["aes_gcm", "base64", "hkdf", "hpke", "p256", "rand", "sha2", "subtle", "thiserror", "zeroize"],
    },
    Part {
        name: "jwt",
        parts: &[],
        crates: &["base64", "jsonwebtoken", "p256", "serde", "serde_json", "signature", "thiserror", "tracing"],
    },
    Part { name: "keyed_hash", parts: &[], crates: &["hkdf", "rand", "sha2", "zeroize"] },
    Part { name: "opaque", parts: &[], crates: &["opaque_ke", "p256_013", "rand", "sha2_010", "thiserror", "zeroize"] },
    Part { name: "sharded", parts: &[], crates: &[] },
    Part {
        name: "session",
        parts: &["protocol"],
        crates: &["base64", "bytes", "serde", "subtle", "thiserror", "uuid"],
    },
    Part {
        name: "telemetry",
        parts: &["protocol"],
        crates: &[
            "metrics",
            "metrics_exporter_prometheus",
            "opentelemetry",
            "opentelemetry_http",
            "opentelemetry_otlp",
            "opentelemetry_sdk",
            "reqwest",
            "rustix",
            "rustls",
            "rustls_native_certs",
            "serde",
            "thiserror",
            "tokio",
            "tracing",
            "tracing_subscriber",
        ],
    },
    Part {
        name: "config",
        // Only for the types of settings that those two own.
        parts: &["protocol", "session", "telemetry"],
        crates: &[
            "base64",
            "clap",
            "config",
            "humantime_serde",
            "ipnet",
            "serde",
            "serde_json",
            "subtle",
            "thiserror",
            "url",
            "zeroize",
        ],
    },
    Part {
        name: "directory",
        parts: &["protocol", "session", "sharded", "keyed_hash", "telemetry"],
        crates: &[
            "arc_swap",
            "bytes",
            "futures_util",
            "metrics",
            "redis",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tracing",
            "uuid",
            "zeroize",
        ],
    },
    Part {
        name: "relay",
        parts: &["protocol", "session", "directory", "sharded", "jwt", "keyed_hash", "telemetry"],
        // p256 and jsonwebtoken verify tokens of the app's backend; the relay has no key of a transfer.
        crates: &[
            "actix",
            "arc_swap",
            "bytes",
            "bytestring",
            "jsonwebtoken",
            "metrics",
            "serde",
            "serde_json",
            "socket2",
            "thiserror",
            "tokio",
            "tracing",
        ],
    },
    Part {
        name: "edge",
        parts: &["protocol", "session", "relay", "keyed_hash", "config", "telemetry"],
        crates: &[
            "actix",
            "actix_codec",
            "actix_http",
            "actix_server",
            "actix_service",
            "actix_tls",
            "actix_web",
            "actix_web_actors",
            "arc_swap",
            "bytes",
            "futures_util",
            "governor",
            "ipnet",
            "maxminddb",
            "metrics",
            "metrics_exporter_prometheus",
            "rustls",
            "serde",
            "serde_json",
            "thiserror",
            "tracing",
            "utoipa",
            "uuid",
            "zeroize",
        ],
    },
    Part {
        name: "activation",
        // Never relay, session, directory or edge: the relay and this know nothing of each other.
        parts: &["config", "jwt", "keyed_hash", "opaque", "telemetry"],
        crates: &[
            "actix_web",
            "aes_gcm",
            "arc_swap",
            "base64",
            "futures_util",
            "hkdf",
            "hmac",
            "jsonwebtoken",
            "metrics",
            "p256",
            "rand",
            "reqwest",
            "rustls",
            "rustls_native_certs",
            "serde",
            "serde_json",
            "sha1",
            "sha2",
            "signature",
            "sqlx",
            "subtle",
            "tempfile",
            "thiserror",
            "tokio",
            "tracing",
            "url",
            "utoipa",
            "uuid",
            "zeroize",
        ],
    },
    Part {
        name: "client",
        parts: &["protocol", "crypto", "opaque"],
        crates: &[
            "base64",
            "bytes",
            "futures_util",
            "rand",
            "reqwest",
            "rustls",
            "rustls_native_certs",
            "serde",
            "serde_json",
            "sha2",
            "subtle",
            "thiserror",
            "tokio",
            "tokio_tungstenite",
            "tracing",
            "url",
            "uuid",
            "zeroize",
        ],
    },
];

/// The parts on the way of a transfer through the relay.
const RELAY_PATH: &[&str] = &["session", "directory", "relay", "edge"];

/// Parts that wire the others together and may know all.
const TOP: &[&str] = &["app", "cli", "demo", "lib", "main"];

struct Source {
    path: PathBuf,
    /// What the program is made of: without comments and without tests.
    code: String,
    text: String,
}

impl Source {
    fn part(&self) -> &str {
        let first = self.path.components().nth(1).unwrap().as_os_str().to_str().unwrap();
        first.trim_end_matches(".rs")
    }

    /// The first segments of the paths that begin so: `crate::` names parts of this crate.
    fn segments_after(&self, prefix: &str) -> BTreeSet<&str> {
        let is_path = |at: usize| !self.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        let found = self.code.match_indices(prefix).filter(|(at, _)| is_path(*at));
        found.map(|(at, _)| identifier(&self.code[at + prefix.len()..])).collect()
    }

    fn uses(&self, name: &str) -> bool {
        // At the start of a string, it is the target of a log line.
        let own = |at: usize| !self.code[..at].ends_with(|c: char| c.is_alphanumeric() || "_:.\"".contains(c));
        let global = |at: usize| self.code[..at].ends_with("::") && own(at - 2);
        let path = format!("{name}::");
        let renamed = [format!("use {name};"), format!("use {name} as")];
        self.code.match_indices(&path).any(|(at, _)| own(at) || global(at))
            || renamed.iter().any(|line| self.code.contains(line))
    }
}

fn identifier(text: &str) -> &str {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    files(&root.join(folder), &mut found);
    found.sort();
    found.iter().map(|path| path.strip_prefix(root).unwrap().to_owned()).collect()
}

fn read(path: PathBuf) -> Source {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&path)).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let code: String = code.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect();
    Source { path, code, text }
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
}

/// The program, without its tests.
fn sources() -> Vec<Source> {
    rust_files("src").into_iter().filter(|path| !is_test(path)).map(read).collect()
}

/// The dependencies as they are spelt in code.
fn dependencies() -> Vec<String> {
    let manifest = include_str!("../../Cargo.toml");
    let (_, after) = manifest.split_once("\n[dependencies]\n").unwrap();
    let lines = after.lines().take_while(|line| !line.starts_with('['));
    lines.filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.replace('-', "_")).collect()
}

fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn a_lower_part_never_knows_a_higher_one() {
    let mut problems = Vec::new();
    for source in sources().iter().filter(|source| !TOP.contains(&source.part())) {
        let part = PARTS.iter().find(|part| part.name == source.part());
        let Some(part) = part else {
            problems.push(format!("{}: {} has no row in the table", source.path.display(), source.part()));
            continue;
        };
        for known in source.segments_after("crate::") {
            if known != part.name && !part.parts.contains(&known) {
                problems.push(format!("{}: {} must not know crate::{known}", source.path.display(), part.name));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn each_part_uses_only_the_crates_of_its_row() {
    let dependencies = dependencies();
    let mut problems = Vec::new();
    for source in &sources() {
        let Some(part) = PARTS.iter().find(|part| part.name == source.part()) else { continue };
        let foreign = dependencies.iter().filter(|name| source.uses(name) && !part.crates.contains(&name.as_str()));
        problems.extend(foreign.map(|name| format!("{}: {} must not use {name}", source.path.display(), part.name)));
    }
    assert_none(&problems);
}

#[test]
fn every_row_of_the_table_names_real_crates() {
    let dependencies = dependencies();
    for part in PARTS {
        for name in part.crates {
            assert!(dependencies.iter().any(|known| known == name), "{}: {name}", part.name);
        }
    }
}

#[test]
fn the_relay_cannot_read_a_transfer() {
    for source in sources() {
        let is_on_path = RELAY_PATH.contains(&source.part());
        assert!(!(is_on_path && source.code.contains("crate::crypto")), "{}", source.path.display());
    }
    for part in PARTS.iter().filter(|part| RELAY_PATH.contains(&part.name)) {
        assert!(!part.parts.contains(&"crypto"), "{}", part.name);
    }
}

#[test]
fn the_websocket_crate_is_known_to_one_file() {
    let know: Vec<PathBuf> = sources()
        .into_iter()
        .filter(|source| source.code.contains("actix_web_actors"))
        .map(|source| source.path)
        .collect();
    assert_eq!(know, [Path::new("src/edge/socket.rs")]);
}

#[test]
fn the_redis_crate_is_known_to_one_folder() {
    let folder = Path::new("src/directory/redis");
    // Whoever has a module of that name says `self::redis`.
    let know = sources().into_iter().filter(|source| source.uses("redis")).map(|source| source.path);
    let elsewhere: Vec<PathBuf> = know.filter(|path| !path.starts_with(folder)).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
}

#[test]
fn the_older_generation_of_cryptography_is_known_to_one_folder() {
    for name in ["opaque_ke", "p256_013", "sha2_010"] {
        let know = sources().into_iter().filter(|source| source.uses(name)).map(|source| source.path);
        let elsewhere: Vec<PathBuf> = know.filter(|path| !path.starts_with("src/opaque")).collect();
        assert!(elsewhere.is_empty(), "{name}: {elsewhere:?}");
    }
}

#[test]
fn the_pure_parts_read_no_clock_and_do_no_io() {
    let forbidden = [
        "Instant::now",
        "SystemTime::now",
        "new_v4",
        "std::net::Tcp",
        "std::fs",
        "std::thread",
        "async fn",
        "rand::rng",
    ];
    let mut problems = Vec::new();
    for source in sources().iter().filter(|source| ["protocol", "crypto", "session"].contains(&source.part())) {
        let found = forbidden.iter().filter(|text| source.code.contains(**text));
        problems.extend(found.map(|text| format!("{}: {text}", source.path.display())));
    }
    assert_none(&problems);
}

#[test]
fn every_file_begins_by_saying_what_it_is() {
    let all = ["src", "tests", "benches"].into_iter().flat_map(rust_files).map(read);
    let silent = all.filter(|source| !source.text.starts_with("//! ") && !is_unit_test(&source.path));
    assert_none(&silent.map(|source| source.path.display().to_string()).collect::<Vec<_>>());
}

/// A `tests.rs` or `tests/` beside a module needs no words of its own: the module has them.
fn is_unit_test(path: &Path) -> bool {
    path.starts_with("src") && is_test(path)
}

#[test]
fn no_file_is_too_long_to_be_read_in_one_go() {
    let long = sources().into_iter().map(|source| (source.text.lines().count(), source.path));
    let long = long.filter(|(lines, _)| *lines > MOST_LINES);
    assert_none(&long.map(|(lines, path)| format!("{}: {lines} lines", path.display())).collect::<Vec<_>>());
}

#[test]
fn no_queue_is_unbounded_and_no_test_is_skipped() {
    let mut problems = Vec::new();
    for source in ["src", "tests", "benches"].into_iter().flat_map(rust_files).map(read) {
        // Spelt so that this file does not find itself.
        for forbidden in
            [concat!("do_", "send("), concat!("#[ign", "ore"), concat!("unbounded_", "channel"), concat!("to", "do!(")]
        {
            if source.text.contains(forbidden) {
                problems.push(format!("{}: {forbidden}", source.path.display()));
            }
        }
    }
    assert_none(&problems);
}
