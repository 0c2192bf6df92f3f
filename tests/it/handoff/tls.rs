//! The same over TLS, with certificates that are trusted and certificates that are not.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::scene::{Folder, finish, qr, write};
use crate::support::relay::Relay;

/// A certificate authority of our own.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes the file that makes the phones trust it.
    pub(crate) fn file(&self, folder: &Folder, name: &str) -> String {
        write(&folder.path(name), &self.0.pem())
    }

    /// A relay with a certificate for this host.
    fn relay(&self, folder: &Folder, host: &str) -> Relay {
        let [certificate, key] = self.settings(folder, host);
        Relay::start(&[&certificate, &key])
    }

    /// The settings of a service with a certificate for this host.
    pub(crate) fn settings(&self, folder: &Folder, host: &str) -> [String; 2] {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([host.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let certificate = write(&folder.path("tls.crt"), &certificate.pem());
        let key = write(&folder.path("tls.key"), &key.serialize_pem());
        [format!("server.tls_certificate={certificate}"), format!("server.tls_key={key}")]
    }
}

#[test]
fn a_handoff_over_tls_is_no_different() {
    for host in ["localhost", "127.0.0.1"] {
        let folder = Folder::with(64 * 1024);
        let authority = Authority::new();
        let (relay, trusted) = (authority.relay(&folder, host), authority.file(&folder, "ca.pem"));
        let url = format!("wss://{host}:{}", relay.address().port());
        let mut old = folder.old(&url, &["--ca-file", &trusted]);
        let qr = qr(&mut old);
        finish(&folder, old, folder.scan(&url, &qr, &["--ca-file", &trusted]));
    }
}

#[test]
fn a_certificate_of_another_authority_is_named() {
    let folder = Folder::with(100);
    let relay = Authority::new().relay(&folder, "localhost");
    let wrong = Authority::new().file(&folder, "ca.pem");
    refuses(&folder, &relay, &wrong);
}

#[test]
fn a_certificate_for_another_name_is_named() {
    let folder = Folder::with(100);
    let authority = Authority::new();
    let relay = authority.relay(&folder, "relay.example");
    refuses(&folder, &relay, &authority.file(&folder, "ca.pem"));
}

/// The old phone does not talk to it, and says why.
fn refuses(folder: &Folder, relay: &Relay, trusted: &str) {
    let url = format!("wss://localhost:{}", relay.address().port());
    let end = folder.old(&url, &["--ca-file", trusted, "--patience", "1"]).end();
    end.expect_reason(69, "unreachable");
    let detail = "no relay could be reached: the relay's certificate or encryption was not acceptable";
    assert_eq!(end.event("ended")["detail"], detail);
}

#[test]
fn a_file_of_authorities_that_cannot_be_used_is_named() {
    let folder = Folder::with(100);
    let empty = write(&folder.path("ca.pem"), "");
    for file in [&empty, &folder.text("none.pem")] {
        let end = folder.old("wss://localhost:1", &["--ca-file", file]).end();
        end.expect_refusal(2, "the file of certificate authorities cannot be read, or has no valid certificate");
    }
}

#[test]
fn a_plain_connection_to_a_tls_relay_and_the_reverse_are_no_handoff() {
    let folder = Folder::with(100);
    let authority = Authority::new();
    let relay = authority.relay(&folder, "localhost");
    let end = folder.old(&format!("ws://{}", relay.address()), &["--patience", "1"]).end();
    end.expect_reason(69, "unreachable");
    let plain = Relay::start(&[]);
    let trusted = authority.file(&folder, "ca.pem");
    let url = format!("wss://localhost:{}", plain.address().port());
    folder.old(&url, &["--ca-file", &trusted, "--patience", "1"]).end().expect_reason(69, "unreachable");
}
