//! A `redis-server` process on a free loopback port: killed, started again with empty memory, stopped in its tracks.
//!
//! It writes nothing but its log, which is this process's to read, and a cluster node its `nodes.conf`.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use redis::{Client, FromRedisValue, RedisResult, TlsCertificates};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tempfile::TempDir;

use super::PATIENCE;

/// Below the ports that the system hands out by itself, so that nobody takes one between two starts; a node of a cluster
/// listens 10,000 above it as well.
const PORTS: std::ops::Range<u16> = 10_240..20_000;

/// What a server writes when it listens on everything it was told to.
const READY: [&str; 2] = ["Ready to accept connections", "Sentinel ID is"];

/// Tries to find a free port before the machine is to blame.
const TRIES: usize = 20;

/// A process that listens; killed on drop.
#[derive(Debug)]
struct Running {
    child: Child,
    log: Arc<Mutex<String>>,
}

/// A server process that tests may do anything to.
#[derive(Debug)]
pub(crate) struct RedisProcess {
    running: Option<Running>,
    port: u16,
    options: Vec<String>,
    folder: TempDir,
    /// Before the `@` of the URL.
    user: String,
    /// The same for [`Self::command`], which may do everything.
    administrator: String,
    ca_pem: Option<String>,
}

impl RedisProcess {
    /// One with these options: `["--maxmemory", "2mb"]`.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::start_in(folder(), options)
    }

    /// One that asks for a password.
    pub(crate) fn start_with_password(password: &str) -> Self {
        let user = format!(":{password}");
        Self { user: user.clone(), administrator: user, ..Self::start(&["--requirepass", password]) }
    }

    /// One that knows a user who may do what the rules say, `["~handoff:*", "+get"]`, and nobody without a name.
    pub(crate) fn start_with_user(name: &str, password: &str, rules: &[&str]) -> Self {
        let secret = format!(">{password}");
        let mut options = vec!["--user", name, "on", &secret];
        options.extend(rules);
        options.extend(["--user", "administrator", "on", ">administrator", "~*", "&*", "+@all"]);
        options.extend(["--user", "default", "off"]);
        let administrator = "administrator:administrator".to_owned();
        Self { user: format!("{name}:{password}"), administrator, ..Self::start(&options) }
    }

    /// One that speaks only TLS, for `127.0.0.1` and `localhost`, with a certificate of its own authority.
    pub(crate) fn start_with_tls(options: &[&str]) -> Self {
        let folder = folder();
        let ca_pem = write_certificates(folder.path());
        let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (certificate, key, ca) = (file("server.pem"), file("server.key"), file("ca.pem"));
        let mut all = vec!["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
        all.extend(["--tls-auth-clients", "no"]);
        all.extend(options);
        let all: Vec<String> = all.into_iter().map(str::to_owned).collect();
        Self::start_all(folder, all, Some(ca_pem))
    }

    /// One whose folder the caller has filled.
    pub(super) fn start_in(folder: TempDir, options: &[&str]) -> Self {
        Self::start_all(folder, options.iter().map(|option| (*option).to_owned()).collect(), None)
    }

    fn start_all(folder: TempDir, options: Vec<String>, ca_pem: Option<String>) -> Self {
        let none = String::new;
        let mut server = Self { running: None, port: 0, options, folder, user: none(), administrator: none(), ca_pem };
        for _ in 0..TRIES {
            server.port = free_port();
            server.running = server.run();
            if server.running.is_some() {
                return server;
            }
        }
        panic!("no port is free for redis-server");
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// How clients reach it.
    pub(crate) fn url(&self) -> String {
        self.url_at(self.address())
    }

    /// The same for clients that come by another address: through a proxy.
    pub(crate) fn url_at(&self, address: SocketAddr) -> String {
        self.url_of(&self.user, address)
    }

    fn url_of(&self, user: &str, address: SocketAddr) -> String {
        let scheme = if self.ca_pem.is_some() { "rediss" } else { "redis" };
        let at = if user.is_empty() { "" } else { "@" };
        format!("{scheme}://{user}{at}{address}/")
    }

    /// The authority that vouches for it, if it speaks TLS.
    pub(crate) fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// The file of the same.
    pub(crate) fn ca_file(&self) -> Option<String> {
        let path = self.folder.path().join("ca.pem");
        self.ca_pem.is_some().then(|| path.to_str().unwrap().to_owned())
    }

    /// What it has written since it was started last.
    pub(crate) fn log(&self) -> String {
        self.running.as_ref().map(Running::log).unwrap_or_default()
    }

    /// Kills it, without a chance to say goodbye.
    pub(crate) fn stop(&mut self) {
        self.running = None;
    }

    /// Starts it again on the same port, with empty memory.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.running = self.run();
        assert!(self.running.is_some(), "port {} was taken meanwhile", self.port);
    }

    /// Freezes it: connections stay, and nobody answers.
    pub(crate) fn pause(&self) {
        let child = &self.running.as_ref().expect("it runs").child;
        kill_process(Pid::from_child(child), Signal::STOP).unwrap();
        waitpid(Some(Pid::from_child(child)), WaitOptions::UNTRACED).unwrap();
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        kill_process(Pid::from_child(&self.running.as_ref().expect("it runs").child), Signal::CONT).unwrap();
    }

    /// The answer to a command of someone who may do everything.
    pub(crate) fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_command(words).unwrap_or_else(|problem| panic!("{words:?}: {problem}"))
    }

    /// [`Self::command`] that may fail.
    pub(crate) fn try_command<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        super::command(&self.client(&self.url_of(&self.administrator, self.address())), words)
    }

    /// A client for one of the URLs, that trusts the authority.
    pub(crate) fn client(&self, url: &str) -> Client {
        let root_cert = self.ca_pem.as_ref().map(|pem| pem.as_bytes().to_vec());
        if root_cert.is_none() {
            return Client::open(url).unwrap();
        }
        Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert }).unwrap()
    }

    /// Starts the process; nothing if another one has the port.
    fn run(&self) -> Option<Running> {
        let mut command = Command::new("redis-server");
        let config = self.folder.path().join("redis.conf");
        if config.exists() {
            command.arg(config);
        }
        let ports = if self.ca_pem.is_some() { ["--tls-port", "--port"] } else { ["--port", "--tls-port"] };
        command.args([ports[0], &self.port.to_string(), ports[1], "0", "--bind", "127.0.0.1", "--dir"]);
        command.arg(self.folder.path()).args(&self.options);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let missing = "tests/run setup installs redis-server; or name another one in HANDOFF_TEST_REDIS_URL";
        let mut child = command.spawn().unwrap_or_else(|problem| panic!("redis-server: {problem}; {missing}"));
        let log = Arc::new(Mutex::new(String::new()));
        let ready = collect(child.stdout.take().unwrap(), Arc::clone(&log));
        let running = Running { child, log };
        match ready.recv_timeout(PATIENCE) {
            Ok(()) => Some(running),
            Err(RecvTimeoutError::Disconnected) if running.log().contains("Address already in use") => None,
            Err(problem) => panic!("redis-server does not start: {problem}\n{}", running.log()),
        }
    }
}

impl Running {
    fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An empty folder for one server.
pub(super) fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("redis.conf"), "save \"\"\nappendonly no\nrepl-diskless-sync-delay 0\n").unwrap();
    folder
}

fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    std::iter::repeat_with(|| rand::random_range(PORTS)).find(is_free).unwrap()
}

/// Keeps the log, and tells when the server is ready.
fn collect(stdout: ChildStdout, log: Arc<Mutex<String>>) -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut sender = Some(sender);
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push_str(&line);
            log.push('\n');
            if READY.iter().any(|ready| line.contains(ready))
                && let Some(sender) = sender.take()
            {
                sender.send(()).ok();
            }
        }
    });
    receiver
}

/// Writes an authority and a server certificate of it; returns the authority's.
fn write_certificates(folder: &Path) -> String {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let issuer = Issuer::from_params(&ca, &ca_key);
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    for (name, text) in [("ca.pem", &ca_pem), ("server.pem", &certificate.pem()), ("server.key", &key.serialize_pem())]
    {
        std::fs::write(folder.join(name), text).unwrap();
    }
    ca_pem
}
