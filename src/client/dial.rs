//! How a transfer gets from a relay's name to a stream of bytes: an app may bind its connections to one network, go
//! through a proxy, or shape them. Not TLS and not the handshake: these go over whatever stream this gives.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::outcome::ConnectFailure;

/// Time for one of a name's addresses, so that a broken IPv6 path does not use up the time for all.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);

/// A stream of bytes to a relay.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// What a [`Dial`] gives.
pub type Dialing<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn Transport>, ConnectFailure>> + Send + 'a>>;

/// Makes the connections below TLS; see [`Connector::dialing`](super::Connector::dialing).
pub trait Dial: fmt::Debug + Send + Sync {
    /// Connects to a host (a name or an address) and port. Given up after ten seconds, handshakes included.
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Dialing<'a>;
}

/// Looks the name up and connects to the first of its addresses that answers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Direct;

impl Dial for Direct {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Dialing<'a> {
        Box::pin(async move {
            let stream = tcp(host, port).await?;
            // Small messages that somebody waits for; if the option is refused they are only slower.
            let _delayed = stream.set_nodelay(true).is_err();
            let stream: Box<dyn Transport> = Box::new(stream);
            Ok(stream)
        })
    }
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, ConnectFailure> {
    let addresses: Vec<SocketAddr> =
        tokio::net::lookup_host((host, port)).await.map_err(|_| ConnectFailure::Name)?.collect();
    let mut failure = ConnectFailure::Name;
    for address in addresses {
        match timeout(ADDRESS_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(_)) => failure = ConnectFailure::Connect,
            Err(_) => failure = ConnectFailure::Timeout,
        }
    }
    Err(failure)
}
