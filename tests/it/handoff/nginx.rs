//! A real nginx between the phones and the relay, as most deployments have one.

use std::path::Path;
use std::process::Command;

use super::process::Process;
use super::scene::{Folder, check_code, finish, hand_over, qr, start_at, stop, unused_port, write};
use crate::support::relay::Relay;

/// Where Debian puts it, outside the search path of ordinary users.
const SYSTEM_NGINX: &str = "/usr/sbin/nginx";

/// nginx on loopback, as whoever runs the tests.
#[derive(Debug)]
struct Nginx {
    _process: Process,
    _folder: tempfile::TempDir,
    url: String,
}

impl Nginx {
    /// Starts nginx in front of a relay; `forwarded_for` is what it says about the clients' address.
    fn start(relay: &Relay, forwarded_for: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = unused_port();
        let config = write(&folder.path().join("nginx.conf"), &config(folder.path(), port, relay, forwarded_for));
        let program = if Path::new(SYSTEM_NGINX).exists() { SYSTEM_NGINX } else { "nginx" };
        assert!(is_installed(program), "nginx is missing: sudo apt-get install nginx-light");
        let mut command = Command::new(program);
        command.args(["-e", "stderr", "-c", &config]);
        let mut process = Process::start_as(command);
        // The first thing it says once its sockets are open.
        process.until_error("event method");
        Self { _process: process, _folder: folder, url: format!("ws://127.0.0.1:{port}") }
    }
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("-v").output().is_ok_and(|output| output.status.success())
}

fn config(folder: &Path, port: u16, relay: &Relay, forwarded_for: &str) -> String {
    let folder = folder.display();
    let relay = relay.address();
    format!(
        "daemon off;
        master_process off;
        pid {folder}/pid;
        error_log stderr notice;
        events {{}}
        http {{
            access_log off;
            client_body_temp_path {folder}/body;
            proxy_temp_path {folder}/proxy;
            fastcgi_temp_path {folder}/fastcgi;
            uwsgi_temp_path {folder}/uwsgi;
            scgi_temp_path {folder}/scgi;
            server {{
                listen 127.0.0.1:{port};
                location / {{
                    proxy_pass http://{relay};
                    proxy_http_version 1.1;
                    proxy_set_header Host $host;
                    proxy_set_header Upgrade $http_upgrade;
                    proxy_set_header Connection upgrade;
                    proxy_set_header X-Forwarded-For \"{forwarded_for}\";
                    proxy_read_timeout 60s;
                }}
            }}
        }}"
    )
}

#[test]
fn a_handoff_through_nginx_is_no_different() {
    let relay = Relay::start(&["server.trusted_proxies=127.0.0.1"]);
    let nginx = Nginx::start(&relay, "$proxy_add_x_forwarded_for");
    for bytes in [0, 256 * 1024] {
        hand_over(&Folder::with(bytes), &nginx.url, &[]);
    }
}

#[test]
fn through_nginx_the_relay_sees_where_the_phones_are() {
    let relay = Relay::start(&["server.trusted_proxies=127.0.0.1"]);
    let home = Nginx::start(&relay, "192.0.2.1");
    let abroad = Nginx::start(&relay, "198.51.100.7");
    for (scanner, network) in [(&home, "same_address"), (&abroad, "different")] {
        let folder = Folder::with(100);
        // With two ways to it, the QR code names the relay by its number, and the new phone has its own way.
        let mut old = folder.old(&home.url, &["--relay", &relay.url()]);
        let qr = qr(&mut old);
        let new = folder.scan(&scanner.url, &qr, &[]);
        assert_eq!(old.until("peer_joined")["network"], network);
        finish(&folder, old, new);
    }
}

#[test]
fn a_relay_that_nginx_cannot_reach_is_a_reason_to_wait() {
    let relay = Relay::start(&[]);
    let nginx = Nginx::start(&relay, "$proxy_add_x_forwarded_for");
    let folder = Folder::with(100);
    let mut old = folder.old(&nginx.url, &[]);
    let qr = qr(&mut old);
    let mut new = folder.scan(&nginx.url, &qr, &[]);
    check_code(&mut old, &mut new);
    let address = stop(relay, rustix::process::Signal::KILL);
    old.until_where("offline", |event| event["cause"] == "the relay is busy (HTTP 502)");
    let _relay = start_at(address);
    old.end().expect_reason(1, "session_lost");
    new.end().expect_reason(1, "session_lost");
}

#[test]
fn a_service_that_nginx_cannot_reach_is_away() {
    let relay = Relay::start(&[]);
    let nginx = Nginx::start(&relay, "$proxy_add_x_forwarded_for");
    stop(relay, rustix::process::Signal::KILL);
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("phone.json").display().to_string();
    let server = nginx.url.replace("ws:", "http:");
    let command = ["activate", "--server", &server, "--enrolment-token", "a", "--state", &state];
    Process::start(&command).end().expect_refusal(69, "a gateway answers in its place, with status 502");
}
