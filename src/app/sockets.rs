//! The sockets that the relay answers on, and what every accepted connection gets. Not what is served on them.

use std::any::Any;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use tracing::error;

use super::StartError;
use crate::config::Settings;
use crate::relay::link::Cord;

/// Time that sent data may stay unacknowledged before the kernel gives a connection up: the second line behind the
/// session's own silence timeout, for sockets that are stuck in writing.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// The sockets that the relay answers on.
#[derive(Debug)]
pub struct Listeners {
    pub(super) public: TcpListener,
    pub(super) metrics: Option<TcpListener>,
}

impl Listeners {
    /// Binds what the settings name; port 0 takes a free one.
    ///
    /// # Errors
    /// [`StartError::Listen`] with the address.
    pub fn bind(settings: &Settings) -> Result<Self, StartError> {
        let public = listen(settings.server.listen)?;
        let metrics = settings.server.metrics_listen.map(listen).transpose()?;
        Ok(Self { public, metrics })
    }

    /// Where apps connect.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.public.local_addr()
    }

    /// Where metrics are served, if apart.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn metrics_address(&self) -> io::Result<Option<SocketAddr>> {
        self.metrics.as_ref().map(TcpListener::local_addr).transpose()
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let bind = || {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        // Accepted sockets inherit both: so they are set once, and not for each connection.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
        socket.bind(&address.into())?;
        // A burst of activations arrives faster than it is accepted.
        socket.listen(4096)?;
        Ok(TcpListener::from(socket))
    };
    bind().map_err(|source| StartError::Listen { address, source })
}

/// Called for every accepted connection: leaves what cuts it where the handshake finds it.
pub(super) fn prepare(io: &dyn Any, extensions: &mut Extensions) {
    let tls = io.downcast_ref::<actix_tls::accept::rustls_0_23::TlsStream<TcpStream>>();
    let Some(tcp) = tls.map(|tls| tls.get_ref().0).or_else(|| io.downcast_ref::<TcpStream>()) else { return };
    match socket2::SockRef::from(tcp).try_clone() {
        Ok(duplicate) => drop(extensions.insert(Cord::new(duplicate))),
        // Without a cord the handshake is refused.
        Err(problem) => error!(%problem, "a connection cannot be cut, and is refused"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_connections_send_at_once_and_do_not_wait_for_ever_to_send() {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let accepted = socket2::SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().unwrap());
        assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(TCP_USER_TIMEOUT));
    }
}
