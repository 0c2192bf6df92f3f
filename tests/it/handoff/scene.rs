//! What a handoff needs: a relay, two phones, a folder with a credential. Every part is a process of its own.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rand::Rng as _;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::process::Process;
use crate::support::relay::Relay;

/// Runs what the shared parts of the tests do asynchronously.
fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Ends a relay with a signal; returns its address, which is free again.
pub(crate) fn stop(mut relay: Relay, signal: Signal) -> SocketAddr {
    relay.signal(signal);
    let status = wait(relay.until_exit());
    assert_eq!(status.code(), (signal != Signal::KILL).then_some(0), "{status}");
    relay.address()
}

/// A relay on a given address.
pub(crate) fn start_at(address: SocketAddr) -> Relay {
    Relay::start(&[&format!("server.listen={address}")])
}

/// The value of one of a relay's series.
pub(crate) fn metric(relay: &Relay, series: &str) -> f64 {
    wait(relay.metrics()).value(series)
}

/// A folder with what the old phone holds; the new phone writes into it, too.
#[derive(Debug)]
pub(crate) struct Folder {
    folder: TempDir,
    credential: Vec<u8>,
}

impl Folder {
    /// With a credential of so many random bytes.
    pub(crate) fn with(bytes: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut credential = vec![0; bytes];
        rand::rng().fill_bytes(&mut credential);
        std::fs::write(folder.path().join("credential"), &credential).unwrap();
        Self { folder, credential }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// `handoff old` for the credential.
    pub(crate) fn old(&self, relay: &str, further: &[&str]) -> Process {
        let credential = self.text("credential");
        Process::start(&[&["old", "--json", "--credential", &credential, "--relay", relay], further].concat())
    }

    /// `handoff new`, writing to `received`.
    pub(crate) fn scan(&self, relay: &str, qr: &str, further: &[&str]) -> Process {
        self.scan_with(relay, &[&["--qr", qr], further].concat())
    }

    /// [`Self::scan`] that reads the QR code from elsewhere.
    pub(crate) fn scan_with(&self, relay: &str, further: &[&str]) -> Process {
        let out = self.text("received");
        Process::start(&[&["new", "--json", "--out", &out, "--relay", relay], further].concat())
    }

    /// What was received is the credential, for its owner only.
    pub(crate) fn expect_received(&self) {
        let path = self.path("received");
        assert!(std::fs::read(&path).unwrap() == self.credential, "another file than the credential");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    /// Nothing was received, and nothing half-written is left.
    pub(crate) fn expect_nothing(&self) {
        let names = self.folder.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name());
        let names: Vec<_> = names.filter(|name| name != "credential").collect();
        assert!(names.is_empty(), "{names:?}");
    }
}

/// The text of the QR code that the old phone shows next.
pub(crate) fn qr(old: &mut Process) -> String {
    text_of(&old.until("qr_shown"))
}

/// The text of the given frame, once it is shown.
pub(crate) fn qr_frame(old: &mut Process, frame: u64) -> String {
    text_of(&old.until_where("qr_shown", |event| event["frame"] == frame))
}

fn text_of(qr_shown: &Value) -> String {
    qr_shown["text"].as_str().unwrap().to_owned()
}

/// The code that the new phone shows, once the old one asks for it.
pub(crate) fn check_code(old: &mut Process, new: &mut Process) -> String {
    let code = new.until("show_code")["code"].as_str().unwrap().to_owned();
    old.until("ask_code");
    code
}

/// Lets the person type the code, and both phones come to the good end.
pub(crate) fn finish(folder: &Folder, mut old: Process, mut new: Process) {
    let code = check_code(&mut old, &mut new);
    old.type_line(&code);
    let old = old.end();
    let new = new.end();
    assert_eq!((old.code, new.code), (Some(0), Some(0)), "{old:?} {new:?}");
    let bytes = u64::try_from(folder.credential.len()).unwrap();
    assert_eq!(new.event("written")["bytes"], bytes);
    assert!(old.has("delivered") && new.has("confirmed"), "{old:?} {new:?}");
    folder.expect_received();
}

/// A whole handoff, scanned from the first frame.
pub(crate) fn hand_over(folder: &Folder, relay: &str, further: &[&str]) {
    let mut old = folder.old(relay, further);
    let qr = qr(&mut old);
    finish(folder, old, folder.scan(relay, &qr, &[]));
}

/// A port on which nobody listens.
pub(crate) fn unused_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A relay's address at which it would be noticed if anybody called.
#[derive(Debug)]
pub(crate) struct Tripwire(TcpListener);

impl Tripwire {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.0.local_addr().unwrap())
    }

    pub(crate) fn expect_untouched(&self) {
        let problem = self.0.accept().map(|_| ()).unwrap_err();
        assert_eq!(problem.kind(), std::io::ErrorKind::WouldBlock, "somebody connected");
    }
}

/// Writes a file and returns its path as an argument.
pub(crate) fn write(path: &Path, text: &str) -> String {
    std::fs::write(path, text).unwrap();
    path.to_str().unwrap().to_owned()
}
