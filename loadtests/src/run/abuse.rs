//! Attacks on the relay, each on a connection of its own. An attack is completed when the relay has turned it away as
//! the protocol says, and failed when it was let in or not answered.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use handoff_relay::client::{ConnectFailure, Dial as _, RelayUrl, Socket, Transport};
use handoff_relay::protocol::Role;
use handoff_relay::protocol::close::CloseReason;
use handoff_relay::protocol::ids::{JoinProof, ResumeHash, ResumeToken};
use handoff_relay::protocol::message::{ClientMessage, ServerMessage};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::labels;
use super::recorder::now;
use super::session::{self, Around};
use crate::scenario::Attacks;

/// What is not answered by then is not answered.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longer than any head of an answer.
const MOST_ANSWER: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attack {
    WrongToken,
    WrongProof,
    SecondJoin,
    GarbageBytes,
    GarbageMessage,
    NoUpgrade,
    HangBeforeHttp,
    HangAfterUpgrade,
}

impl Attack {
    fn draw(attacks: &Attacks, rng: &mut StdRng) -> Option<Self> {
        let Attacks { wrong_token, wrong_proof, second_join, garbage, no_upgrade, hang } = *attacks;
        let [bytes, before] = [garbage, hang].map(|weight| weight.checked_div(2).unwrap_or_default());
        let weighted = [
            (Self::WrongToken, wrong_token),
            (Self::WrongProof, wrong_proof),
            (Self::SecondJoin, second_join),
            (Self::GarbageBytes, bytes),
            (Self::GarbageMessage, garbage.saturating_sub(bytes)),
            (Self::NoUpgrade, no_upgrade),
            (Self::HangBeforeHttp, before),
            (Self::HangAfterUpgrade, hang.saturating_sub(before)),
        ];
        weighted.choose_weighted(rng, |(_, weight)| *weight).ok().map(|(attack, _)| *attack)
    }

    fn label(self) -> &'static str {
        match self {
            Self::WrongToken => "wrong_token",
            Self::WrongProof => "wrong_proof",
            Self::SecondJoin => "second_join",
            Self::GarbageBytes => "garbage_bytes",
            Self::GarbageMessage => "garbage_message",
            Self::NoUpgrade => "no_upgrade",
            Self::HangBeforeHttp => "hang_before_http",
            Self::HangAfterUpgrade => "hang_after_upgrade",
        }
    }

    /// Whoever hangs decides how long it takes.
    fn is_timed(self) -> bool {
        !matches!(self, Self::HangBeforeHttp | Self::HangAfterUpgrade)
    }
}

/// How the relay answered.
enum Answer {
    /// As the protocol says.
    TurnedAway(String),
    /// In another way.
    Wrong(String),
}

/// Runs one attack; returns how long the relay took to turn it away.
pub(super) async fn run(around: &Around, due: Instant, mut rng: StdRng) -> Result<Option<Duration>, String> {
    let attack = Attack::draw(&around.attacks, &mut rng).ok_or_else(|| "no_attack".to_owned())?;
    let url = around.urls.choose(&mut rng).ok_or_else(|| "no_url".to_owned())?;
    let answer = timeout(PATIENCE, Attacker { around, url, rng }.attack(attack));
    match answer.await {
        Ok(Answer::TurnedAway(how)) => {
            around.recorder.answer(&how);
            Ok(attack.is_timed().then(|| now().saturating_duration_since(due)))
        }
        Ok(Answer::Wrong(how)) => Err(format!("{}: {how}", attack.label())),
        Err(_) => Err(format!("{}: unanswered", attack.label())),
    }
}

struct Attacker<'a> {
    around: &'a Around,
    url: &'a RelayUrl,
    rng: StdRng,
}

impl Attacker<'_> {
    async fn attack(mut self, attack: Attack) -> Answer {
        let outcome = match attack {
            Attack::WrongToken => {
                let resume = ClientMessage::Resume { token: ResumeToken::new(self.rng.random()) };
                self.say(Role::New, Some(resume.encode()), CloseReason::NothingToResume).await
            }
            Attack::WrongProof => {
                let proof = JoinProof::new(self.rng.random());
                let join = self.join(0, proof);
                self.say(Role::New, Some(join.encode()), CloseReason::UnknownSession).await
            }
            Attack::GarbageMessage => {
                let text = format!("{{\"type\":\"open\",\"{}", self.rng.random::<u64>());
                self.say(Role::Old, Some(text), CloseReason::MalformedMessage).await
            }
            Attack::HangAfterUpgrade => self.say(Role::Old, None, CloseReason::FirstMessageTimeout).await,
            Attack::SecondJoin => self.join_twice().await,
            Attack::GarbageBytes => {
                let mut bytes = vec![0; 512];
                self.rng.fill_bytes(&mut bytes);
                self.shout(&bytes).await
            }
            Attack::NoUpgrade => {
                let request = self.request();
                self.shout(request.as_bytes()).await
            }
            Attack::HangBeforeHttp => self.shout(b"").await,
        };
        outcome.unwrap_or_else(|failure| match failure {
            // The relay's limits have turned it away even earlier.
            ConnectFailure::Busy { .. } => Answer::TurnedAway(labels::connect(failure)),
            ConnectFailure::Name
            | ConnectFailure::Connect
            | ConnectFailure::Timeout
            | ConnectFailure::Tls
            | ConnectFailure::NotARelay
            | ConnectFailure::Refused(_) => Answer::Wrong(labels::connect(failure)),
        })
    }

    fn resume_hash(&mut self) -> ResumeHash {
        ResumeHash::of(&ResumeToken::new(self.rng.random()))
    }

    fn join(&mut self, frame: u8, proof: JoinProof) -> ClientMessage {
        ClientMessage::Join { frame, proof, resume_hash: self.resume_hash() }
    }

    /// Says one thing, or nothing, and expects one reason.
    async fn say(&mut self, role: Role, text: Option<String>, wanted: CloseReason) -> Result<Answer, ConnectFailure> {
        let session = session::fresh();
        let mut socket = self.around.connector.connect(self.url, session, role).await?;
        if let Some(text) = text {
            // If the connection is gone already, the reason says why.
            socket.send(Message::text(text)).await.ok();
        }
        Ok(judge(until_ended(&mut socket).await, wanted))
    }

    /// Opens a session and joins it twice.
    async fn join_twice(&mut self) -> Result<Answer, ConnectFailure> {
        let template = &self.around.template;
        let session = session::fresh();
        let open = ClientMessage::Open {
            public_key: template.public_key.clone(),
            join_hashes: template.join_hashes.clone(),
            interval_ms: u64::try_from(self.around.relay.frame_interval.0.as_millis()).unwrap_or(u64::MAX),
            resume_hash: self.resume_hash(),
            token: None,
        };
        let Some(proof) = template.proofs.first() else { return Ok(Answer::Wrong("internal".to_owned())) };
        let mut sockets = Vec::new();
        for (role, message) in
            [(Role::Old, open), (Role::New, self.join(0, proof.clone())), (Role::New, self.join(0, proof.clone()))]
        {
            let mut socket = self.around.connector.connect(self.url, session, role).await?;
            socket.send(Message::text(message.encode())).await.ok();
            if sockets.len() < 2
                && let Err(reason) = until_attached(&mut socket).await
            {
                return Ok(judge(reason, CloseReason::Overloaded));
            }
            sockets.push(socket);
        }
        for socket in &mut sockets {
            let answer = judge(until_ended(socket).await, CloseReason::ScannedTwice);
            if let Answer::Wrong(_) = answer {
                return Ok(answer);
            }
        }
        Ok(Answer::TurnedAway(CloseReason::ScannedTwice.label().to_owned()))
    }

    /// The request of a handshake, without what makes it one.
    fn request(&self) -> String {
        let session = session::fresh();
        let endpoint = self.url.endpoint(session, Role::New);
        let path = endpoint.splitn(4, '/').nth(3).unwrap_or_default();
        format!("GET /{path} HTTP/1.1\r\nHost: relay\r\n\r\n")
    }

    /// Sends bytes below WebSocket (and below TLS, where there is one), and waits until the relay hangs up or refuses.
    async fn shout(&mut self, bytes: &[u8]) -> Result<Answer, ConnectFailure> {
        let (host, port) = self.url.host_and_port().ok_or(ConnectFailure::Name)?;
        let mut stream = self.around.dialer.dial(&host, port).await?;
        if !bytes.is_empty() && stream.write_all(bytes).await.is_err() {
            return Ok(Answer::TurnedAway("hung_up".to_owned()));
        }
        Ok(read_refusal(stream.as_mut()).await)
    }
}

/// An HTTP refusal, a TLS alert, or the end of the connection.
async fn read_refusal(stream: &mut dyn Transport) -> Answer {
    let mut answer = Vec::new();
    while answer.len() < MOST_ANSWER {
        match stream.read_buf(&mut answer).await {
            Ok(0) | Err(_) => break,
            Ok(_) if answer.windows(4).any(|end| end == b"\r\n\r\n") => break,
            Ok(_) => {}
        }
    }
    let head = String::from_utf8_lossy(&answer);
    match head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)) {
        Some(status) if status.starts_with('4') || status == "503" => Answer::TurnedAway(format!("http_{status}")),
        Some(status) => Answer::Wrong(format!("http_{status}")),
        None => Answer::TurnedAway("hung_up".to_owned()),
    }
}

fn judge(ended: Option<CloseReason>, wanted: CloseReason) -> Answer {
    match ended {
        Some(reason) if reason == wanted || reason == CloseReason::Overloaded => {
            Answer::TurnedAway(reason.label().to_owned())
        }
        Some(reason) => Answer::Wrong(reason.label().to_owned()),
        None => Answer::Wrong("no_reason".to_owned()),
    }
}

/// Why the relay ended a connection; `None` if it did not say.
async fn until_ended(socket: &mut Socket) -> Option<CloseReason> {
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(text) => {
                if let Ok(ServerMessage::Ended { reason, .. }) = ServerMessage::decode(&text) {
                    return Some(reason);
                }
            }
            Message::Close(Some(frame)) => return CloseReason::from_code(frame.code.into()),
            Message::Close(None) => return None,
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
    None
}

/// Waits for `opened` or `joined`; `Err` with what came instead.
async fn until_attached(socket: &mut Socket) -> Result<(), Option<CloseReason>> {
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        match ServerMessage::decode(&text) {
            Ok(ServerMessage::Opened { .. } | ServerMessage::Joined { .. }) => return Ok(()),
            Ok(ServerMessage::Ended { reason, .. }) => return Err(Some(reason)),
            Ok(_) => {}
            Err(_) => return Err(None),
        }
    }
    Err(None)
}
