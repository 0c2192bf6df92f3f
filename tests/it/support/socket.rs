//! A client of HTTP and WebSocket (RFC 6455) that can send anything, right or wrong, and reads what comes back.

use std::net::SocketAddr;
use std::time::Duration;

use handoff_relay::protocol::Role;
use handoff_relay::protocol::close::CloseReason;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::PATIENCE;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;

/// The first bytes of a frame, up to the mask, with any first byte and any announced length.
pub(crate) fn header(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(0x80 | u8::try_from(length).unwrap()),
        126..=0xffff => {
            bytes.push(0xfe);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        _ => {
            bytes.push(0xff);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes
}

/// A masked frame with any first byte.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len().try_into().unwrap());
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A whole text message.
pub(crate) fn text(message: &str) -> Vec<u8> {
    frame(0x80 | TEXT, message.as_bytes())
}

/// A whole binary message.
pub(crate) fn binary(payload: &[u8]) -> Vec<u8> {
    frame(0x80 | BINARY, payload)
}

/// A close frame.
pub(crate) fn close(code: u16) -> Vec<u8> {
    frame(0x80 | CLOSE, &code.to_be_bytes())
}

/// A WebSocket handshake, to be spoiled piece by piece.
#[derive(Clone, Debug)]
pub(crate) struct Handshake {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) version: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Handshake {
    /// A right one.
    pub(crate) fn new(session: &str, role: Role) -> Self {
        Self::to(&format!("/v1/sessions/{session}/{role}"))
    }

    /// A right one, to any path.
    pub(crate) fn to(target: &str) -> Self {
        let headers = [
            ("Host", "relay.example"),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Protocol", "handoff.v1"),
        ];
        Self {
            method: "GET".to_owned(),
            target: target.to_owned(),
            version: "HTTP/1.1".to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        }
    }

    /// Leaves a header out.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    /// Adds a header.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives a header another value.
    pub(crate) fn replacing(self, name: &str, value: &str) -> Self {
        self.without(name).with(name, value)
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let Self { method, target, version, headers } = self;
        let lines: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let lines = lines.concat();
        format!("{method} {target} {version}\r\n{lines}\r\n").into_bytes()
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// A frame from the relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ending {
    /// The `ended` message.
    pub(crate) ended: Option<Value>,
    /// Code and text of the close frame.
    pub(crate) close: Option<(u16, String)>,
}

impl Ending {
    /// Whether the relay has said this reason, in the message as in the close frame.
    pub(crate) fn is(&self, reason: CloseReason) -> bool {
        let close = self.close.as_ref().map(|(code, text)| (*code, text.as_str()));
        let Some(ended) = &self.ended else { return false };
        close == Some((reason.code(), reason.label()))
            && ended["reason"] == reason.label()
            && ended["retry"] == reason.can_retry()
            && ended["detail"].is_string()
    }
}

/// A TCP connection to a relay.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    unread: Vec<u8>,
    /// The connection ended with a reset.
    pub(crate) was_reset: bool,
}

impl Socket {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    /// Connects with so little room that the relay's kernel cannot take much for it, either: it sizes its own buffer
    /// by the segments that the other side accepts, and on loopback those are large.
    pub(crate) async fn connect_with_little_room(address: SocketAddr) -> Self {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
        socket.set_recv_buffer_size(1024).unwrap();
        socket2::SockRef::from(&socket).set_tcp_mss(536).unwrap();
        Self::over(socket.connect(address).await.unwrap())
    }

    fn over(stream: TcpStream) -> Self {
        Self { stream, unread: Vec::new(), was_reset: false }
    }

    /// Connects and shakes hands as an app does.
    pub(crate) async fn open(address: SocketAddr, session: &str, role: Role) -> Self {
        let socket = Self::connect(address).await;
        socket.shake_hands(&Handshake::new(session, role)).await
    }

    /// Sends a handshake that is to be accepted.
    pub(crate) async fn shake_hands(mut self, handshake: &Handshake) -> Self {
        self.send(&handshake.bytes()).await;
        let response = self.response().await.expect("an answer to the handshake");
        assert_eq!(response.status, 101, "{}", String::from_utf8_lossy(&response.body));
        assert_eq!(response.header("sec-websocket-protocol"), Some("handoff.v1"));
        assert_eq!(response.header("sec-websocket-extensions"), None);
        self
    }

    /// Sends bytes as they are. A relay that has had enough may have closed already.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        drop(timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("the relay reads"));
    }

    /// Closes the sending half.
    pub(crate) async fn finish_sending(&mut self) {
        self.stream.shutdown().await.ok();
    }

    /// Waits until something can be read, the end included.
    pub(crate) async fn readable(&self, within: Duration) -> bool {
        timeout(within, self.stream.readable()).await.is_ok()
    }

    /// Reads an HTTP answer; `None` if the relay closes without one.
    pub(crate) async fn response(&mut self) -> Option<Response> {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            if !self.fill().await {
                return None;
            }
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let mut response = Response { status, headers: lines.filter_map(header).collect(), body: Vec::new() };
        let length = response.header("content-length").map_or(0, |length| length.parse().unwrap());
        while self.unread.len() < length && self.fill().await {}
        response.body = self.unread.drain(..length.min(self.unread.len())).collect();
        Some(response)
    }

    /// Reads a frame; `None` at the end of the connection.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, size)) = parse(&self.unread) {
                self.unread.drain(..size);
                return Some(frame);
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Reads to the end of the connection and keeps the relay's last words.
    pub(crate) async fn until_end(&mut self) -> Ending {
        let mut ending = Ending { ended: None, close: None };
        while let Some(frame) = self.frame().await {
            assert_eq!(ending.close, None, "the relay sent more after its close frame: {frame:?}");
            match frame.opcode {
                TEXT => {
                    let message: Value = serde_json::from_slice(&frame.payload).unwrap();
                    assert_eq!(ending.ended, None, "the relay sent more after ended: {message}");
                    ending.ended = Some(message).filter(|message| message["type"] == "ended");
                }
                CLOSE => ending.close = Some(close_payload(&frame.payload)),
                _ => {}
            }
        }
        ending
    }

    /// Reads to the end of the connection.
    pub(crate) async fn until_end_of_bytes(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.unread)
    }

    /// Waits for more bytes; `false` at the end, however it came.
    async fn fill(&mut self) -> bool {
        let mut chunk = vec![0; 16 * 1024];
        let read = timeout(PATIENCE, self.stream.read(&mut chunk)).await.expect("the relay says something");
        self.was_reset |= read.is_err();
        let count = read.unwrap_or(0);
        self.unread.extend(&chunk[..count]);
        count > 0
    }
}

/// Code and text of a close frame; an empty one is 1005 (RFC 6455 section 7.1.5).
pub(crate) fn close_payload(payload: &[u8]) -> (u16, String) {
    payload.split_first_chunk().map_or((1005, String::new()), |(code, text)| {
        (u16::from_be_bytes(*code), String::from_utf8(text.to_vec()).unwrap())
    })
}

/// The first frame of these bytes and its size; the relay masks nothing and fragments nothing.
fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    assert_eq!(first & 0xf0, 0x80, "a whole frame without reserved bits");
    assert_eq!(second & 0x80, 0, "the relay masks nothing");
    let (length, start) = match second {
        126 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).unwrap(), 10),
        short => (usize::from(short), 2),
    };
    let payload = bytes.get(start..start + length)?.to_vec();
    Some((Frame { opcode: first & 0x0f, payload }, start + length))
}

/// One plain HTTP request on a connection of its own.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Response {
    let mut socket = Socket::connect(address).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: relay.example\r\nConnection: close\r\n\r\n");
    socket.send(request.as_bytes()).await;
    socket.response().await.expect("an answer")
}
