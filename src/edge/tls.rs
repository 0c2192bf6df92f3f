//! TLS: the server's configuration from two PEM files, whose certificate can be read again while the relay runs.
//!
//! TLS 1.3 and 1.2 with `ring`. Does not accept connections and does not watch files: somebody calls
//! [`Certificate::reload`] when a new certificate is there. Which application protocols are offered is the HTTP
//! server's.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{InconsistentKeys, ServerConfig};
use zeroize::Zeroizing;

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{} {problem}", path.display())]
pub struct BadCertificate {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file system says no.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// Broken PEM.
    #[error("is not valid PEM")]
    NotPem,
    /// A key file, or an empty one.
    #[error("has no certificate (BEGIN CERTIFICATE)")]
    NoCertificate,
    /// Not X.509, or of a kind that TLS does not use.
    #[error("has a certificate that cannot be used: {0}")]
    BadCertificate(rustls::Error),
    /// A certificate file, an encrypted key, or an empty one.
    #[error("has no unencrypted private key (BEGIN PRIVATE KEY, BEGIN EC PRIVATE KEY or BEGIN RSA PRIVATE KEY)")]
    NoKey,
    /// Not a key that TLS can sign with.
    #[error("has a private key of a kind or size that is not supported")]
    BadKey,
    /// Two files that do not belong together.
    #[error("has a private key that is not the one of the certificate in {}", .0.display())]
    Mismatch(PathBuf),
}

/// The certificate that the relay shows now.
pub struct Certificate {
    chain_file: PathBuf,
    key_file: PathBuf,
    current: ArcSwap<CertifiedKey>,
}

impl Certificate {
    /// Reads a certificate chain, the server's own certificate first, and its private key.
    ///
    /// # Errors
    /// [`BadCertificate`] with the file and what is wrong with it.
    pub fn load(chain_file: &Path, key_file: &Path) -> Result<Arc<Self>, BadCertificate> {
        let current = ArcSwap::from_pointee(read(chain_file, key_file)?);
        Ok(Arc::new(Self { chain_file: chain_file.to_owned(), key_file: key_file.to_owned(), current }))
    }

    /// Reads the files again; new connections get what is there now. When it is bad, the certificate stays as it was.
    ///
    /// # Errors
    /// [`BadCertificate`] with the file and what is wrong with it.
    pub fn reload(&self) -> Result<(), BadCertificate> {
        self.current.store(Arc::new(read(&self.chain_file, &self.key_file)?));
        Ok(())
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("chain_file", &self.chain_file).finish_non_exhaustive()
    }
}

/// The configuration of a server that shows `certificate`.
///
/// # Errors
/// [`rustls::Error`] if `ring` lacks what TLS 1.2 or 1.3 needs; it does not.
pub fn server_config(certificate: Arc<Certificate>) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(&[&TLS13, &TLS12])?;
    Ok(builder.with_no_client_auth().with_cert_resolver(certificate))
}

fn read(chain_file: &Path, key_file: &Path) -> Result<CertifiedKey, BadCertificate> {
    let chain_problem = |problem| BadCertificate { path: chain_file.to_owned(), problem };
    let key_problem = |problem| BadCertificate { path: key_file.to_owned(), problem };
    let chain = read_chain(chain_file).map_err(chain_problem)?;
    let key = read_key(key_file).map_err(key_problem)?;
    let key = ring::default_provider().key_provider.load_private_key(key).map_err(|_| key_problem(Problem::BadKey))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(key_problem(Problem::Mismatch(chain_file.to_owned())))
        }
        Err(error) => Err(chain_problem(Problem::BadCertificate(error))),
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let text = std::fs::read(path).map_err(Problem::Unreadable)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|_| Problem::NotPem)?;
    if chain.is_empty() { Err(Problem::NoCertificate) } else { Ok(chain) }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Problem> {
    let text = Zeroizing::new(std::fs::read(path).map_err(Problem::Unreadable)?);
    // The parser's own text could repeat a line of the key.
    let problem = |error| if matches!(error, pem::Error::NoItemsFound) { Problem::NoKey } else { Problem::NotPem };
    PrivateKeyDer::from_pem_slice(&text).map_err(problem)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey as Generated, generate_simple_self_signed};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, ServerConnection};
    use tempfile::TempDir;

    use super::*;

    /// A directory with a certificate and its key.
    struct Files(TempDir);

    impl Files {
        fn new() -> (Self, CertificateDer<'static>) {
            let files = Self(TempDir::new().unwrap());
            let certificate = files.renew();
            (files, certificate)
        }

        fn renew(&self) -> CertificateDer<'static> {
            let Generated { cert, signing_key } = generate_simple_self_signed(["relay.example".to_owned()]).unwrap();
            self.write("tls.crt", &cert.pem());
            self.write("tls.key", &signing_key.serialize_pem());
            cert.der().clone()
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.path(name), text).unwrap();
        }

        fn read(&self, name: &str) -> String {
            std::fs::read_to_string(self.path(name)).unwrap()
        }

        fn load(&self) -> Result<Arc<Certificate>, BadCertificate> {
            Certificate::load(&self.path("tls.crt"), &self.path("tls.key"))
        }

        /// The error, with the directory left out.
        fn error(&self) -> String {
            self.load().unwrap_err().to_string().replace(&self.0.path().display().to_string(), "DIR")
        }
    }

    /// Shakes hands over memory; `None` if the client refuses.
    fn handshake(
        certificate: &Arc<Certificate>,
        trusted: &CertificateDer<'static>,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Option<ProtocolVersion> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone()).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let client = client.with_protocol_versions(&[version]).unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("relay.example").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = ServerConnection::new(Arc::new(server_config(Arc::clone(certificate)).unwrap())).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets().ok()?;
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets().ok()?;
        }
        client.protocol_version()
    }

    #[test]
    fn a_client_that_trusts_the_certificate_connects_with_tls_1_3_and_with_1_2() {
        let (files, trusted) = Files::new();
        let certificate = files.load().unwrap();
        assert_eq!(handshake(&certificate, &trusted, &TLS13), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(handshake(&certificate, &trusted, &TLS12), Some(ProtocolVersion::TLSv1_2));
    }

    #[test]
    fn after_a_reload_new_connections_get_the_new_certificate() {
        let (files, old) = Files::new();
        let certificate = files.load().unwrap();
        let new = files.renew();
        assert!(handshake(&certificate, &old, &TLS13).is_some(), "not before the reload");
        certificate.reload().unwrap();
        assert!(handshake(&certificate, &new, &TLS13).is_some());
        assert!(handshake(&certificate, &old, &TLS13).is_none());
    }

    #[test]
    fn a_bad_file_at_reload_is_reported_and_the_old_certificate_stays() {
        let (files, old) = Files::new();
        let certificate = files.load().unwrap();
        let key = files.read("tls.key");
        files.renew();
        files.write("tls.key", &key);
        assert!(certificate.reload().is_err());
        assert!(handshake(&certificate, &old, &TLS13).is_some());
    }

    #[test]
    fn a_chain_is_read_whole_and_text_around_it_does_not_matter() {
        let (files, trusted) = Files::new();
        let own = files.read("tls.crt");
        let Generated { cert, .. } = generate_simple_self_signed(["ca.example".to_owned()]).unwrap();
        files.write("tls.crt", &format!("subject=relay\n{own}\nissuer=ca\n{}", cert.pem()));
        let certificate = files.load().unwrap();
        assert_eq!(certificate.current.load().cert.len(), 2);
        assert!(handshake(&certificate, &trusted, &TLS13).is_some());
    }

    #[test]
    fn an_error_names_the_file_and_what_is_wrong_with_it() {
        let (files, _) = Files::new();
        let (chain, key) = (files.read("tls.crt"), files.read("tls.key"));
        let cases = [
            ("", key.as_str(), "DIR/tls.crt has no certificate (BEGIN CERTIFICATE)"),
            (&key, &key, "DIR/tls.crt has no certificate (BEGIN CERTIFICATE)"),
            (&chain, "", "DIR/tls.key has no unencrypted private key"),
            (&chain, &chain, "DIR/tls.key has no unencrypted private key"),
            ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", &key, "DIR/tls.crt is not valid PEM"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &key, "DIR/tls.crt has a certificate"),
            (&chain, "-----BEGIN PRIVATE KEY-----\nhunter2", "DIR/tls.key is not valid PEM"),
            (
                &chain,
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                "DIR/tls.key has a private key of a kind or size that is not supported",
            ),
            (
                &chain,
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
                "DIR/tls.key has no unencrypted private key",
            ),
        ];
        for (chain, key, wanted) in cases {
            files.write("tls.crt", chain);
            files.write("tls.key", key);
            let error = files.error();
            assert!(error.starts_with(wanted) && !error.contains("hunter2"), "{error}, not {wanted}");
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_noticed_at_start() {
        let (files, _) = Files::new();
        let (other, _) = Files::new();
        files.write("tls.key", &other.read("tls.key"));
        assert_eq!(
            files.error(),
            "DIR/tls.key has a private key that is not the one of the certificate in DIR/tls.crt"
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let (files, _) = Files::new();
        std::fs::remove_file(files.path("tls.key")).unwrap();
        assert!(files.error().starts_with("DIR/tls.key cannot be read: No such file"), "{}", files.error());
    }
}
