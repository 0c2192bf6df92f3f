//! A real PostgreSQL for tests: a process on a free loopback port with its data in a temporary folder.
//!
//! From Debian's package (`tests/run setup` installs it) or whatever is in `PATH`; `HANDOFF_TEST_POSTGRES_BIN` names
//! another folder. As root it runs as the user `postgres`, because the server refuses to run as root.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server; it ends when the last test that uses it does.
#[derive(Debug)]
pub(crate) struct Postgres {
    child: Child,
    port: u16,
    folder: TempDir,
    databases: AtomicU32,
}

static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());

impl Postgres {
    /// The one that other tests of this process use at the same time, or a new one.
    pub(crate) fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Self::start());
        *shared = Arc::downgrade(&server);
        server
    }

    fn start() -> Self {
        let folder = TempDir::with_prefix("handoff-postgres-").unwrap();
        own(folder.path());
        let data = folder.path().join("data");
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let made = as_its_user("initdb")
            .args([
                "--pgdata",
                &path(&data),
                "--username",
                "handoff",
                "--auth",
                "trust",
                "--no-sync",
                "--encoding",
                "UTF8",
            ])
            .output()
            .expect("PostgreSQL is needed: apt-get install postgresql");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut child = as_its_user("postgres")
            .args(["-D", &path(&data), "-k", &path(folder.path()), "-h", "127.0.0.1", "-p", &port.to_string()])
            .args(["-c", "fsync=off", "-c", "max_connections=200"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (ready, is_ready) = mpsc::channel();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if line.contains("database system is ready to accept connections") {
                    ready.send(()).ok();
                }
            }
        });
        is_ready.recv_timeout(PATIENCE).expect("PostgreSQL starts");
        Self { child, port, folder, databases: AtomicU32::new(0) }
    }

    /// The address of a new, empty database.
    pub(crate) fn database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let port = self.port.to_string();
        let made =
            as_its_user("createdb").args(["-h", "127.0.0.1", "-p", &port, "-U", "handoff", &name]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        format!("postgres://handoff@127.0.0.1:{port}/{name}")
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).ok();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.signal(Signal::QUIT);
        self.child.wait().ok();
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn id_of_postgres(option: &str) -> u32 {
    let id = Command::new("id").args([option, "postgres"]).output().unwrap();
    String::from_utf8(id.stdout).unwrap().trim().parse().expect("the package postgresql makes a user postgres")
}

fn own(folder: &Path) {
    if is_root() {
        std::os::unix::fs::chown(folder, Some(id_of_postgres("-u")), Some(id_of_postgres("-g"))).unwrap();
    }
}

fn as_its_user(program: &str) -> Command {
    let mut command = Command::new(binary(program));
    command.current_dir("/");
    if is_root() {
        command.uid(id_of_postgres("-u")).gid(id_of_postgres("-g"));
    }
    command
}

fn binary(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("HANDOFF_TEST_POSTGRES_BIN") {
        return PathBuf::from(folder).join(name);
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.exists()).max();
    found.unwrap_or_else(|| PathBuf::from(name))
}
