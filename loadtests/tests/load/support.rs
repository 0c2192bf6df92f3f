//! A real relay and the real generator, as processes of their own.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

/// What a relay for load tests is started with: all connections come from few addresses.
const NO_LIMITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/relay.toml");

/// A machine that runs other tests beside this one delays the generator, too.
const PATIENT: &str = "[generator]\ncpu = \"100%\"\ntimer_lag = \"1m\"\nstart_lag = \"1m\"\n";

/// The relay's binary, built once, beside the generator's.
fn relay_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(binary) = std::env::var_os("HANDOFF_BIN") {
            return binary.into();
        }
        let mut build = Command::new(env!("CARGO"));
        // Together with the generator, so that their dependencies are not built once more.
        build.args(["build", "--quiet", "--locked", "--package", "handoff-relay", "--package", "handoff-load"]);
        build.args(["--bin", "handoff"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).status().unwrap().success());
        Path::new(env!("CARGO_BIN_EXE_handoff-load")).with_file_name("handoff")
    })
}

/// A running relay; killed on drop.
#[derive(Debug)]
pub(crate) struct Relay {
    child: Child,
    address: SocketAddr,
    url: String,
}

impl Relay {
    /// A relay that refuses nobody, with these settings besides.
    pub(crate) fn start(settings: &[&str]) -> Self {
        Self::launch(&["--config", NO_LIMITS], settings)
    }

    /// A relay with its own limits, except for these settings.
    pub(crate) fn start_limited(settings: &[&str]) -> Self {
        Self::launch(&["--set", "activation.enabled=false"], settings)
    }

    fn launch(flags: &[&str], settings: &[&str]) -> Self {
        let mut command = Command::new(relay_binary());
        command.args(["serve", "--json", "--listen", "127.0.0.1:0", "--log", "error,actix_http=off"]).args(flags);
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        let address: SocketAddr = event["address"].as_str().unwrap().parse().unwrap();
        Self { child, address, url: format!("ws://{address}") }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where a relay with a certificate for `localhost` is.
    pub(crate) fn secure_url(&self) -> String {
        format!("wss://localhost:{}", self.address.port())
    }

    /// Waits until it is ready: with Redis it is not at once.
    pub(crate) fn until_ready(self) -> Self {
        until("the relay is ready", || {
            let mut stream = TcpStream::connect(self.address).unwrap();
            stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer.starts_with("HTTP/1.1 200")
        });
        self
    }
}

/// Asks again and again until it is so: a process of somebody else's tells nobody when it is ready.
fn until(what: &str, is_so: impl FnMut() -> bool) {
    const EVERY: Duration = Duration::from_millis(20);
    let mut answers = std::iter::repeat_with(is_so).take(1000);
    assert!(
        answers.any(|is_so| is_so || {
            std::thread::sleep(EVERY);
            false
        }),
        "not in time: {what}"
    );
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A Redis with nothing in it; killed on drop.
#[derive(Debug)]
pub(crate) struct Redis {
    child: Child,
    url: String,
    _folder: Folder,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let folder = Folder::new("redis");
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--dir", &folder.path("")]);
        let child = command.stdout(Stdio::null()).spawn().expect("redis-server is installed");
        let redis = Self { child, url: format!("redis://127.0.0.1:{port}"), _folder: folder };
        until("redis-server listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        redis
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A folder of one test; removed on drop.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("handoff-load-{}-{test}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }

    /// Writes a scenario of these lines, for a generator that shares its machine; returns the file's name.
    pub(crate) fn scenario(&self, thresholds: &str, rest: &str) -> String {
        let head = "name = \"test\"\nabout = \"a test\"\ndrain = \"40s\"";
        let file = self.path("scenario.toml");
        fs::write(&file, format!("{head}\nthresholds = [{thresholds}]\n{PATIENT}{rest}")).unwrap();
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// How the generator ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
    pub(crate) problem: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            text: String::from_utf8(output.stdout).unwrap(),
            problem: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The generator with these arguments.
pub(crate) fn generator(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handoff-load"));
    command.args(args).env_remove("HANDOFF_LOAD_URL").stdin(Stdio::null());
    command
}

/// Runs the generator to its end.
pub(crate) fn run(args: &[&str]) -> Ended {
    generator(args).output().unwrap().into()
}

/// A group of a result's document.
pub(crate) fn group<'a>(results: &'a Value, name: &str) -> &'a Value {
    results["groups"].as_array().unwrap().iter().find(|group| group["name"] == name).unwrap()
}

/// The sum of a count over all intervals.
pub(crate) fn sum(group: &Value, count: &str) -> u64 {
    group["series"].as_array().unwrap().iter().map(|bucket| bucket[count].as_u64().unwrap()).sum()
}
