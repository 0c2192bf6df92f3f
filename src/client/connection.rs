//! One WebSocket connection to a relay: name, TCP, TLS, handshake. Decides nothing; every failure has a name.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::{RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use super::dial::{Dial, Direct, Transport};
use super::outcome::ConnectFailure;
use super::relays::RelayUrl;
use crate::protocol::ids::SessionId;
use crate::protocol::{Role, SUBPROTOCOL, limits};

/// Time for a whole connection: name, TCP, TLS and handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Read buffer: most messages are one 4 KiB chunk, and a load tester has thousands of connections.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// Most bytes that wait to be written: a window of the largest frames, and control messages.
const WRITE_BUFFER_BYTES: usize = 5 * limits::MAX_FRAME_BYTES;

/// One WebSocket connection to one side of a session.
pub type Socket = WebSocketStream<MaybeTlsStream<Box<dyn Transport>>>;

/// How connections are made; cheap to clone, and shared by any number of transfers.
#[derive(Clone)]
pub struct Connector {
    tls: Option<Arc<ClientConfig>>,
    dial: Arc<dyn Dial>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("tls", &self.tls.is_some()).field("dial", &self.dial).finish()
    }
}

impl Connector {
    /// Trusts what the operating system trusts.
    ///
    /// # Errors
    /// [`TlsSetupError`] if it trusts nobody.
    pub fn new() -> Result<Self, TlsSetupError> {
        Self::trusting(native_roots())
    }

    /// Trusts what the operating system trusts, and the certificates in a PEM file.
    ///
    /// # Errors
    /// [`TlsSetupError`] if the file has no certificate that can be trusted.
    pub fn with_extra_roots(pem_file: &Path) -> Result<Self, TlsSetupError> {
        Self::trusting(extra_roots(pem_file)?)
    }

    /// For `ws://` only: every `wss://` connection fails.
    #[must_use]
    pub fn plain() -> Self {
        Self { tls: None, dial: Arc::new(Direct) }
    }

    /// Takes its connections from the app: bound to one network, through a proxy, or over another stream altogether.
    #[must_use]
    pub fn dialing(self, dial: Arc<dyn Dial>) -> Self {
        Self { dial, ..self }
    }

    fn trusting(roots: RootCertStore) -> Result<Self, TlsSetupError> {
        Ok(Self { tls: Some(Arc::new(tls_config(roots)?)), dial: Arc::new(Direct) })
    }

    /// Connects to one side of a session, for a tool that speaks the protocol itself. An app starts a transfer instead.
    ///
    /// # Errors
    /// [`ConnectFailure`] says what failed, and for how long the relay wants to be left alone.
    pub async fn connect(&self, url: &RelayUrl, session: SessionId, role: Role) -> Result<Socket, ConnectFailure> {
        let connecting = timeout(CONNECT_TIMEOUT, self.connect_in_time(url, session, role));
        connecting.await.unwrap_or(Err(ConnectFailure::Timeout))
    }

    async fn connect_in_time(&self, url: &RelayUrl, session: SessionId, role: Role) -> Result<Socket, ConnectFailure> {
        let request = request(&url.endpoint(session, role))?;
        let connector = match (url.is_secure(), &self.tls) {
            (true, None) => return Err(ConnectFailure::Tls),
            (true, Some(tls)) => tokio_tungstenite::Connector::Rustls(Arc::clone(tls)),
            (false, _) => tokio_tungstenite::Connector::Plain,
        };
        let (host, port) = url.host_and_port().ok_or(ConnectFailure::Name)?;
        let stream = self.dial.dial(&host, port).await?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BUFFER_BYTES)
            .max_message_size(Some(limits::MAX_FRAME_BYTES))
            .max_frame_size(Some(limits::MAX_FRAME_BYTES));
        let handshake = client_async_tls_with_config(request, stream, Some(config), Some(connector)).await;
        handshake.map(|(socket, _)| socket).map_err(|error| failure_of(&error))
    }
}

/// TLS for a client that trusts these authorities.
pub(super) fn tls_config(roots: RootCertStore) -> Result<ClientConfig, TlsSetupError> {
    if roots.is_empty() { Err(TlsSetupError::NoRoots) } else { tls_of(roots) }
}

/// [`tls_config`] of a client that may trust nobody, because it makes plain connections only.
pub(super) fn tls_of(roots: RootCertStore) -> Result<ClientConfig, TlsSetupError> {
    // The provider is named, so that no other part of the process can choose it.
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| TlsSetupError::NoRoots)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// What the operating system trusts, and the certificates in a PEM file.
pub(super) fn extra_roots(pem_file: &Path) -> Result<RootCertStore, TlsSetupError> {
    let mut roots = native_roots();
    let certificates = CertificateDer::pem_file_iter(pem_file).map_err(|_| TlsSetupError::UnreadableRoots)?;
    let mut added = false;
    for certificate in certificates {
        let certificate = certificate.map_err(|_| TlsSetupError::UnreadableRoots)?;
        roots.add(certificate).map_err(|_| TlsSetupError::UnreadableRoots)?;
        added = true;
    }
    if added { Ok(roots) } else { Err(TlsSetupError::UnreadableRoots) }
}

/// What the operating system trusts; nothing where it does not say.
pub(super) fn native_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Why no TLS connection could ever be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsSetupError {
    /// The operating system names no certificate authority.
    #[error("the operating system trusts no certificate authority, and no file names one")]
    NoRoots,
    /// The PEM file cannot be used.
    #[error("the file of certificate authorities cannot be read, or has no valid certificate")]
    UnreadableRoots,
}

fn request(endpoint: &str) -> Result<Request, ConnectFailure> {
    let mut request = endpoint.into_client_request().map_err(|_| ConnectFailure::Name)?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    Ok(request)
}

fn failure_of(error: &Error) -> ConnectFailure {
    match error {
        Error::Http(response) => ConnectFailure::from_status(response.status().as_u16(), retry_after(response)),
        Error::Tls(_) => ConnectFailure::Tls,
        Error::Io(error) if is_tls(error) => ConnectFailure::Tls,
        Error::Io(_) | Error::ConnectionClosed | Error::AlreadyClosed => ConnectFailure::Connect,
        Error::Capacity(_)
        | Error::Protocol(_)
        | Error::WriteBufferFull(_)
        | Error::Utf8(_)
        | Error::AttackAttempt
        | Error::Url(_)
        | Error::HttpFormat(_) => ConnectFailure::NotARelay,
    }
}

fn is_tls(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>)
}

/// Only the form in seconds (RFC 9110 section 10.2.3): the other needs a clock that is right.
fn retry_after(response: &Response) -> Option<Duration> {
    response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
