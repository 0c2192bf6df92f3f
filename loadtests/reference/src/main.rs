//! A minimal WebSocket pair relay: what a machine can do at best. The real relay is measured against it.
//!
//! Takes the same paths, subprotocol and messages as the real one, as far as one good handoff needs them. Deliberately
//! without everything else: no limits, no checks, no deadline, no resuming, no metrics, no logs, no second node.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

type Socket = WebSocketStream<TcpStream>;

/// Who waits for the new app's connection, by session.
type Waiting = Arc<Mutex<HashMap<String, oneshot::Sender<Socket>>>>;

const OPENED: &str = r#"{"type":"opened","expires_in_ms":180000}"#;
const JOINED: &str = r#"{"type":"joined","expires_in_ms":180000,"public_key":"","peer_online":true}"#;
const ENDED: &str = r#"{"type":"ended","reason":"completed","detail":"the handoff is complete","retry":false}"#;

#[tokio::main]
async fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(io::stdout(), r#"{{"event":"listening","address":"{}"}}"#, listener.local_addr()?)?;
    let waiting = Waiting::default();
    loop {
        let (stream, _) = listener.accept().await?;
        let waiting = Arc::clone(&waiting);
        // A connection that breaks concerns nobody but its session.
        tokio::spawn(async move { serve(stream, waiting).await.ok() });
    }
}

async fn serve(stream: TcpStream, waiting: Waiting) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let mut path = String::new();
    #[expect(clippy::result_large_err, reason = "the library's signature")]
    let note_path = |request: &Request, mut response: Response| {
        request.uri().path().clone_into(&mut path);
        response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("handoff.v1"));
        Ok(response)
    };
    // The library's default buffer of 128 KiB is filled with zeros around every read.
    let config = WebSocketConfig::default().read_buffer_size(4096);
    let mut socket = accept_hdr_async_with_config(stream, note_path, Some(config)).await?;
    let Some((session, role)) = path.rsplit_once('/') else { return Ok(()) };
    // `open` or `join`, by the path.
    socket.next().await.transpose()?;
    if role == "new" {
        let old = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(session);
        socket.send(Message::text(JOINED)).await?;
        if let Some(old) = old {
            // Old's task takes care of both from here on; if it is gone, the connection is dropped.
            drop(old.send(socket));
        }
        return Ok(());
    }
    let (sender, joined) = oneshot::channel();
    waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(session.to_owned(), sender);
    socket.send(Message::text(OPENED)).await?;
    tokio::select! {
        // Old says nothing before it hears from new: this is the end of its connection.
        _ = socket.next() => drop(waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(session)),
        Ok(new) = joined => relay(socket, new).await?,
    }
    Ok(())
}

/// Passes frames on until old says `complete`, or either is gone.
async fn relay(mut old: Socket, mut new: Socket) -> Result<(), Error> {
    loop {
        tokio::select! {
            Some(message) = old.next() => match message? {
                frame @ Message::Binary(_) => new.send(frame).await?,
                Message::Text(_) => break,
                _ => return Ok(()),
            },
            Some(message) = new.next() => match message? {
                frame @ Message::Binary(_) => old.send(frame).await?,
                _ => return Ok(()),
            },
            else => return Ok(()),
        }
    }
    let (old, new) = tokio::join!(end(old), end(new));
    old.and(new)
}

/// Says that the handoff is complete, and closes politely.
async fn end(mut socket: Socket) -> Result<(), Error> {
    socket.feed(Message::text(ENDED)).await?;
    socket.close(None).await?;
    while socket.next().await.transpose()?.is_some() {}
    Ok(())
}
