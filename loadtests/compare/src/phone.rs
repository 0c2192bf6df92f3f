//! One phone's connection, as lean as it can be: prepared frames out, frames in.
//!
//! Not a client: no cryptography, no JSON parser, no fresh masks. What is measured is the server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Buf as _, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use uuid::Uuid;

/// Bytes of one data frame.
pub const FRAME_BYTES: usize = 512;

/// QR frames of a session: one every five seconds for three minutes.
const PICTURES: u8 = 36;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;

/// Local addresses to connect from: each has ports of its own.
const SOURCES: u8 = 16;

/// What phones send, ready for the wire. The session is named in the path only, so that all send the same.
#[derive(Debug)]
pub struct Script {
    pub open: Vec<u8>,
    pub join: Vec<u8>,
    pub data: Vec<u8>,
    pub complete: Vec<u8>,
    pub close: Vec<u8>,
}

impl Script {
    /// What real apps send, with rolling pictures and keys of the usual size, for sessions of this lifetime.
    pub fn new(lifetime: Duration) -> Self {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let proof = |picture: u8| [picture; 32];
        let pictures = u8::try_from(lifetime.as_secs().div_ceil(5)).unwrap_or(PICTURES);
        let hashes = (0..pictures).map(|picture| text(Sha256::digest(proof(picture)).get(..16).unwrap_or_default()));
        let open = serde_json::json!({
            "type": "open", "public_key": text(&[4; 65]), "join_hashes": hashes.collect::<Vec<_>>(),
            "interval_ms": 5000, "resume_hash": text(&[7; 32]),
        });
        let join = serde_json::json!({
            "type": "join", "frame": 0, "proof": text(&proof(0)), "resume_hash": text(&[8; 32]),
        });
        Self {
            open: frame(TEXT, open.to_string().as_bytes()),
            join: frame(TEXT, join.to_string().as_bytes()),
            data: frame(BINARY, &[9; FRAME_BYTES]),
            complete: frame(TEXT, br#"{"type":"complete"}"#),
            close: frame(CLOSE, &1000_u16.to_be_bytes()),
        }
    }
}

/// A masked frame of a client.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];
    let mut bytes = vec![0x80 | opcode];
    match u16::try_from(payload.len()) {
        Ok(short @ 0..=125) => bytes.push(0x80 | short.to_be_bytes()[1]),
        Ok(long) => {
            bytes.push(0x80 | 0x7e);
            bytes.extend(long.to_be_bytes());
        }
        Err(_) => unreachable!("no message of a handoff is that long"),
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A binary frame of [`FRAME_BYTES`] that begins with a number.
pub fn numbered_frame(number: u64) -> Vec<u8> {
    let mut payload = vec![9; FRAME_BYTES];
    payload.splice(..8, number.to_be_bytes());
    frame(BINARY, &payload)
}

/// What came.
#[derive(Debug)]
pub enum Heard {
    Text(Bytes),
    Data(Bytes),
    Close,
    /// The end of the connection.
    End,
}

/// How a connection or a session was refused.
#[derive(Debug)]
pub struct Refused {
    pub what: String,
    /// Whether it was said when to try again.
    pub says_when: bool,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "refused: {}", self.what)
    }
}

impl std::error::Error for Refused {}

/// One connection.
#[derive(Debug)]
pub struct Phone {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Phone {
    /// A plain TCP connection.
    pub async fn dial(server: SocketAddr) -> Result<Self> {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let host = NEXT.fetch_add(1, Ordering::Relaxed) % SOURCES + 1;
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 1, 0, host)), 0)).context("no local port is left")?;
        let stream = socket.connect(server).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: BytesMut::with_capacity(1024) })
    }

    /// The WebSocket of one side of a session.
    pub async fn connect(server: SocketAddr, session: Uuid, role: &str) -> Result<Self> {
        let mut phone = Self::dial(server).await?;
        let request = format!(
            "GET /v1/sessions/{session}/{role} HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
             Sec-WebSocket-Protocol: handoff.v1\r\n\r\n"
        );
        phone.send(request.as_bytes()).await?;
        let head = phone.head().await?;
        if head.starts_with(b"HTTP/1.1 101") {
            return Ok(phone);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let what = head.lines().next().unwrap_or_default().to_owned();
        Err(Refused { what, says_when: head.contains("\r\nretry-after: ") }.into())
    }

    /// The head of an HTTP answer.
    pub async fn head(&mut self) -> Result<Bytes> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                return Ok(self.buffer.split_to(end + 4).freeze());
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the connection ended in the handshake");
            }
        }
    }

    /// Writes prepared bytes.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// The next frame that is no ping.
    pub async fn hear(&mut self) -> Result<Heard> {
        loop {
            while let Some((opcode, payload)) = self.take_frame()? {
                match opcode {
                    TEXT => return Ok(Heard::Text(payload)),
                    BINARY => return Ok(Heard::Data(payload)),
                    CLOSE => return Ok(Heard::Close),
                    9 => self.send(&frame(10, &payload)).await?,
                    10 => {}
                    other => bail!("the server sent a frame with opcode {other}"),
                }
            }
            self.buffer.reserve(1024);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(Heard::End);
            }
        }
    }

    fn take_frame(&mut self) -> Result<Option<(u8, Bytes)>> {
        let [first, second, ..] = *self.buffer else { return Ok(None) };
        let (length, header) = match second {
            short @ 0..=125 => (usize::from(short), 2),
            126 => match *self.buffer {
                [_, _, high, low, ..] => (usize::from(u16::from_be_bytes([high, low])), 4),
                _ => return Ok(None),
            },
            _ => bail!("the server sent a masked or too long frame"),
        };
        if self.buffer.len() < header + length {
            return Ok(None);
        }
        self.buffer.advance(header);
        Ok(Some((first & 0x0f, self.buffer.split_to(length).freeze())))
    }

    /// Waits for a control message of one type. What comes before it is not for this test.
    pub async fn text(&mut self, kind: &str) -> Result<Bytes> {
        let wanted = format!(r#"{{"type":"{kind}""#);
        loop {
            match self.hear().await? {
                Heard::Text(text) if text.starts_with(wanted.as_bytes()) => return Ok(text),
                Heard::Text(text) if text.starts_with(br#"{"type":"ended""#) => {
                    let what = String::from_utf8_lossy(&text).into_owned();
                    let says_when = what.contains("retry_after_ms");
                    return Err(Refused { what, says_when }.into());
                }
                Heard::Text(_) => {}
                other => return Err(anyhow!("{other:?} instead of {kind}")),
            }
        }
    }

    /// Waits for a data frame.
    pub async fn data(&mut self) -> Result<Bytes> {
        loop {
            match self.hear().await? {
                Heard::Data(frame) => return Ok(frame),
                Heard::Text(text) if !text.starts_with(br#"{"type":"ended""#) => {}
                other => return Err(anyhow!("{other:?} instead of a data frame")),
            }
        }
    }

    /// Waits for `ended`, and closes as RFC 6455 wants it: the server ends TCP.
    pub async fn end(&mut self, script: &Script) -> Result<Bytes> {
        let ended = self.text("ended").await?;
        loop {
            match self.hear().await? {
                Heard::Close => self.send(&script.close).await?,
                Heard::End => return Ok(ended),
                Heard::Text(_) | Heard::Data(_) => bail!("something came after `ended`"),
            }
        }
    }

    /// Hears everything until the connection ends, however it ends.
    pub async fn listen_to_the_end(&mut self) {
        while let Ok(Heard::Text(_) | Heard::Data(_) | Heard::Close) = self.hear().await {}
    }
}
