//! A real HTTP server on loopback for the tests of what speaks HTTP: it keeps what it was asked, and answers, hangs,
//! breaks off or lies as told. Raw sockets, because no HTTP library can be made to lie.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// What to do with a request.
#[derive(Clone, Debug)]
pub(crate) enum Does {
    /// Answers with this status, headers (each ending with CRLF) and body.
    Answers(u16, &'static str, String),
    /// Never answers, and keeps the connection.
    Hangs,
    /// Closes the connection without an answer.
    HangsUp,
    /// Announces a body, and closes within it.
    BreaksOff,
    /// Sends a body that never ends.
    Floods,
    /// Answers when [`Server::release`] was called once for it.
    Waits(u16, String),
}

impl Does {
    pub(crate) fn answers(status: u16, body: &str) -> Self {
        Self::Answers(status, "", body.to_owned())
    }
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Asked {
    /// The value of a header, named in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        lines.filter_map(|line| line.split_once(": ")).find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|h| h.1)
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    count: watch::Receiver<usize>,
    gate: Arc<Semaphore>,
}

impl Server {
    /// Does one thing after the other, and the last one for ever.
    pub(crate) async fn that(script: Vec<Does>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (counter, count) = watch::channel(0);
        let gate = Arc::new(Semaphore::new(0));
        let (kept, opened) = (Arc::clone(&asked), Arc::clone(&gate));
        tokio::spawn(async move {
            let counter = Arc::new(counter);
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (script, kept, opened) = (script.clone(), Arc::clone(&kept), Arc::clone(&opened));
                let counter = Arc::clone(&counter);
                tokio::spawn(async move {
                    serve(socket, &script, &kept, &counter, &opened).await;
                });
            }
        });
        Self { address, asked, count, gate }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Waits until so many requests have arrived.
    pub(crate) async fn until_asked(&self, count: usize) {
        let mut seen = self.count.clone();
        let waiting = seen.wait_for(|seen| *seen >= count);
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("the requests did not come").unwrap();
    }

    /// Lets so many waiting answers go.
    pub(crate) fn release(&self, count: usize) {
        self.gate.add_permits(count);
    }
}

async fn serve(
    mut socket: TcpStream,
    script: &[Does],
    kept: &Mutex<Vec<Asked>>,
    counter: &watch::Sender<usize>,
    gate: &Semaphore,
) {
    while let Some(asked) = read(&mut socket).await {
        let at = {
            let mut kept = kept.lock().unwrap();
            kept.push(asked);
            kept.len() - 1
        };
        counter.send_modify(|count| *count += 1);
        let does = script.get(at).or(script.last()).expect("a script is not empty").clone();
        let (status, headers, body) = match does {
            Does::Answers(status, headers, body) => (status, headers, body),
            Does::Waits(status, body) => {
                gate.acquire().await.unwrap().forget();
                (status, "", body)
            }
            Does::Hangs => std::future::pending().await,
            Does::HangsUp => return,
            Does::BreaksOff => {
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"ids\": [";
                socket.write_all(answer.as_bytes()).await.unwrap();
                return;
            }
            Does::Floods => {
                let head = "HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n";
                socket.write_all(head.as_bytes()).await.unwrap();
                while socket.write_all(&[b' '; 8192]).await.is_ok() {}
                return;
            }
        };
        let head = format!("HTTP/1.1 {status} Whatever\r\n{headers}content-length: {}\r\n\r\n", body.len());
        if socket.write_all((head + &body).as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(socket: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let asked = Asked { head, body: String::new() };
    let length: usize = asked.header("content-length").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < head_end + length {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(Asked { body: String::from_utf8(bytes[head_end..].to_vec()).unwrap(), ..asked })
}
