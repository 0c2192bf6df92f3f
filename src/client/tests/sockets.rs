//! The same over real sockets: connecting, refusals, TLS, broken connections, and a handle that is dropped.

use std::io::Write as _;
use std::num::NonZeroU8;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::*;
use crate::protocol::SUBPROTOCOL;
use crate::protocol::close::CloseReason;
use crate::protocol::message::ServerMessage;

/// The small relay behind a listener.
#[derive(Clone)]
struct Server {
    relay: Arc<Mutex<Relay>>,
    news: [Arc<Notify>; 2],
    /// Connections to break after so many messages of one.
    breaks: Arc<Mutex<Vec<usize>>>,
    /// Connections of each role so far: a late goodbye of an older one changes nothing.
    epochs: Arc<Mutex<[u32; 2]>>,
}

impl Server {
    fn new() -> Self {
        Self {
            relay: Arc::new(Mutex::new(Relay::new())),
            news: Default::default(),
            breaks: Arc::default(),
            epochs: Arc::default(),
        }
    }

    async fn listen(&self) -> RelayUrl {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = RelayUrl::parse(&format!("ws://{}", listener.local_addr().unwrap())).unwrap();
        let server = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().serve(stream));
            }
        });
        url
    }

    async fn serve(self, stream: TcpStream) {
        let mut role = Role::Old;
        let handshake = accept_hdr_async(stream, |request: &Request, response: Response| {
            role = if request.uri().path().ends_with("/new") { Role::New } else { Role::Old };
            assert!(request.uri().path().starts_with("/v1/sessions/"));
            agree(request, response)
        });
        let mut socket = handshake.await.unwrap();
        self.relay.lock().unwrap().connect(role);
        let epoch = {
            let mut epochs = self.epochs.lock().unwrap();
            epochs[at(role)] += 1;
            epochs[at(role)]
        };
        let mut left = self.breaks.lock().unwrap().pop().unwrap_or(usize::MAX);
        loop {
            let next = self.relay.lock().unwrap().down[at(role)].pop_front();
            let message = match next {
                Some(Down::Text(text)) => Message::text(text),
                Some(Down::Binary(frame)) => Message::Binary(frame),
                Some(Down::Pong) => unreachable!("the WebSocket library answers pings"),
                Some(Down::Close(code)) => {
                    let _gone = socket.close(Some(CloseFrame { code: code.into(), reason: "".into() })).await.is_err();
                    return;
                }
                None => {
                    let news = Arc::clone(&self.news[at(role)]);
                    tokio::select! {
                        received = socket.next() => match received {
                            Some(Ok(message)) if left > 0 => self.hear(role, message),
                            _ => return self.lose(role, epoch),
                        },
                        () = news.notified() => {}
                    }
                    left = left.saturating_sub(1);
                    continue;
                }
            };
            if socket.send(message).await.is_err() {
                return self.lose(role, epoch);
            }
        }
    }

    fn hear(&self, role: Role, message: Message) {
        let mut relay = self.relay.lock().unwrap();
        match message {
            Message::Text(text) => relay.text(role, &text, tokio::time::Instant::now().into_std()),
            Message::Binary(frame) => {
                let frame = relay.binary(role, frame);
                relay.down[at(role.peer())].extend(frame.map(Down::Binary));
            }
            _ => {}
        }
        self.news.iter().for_each(|news| news.notify_one());
    }

    fn lose(&self, role: Role, epoch: u32) {
        if self.epochs.lock().unwrap()[at(role)] != epoch {
            return;
        }
        let mut relay = self.relay.lock().unwrap();
        relay.leave(role);
        relay.down[at(role)].clear();
        self.news.iter().for_each(|news| news.notify_one());
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the signature of the library's callback")]
fn agree(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    assert_eq!(request.headers()["Sec-WebSocket-Protocol"], SUBPROTOCOL);
    response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(SUBPROTOCOL));
    Ok(response)
}

/// Answers every connection with this, and nothing more.
async fn answering(answer: &'static str) -> RelayUrl {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = RelayUrl::parse(&format!("ws://{}", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _read = stream.read(&mut request).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    url
}

/// An address where nobody listens.
async fn nobody() -> RelayUrl {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    RelayUrl::parse(&format!("ws://{}", listener.local_addr().unwrap())).unwrap()
}

fn list(urls: impl IntoIterator<Item = RelayUrl>) -> RelayList {
    urls.into_iter().fold(RelayList::new(), |list, url| list.with(NonZeroU8::MIN, url))
}

fn start_old(relays: RelayList, length: usize) -> OldHandle {
    OldApp::new(relays, Connector::plain()).start(old_settings(), Zeroizing::new(credential(length))).unwrap()
}

async fn shown(old: &mut OldHandle) -> QrPayload {
    match old.next_event_where(|event| matches!(event, OldEvent::QrShown { .. })).await {
        Some(OldEvent::QrShown { payload, .. }) => payload,
        other => panic!("{other:?}"),
    }
}

async fn failure(old: &mut OldHandle) -> ConnectFailure {
    let failed = |event: &OldEvent| matches!(event, OldEvent::Link(LinkEvent::Offline { .. }));
    match old.next_event_where(failed).await {
        Some(OldEvent::Link(LinkEvent::Offline { cause: OfflineCause::Failed(failure), .. })) => failure,
        other => panic!("{other:?}"),
    }
}

async fn hand_over(relays: RelayList, length: usize) {
    let mut old = start_old(relays.clone(), length);
    let payload = shown(&mut old).await;
    let mut new = NewApp::new(relays, Connector::plain()).start(new_settings(), payload).unwrap();
    let code = match new.next_event_where(|event| matches!(event, NewEvent::ShowCode(_))).await {
        Some(NewEvent::ShowCode(code)) => code,
        other => panic!("{other:?}"),
    };
    old.next_event_where(|event| matches!(event, OldEvent::AskCode { .. })).await.unwrap();
    old.enter_code(code).await;
    let (old, new) = tokio::join!(old.join(), new.join());
    assert_eq!(old, OldOutcome::Delivered);
    let NewOutcome::Received { credential: received, confirmed, .. } = new else { panic!("{new:?}") };
    assert!(confirmed && *received == credential(length));
}

#[tokio::test]
async fn a_credential_arrives_over_real_connections() {
    let server = Server::new();
    hand_over(list([server.listen().await]), limits::MAX_CREDENTIAL_BYTES).await;
}

#[tokio::test]
async fn a_credential_arrives_although_connections_break() {
    let server = Server::new();
    server.breaks.lock().unwrap().extend([9, 12, 5, 4, 3, 2]);
    hand_over(list([server.listen().await]), 60_000).await;
    assert!(server.relay.lock().unwrap().resumes >= 3);
}

#[tokio::test]
async fn an_address_where_nobody_answers_gives_way_to_the_next() {
    let server = Server::new();
    hand_over(list([nobody().await, server.listen().await]), 10).await;
}

/// Goes to one relay, whatever it is called.
#[derive(Debug)]
struct Tunnel {
    to: RelayUrl,
    asked: Mutex<Vec<(String, u16)>>,
}

impl Dial for Tunnel {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Dialing<'a> {
        self.asked.lock().unwrap().push((host.to_owned(), port));
        Box::pin(async {
            let stream: Box<dyn Transport> =
                Box::new(TcpStream::connect(self.to.host_and_port().unwrap()).await.unwrap());
            Ok(stream)
        })
    }
}

#[tokio::test]
async fn an_app_may_make_the_connections_itself() {
    let server = Server::new();
    let tunnel = Arc::new(Tunnel { to: server.listen().await, asked: Mutex::default() });
    let relays = list([RelayUrl::parse_insecure("ws://relay.test:8080").unwrap()]);
    let dial: Arc<dyn Dial> = tunnel.clone();
    let connector = Connector::plain().dialing(dial);
    let mut old = OldApp::new(relays, connector).start(old_settings(), Zeroizing::new(credential(10))).unwrap();
    shown(&mut old).await;
    assert_eq!(*tunnel.asked.lock().unwrap(), [("relay.test".to_owned(), 8080)]);
}

#[tokio::test]
async fn a_busy_relay_is_tried_again_when_it_said_so() {
    let busy = answering("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n").await;
    let server = Server::new();
    let began = tokio::time::Instant::now();
    hand_over(list([busy, server.listen().await]), 10).await;
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_relay_that_refuses_for_good_ends_the_transfer() {
    let url = answering("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    let outcome = start_old(list([url]), 10).join().await;
    assert_eq!(outcome, OldOutcome::Ended(EndReason::Refused(HttpRefusal::NotFound)));
}

#[tokio::test]
async fn what_is_no_relay_is_named() {
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ConnectFailure::NotARelay),
        ("SSH-2.0-OpenSSH_9.9\r\n\r\n", ConnectFailure::NotARelay),
        ("", ConnectFailure::NotARelay),
    ] {
        let mut old = start_old(list([answering(answer).await]), 10);
        assert_eq!(failure(&mut old).await, expected, "{answer}");
    }
    let mut old = start_old(list([nobody().await]), 10);
    assert_eq!(failure(&mut old).await, ConnectFailure::Connect);
    let mut old = start_old(list([RelayUrl::parse("wss://127.0.0.1:1").unwrap()]), 10);
    assert_eq!(failure(&mut old).await, ConnectFailure::Tls);
}

#[tokio::test]
async fn a_relay_that_is_not_in_the_list_is_never_asked() {
    let app = OldApp::new(RelayList::new(), Connector::plain());
    let refused = app.start(old_settings(), Zeroizing::default()).unwrap_err();
    assert_eq!(refused, StartError::Relay(RelayNotAllowed::Unlisted(NonZeroU8::MIN)));
}

#[tokio::test]
async fn dropping_a_handle_cancels() {
    let server = Server::new();
    let mut old = start_old(list([server.listen().await]), 10);
    shown(&mut old).await;
    drop(old);
    while server.relay.lock().unwrap().ended.is_none() {
        server.news[at(Role::New)].notified().await;
    }
    assert_eq!(server.relay.lock().unwrap().ended, Some(CloseReason::CancelledByOld));
}

#[tokio::test]
async fn cancelling_ends_with_that_reason() {
    let server = Server::new();
    let mut old = start_old(list([server.listen().await]), 10);
    shown(&mut old).await;
    old.cancel();
    assert_eq!(old.join().await, OldOutcome::Ended(EndReason::Cancelled));
}

/// A relay behind TLS that refuses every `open`; returns its address and the certificate to trust.
fn refusing_over_tls() -> (RelayUrl, tempfile::NamedTempFile) {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut pem = tempfile::NamedTempFile::new().unwrap();
    pem.write_all(issued.cert.pem().as_bytes()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("localhost:0").unwrap();
    let url = RelayUrl::parse(&format!("wss://localhost:{}", listener.local_addr().unwrap().port())).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let stream = rustls::StreamOwned::new(tls, stream.unwrap());
            let Ok(mut socket) = tokio_tungstenite::tungstenite::accept_hdr(stream, agree) else { continue };
            assert!(socket.read().unwrap().is_text());
            let ended = ServerMessage::ended(CloseReason::Unauthorized, None).encode();
            socket.send(Message::text(ended)).unwrap();
            while socket.read().is_ok() {}
        }
    });
    (url, pem)
}

#[tokio::test]
async fn a_relay_behind_tls_is_trusted_by_its_certificate_only() {
    let (url, pem) = refusing_over_tls();
    let connector = Connector::with_extra_roots(pem.path()).unwrap();
    let trusting = OldApp::new(list([url.clone()]), connector).start(old_settings(), Zeroizing::default()).unwrap();
    assert_eq!(trusting.join().await, OldOutcome::Ended(EndReason::Closed(CloseReason::Unauthorized)));

    let (_, other) = refusing_over_tls();
    let connector = Connector::with_extra_roots(other.path()).unwrap();
    let mut wary = OldApp::new(list([url]), connector).start(old_settings(), Zeroizing::default()).unwrap();
    assert_eq!(failure(&mut wary).await, ConnectFailure::Tls);
}

#[tokio::test]
async fn pings_are_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = RelayUrl::parse(&format!("ws://{}", listener.local_addr().unwrap())).unwrap();
    let _old = start_old(list([url]), 10);
    let (stream, _) = listener.accept().await.unwrap();
    let mut socket = accept_hdr_async(stream, agree).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().is_text());
    socket.send(Message::Ping("still there?".into())).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong("still there?".into()));
}

#[test]
fn a_file_without_a_certificate_is_refused() {
    let mut empty = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(Connector::with_extra_roots(empty.path()).unwrap_err(), TlsSetupError::UnreadableRoots);
    empty.write_all(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    assert_eq!(Connector::with_extra_roots(empty.path()).unwrap_err(), TlsSetupError::UnreadableRoots);
    let absent = std::path::Path::new("/nonexistent/roots.pem");
    assert_eq!(Connector::with_extra_roots(absent).unwrap_err(), TlsSetupError::UnreadableRoots);
}
