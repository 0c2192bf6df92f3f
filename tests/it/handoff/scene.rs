//! What a handoff needs: a relay, two phones, a folder with a credential. Every part is a process of its own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rand::Rng as _;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::process::Process;

/// How often a metric is asked for until it is what it should be; each time takes about a millisecond.
const LOOKS: u32 = 5000;

/// A relay process on loopback.
#[derive(Debug)]
pub(crate) struct Relay {
    process: Process,
    pub(crate) address: SocketAddr,
}

impl Relay {
    /// Starts a relay on a free port; each of `settings` is `section.key=value`.
    pub(crate) fn start(settings: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", settings)
    }

    /// [`Self::start`] on a given address.
    pub(crate) fn start_at(address: &str, settings: &[&str]) -> Self {
        let mut arguments = vec!["serve", "--json", "--listen", address];
        arguments.extend(settings.iter().flat_map(|setting| ["--set", *setting]));
        let mut process = Process::start(&arguments);
        let address = process.until("listening")["address"].as_str().unwrap().parse().unwrap();
        Self { process, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Ends it with a signal; returns the address, which is free again.
    pub(crate) fn stop(self, signal: Signal) -> SocketAddr {
        self.process.signal(signal);
        let end = self.process.end();
        assert_eq!(end.code, (signal != Signal::KILL).then_some(0), "{end:?}");
        self.address
    }

    /// Waits until a gauge is zero: the relay hears of a closed connection a little later than the app.
    pub(crate) fn until_none(&self, gauge: &str) {
        let is_none = (0..LOOKS).any(|_| self.metric(gauge, "") == 0);
        assert!(is_none, "{gauge}: {}", self.metric(gauge, ""));
    }

    /// The sum of a metric over the series that have `label` in them.
    pub(crate) fn metric(&self, name: &str, label: &str) -> u64 {
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let samples = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name) && line.contains(label));
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
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
