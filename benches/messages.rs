//! What encoding and decoding costs: the QR payload, every control message, and frame headers.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed benchmark")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use handoff_relay::protocol::Role;
use handoff_relay::protocol::close::CloseReason;
use handoff_relay::protocol::frame::{FrameKind, Header};
use handoff_relay::protocol::ids::{JoinHash, JoinProof, OpenToken, PublishedKey, ResumeHash, ResumeToken, SessionId};
use handoff_relay::protocol::message::{CancelReason, ClientMessage, JoinedPeer, ServerMessage};
use handoff_relay::protocol::network::{Country, Network};
use handoff_relay::protocol::qr::{Demands, FrameSecret, QrPayload, RelayRef, Suite};

fn qr(c: &mut Criterion) {
    let payload = QrPayload {
        suite: Suite::P256,
        demands: Demands::default(),
        frame: 7,
        session: SessionId::from_random([9; 16]),
        frame_secret: FrameSecret::new([8; 32]),
        key_hash: [7; 32],
        relay: RelayRef::Listed(std::num::NonZeroU8::MIN),
    };
    let text = payload.to_text();
    let mut group = c.benchmark_group("qr");
    group.bench_function("encode", |b| b.iter(|| black_box(&payload).to_text()));
    group.bench_function("decode", |b| b.iter(|| QrPayload::from_text(black_box(&text)).unwrap()));
    group.finish();
}

fn client_messages(c: &mut Criterion) {
    let resume_hash = ResumeHash::new([1; 32]);
    let messages = [
        (
            "open",
            ClientMessage::Open {
                public_key: PublishedKey::new(vec![4; 1249]).unwrap(),
                join_hashes: vec![JoinHash::new([2; 16]); 36],
                interval_ms: 5000,
                resume_hash: resume_hash.clone(),
                token: OpenToken::new("x".repeat(800)),
            },
        ),
        ("join", ClientMessage::Join { frame: 7, proof: JoinProof::new([3; 32]), resume_hash }),
        ("resume", ClientMessage::Resume { token: ResumeToken::new([4; 32]) }),
        ("cancel", ClientMessage::Cancel { reason: CancelReason::WrongCode }),
        ("complete", ClientMessage::Complete {}),
    ];
    let mut group = c.benchmark_group("client_message");
    for (name, message) in messages {
        let text = message.encode();
        group.bench_function(format!("encode_{name}"), |b| b.iter(|| black_box(&message).encode()));
        group.bench_function(format!("decode_{name}"), |b| b.iter(|| ClientMessage::decode(black_box(&text)).unwrap()));
    }
    group.finish();
}

fn server_messages(c: &mut Criterion) {
    let joined = JoinedPeer { frame: 7, network: Network::SameAddress, country: Country::Same };
    let public_key = PublishedKey::new(vec![4; 1249]).unwrap();
    let expires_in_ms = 180_000;
    let messages = [
        ("opened", ServerMessage::Opened { expires_in_ms }),
        ("joined", ServerMessage::Joined { expires_in_ms, public_key: public_key.clone(), peer_online: true }),
        (
            "resumed",
            ServerMessage::Resumed { expires_in_ms, peer_online: true, joined: None, public_key: Some(public_key) },
        ),
        ("peer_joined", ServerMessage::PeerJoined(joined)),
        ("peer_offline", ServerMessage::PeerOffline {}),
        ("peer_online", ServerMessage::PeerOnline {}),
        ("tick", ServerMessage::Tick { expires_in_ms }),
        ("ended", ServerMessage::ended(CloseReason::Overloaded, Some(700))),
    ];
    let mut group = c.benchmark_group("server_message");
    for (name, message) in messages {
        let text = message.encode();
        group.bench_function(format!("encode_{name}"), |b| b.iter(|| black_box(&message).encode()));
        group.bench_function(format!("decode_{name}"), |b| b.iter(|| ServerMessage::decode(black_box(&text)).unwrap()));
    }
    group.finish();
}

fn frames(c: &mut Criterion) {
    let header = Header { from: Role::Old, kind: FrameKind::Credential, seq: 3 };
    let body = vec![7; 4112];
    let frame = header.frame(&body);
    let mut group = c.benchmark_group("frame");
    group.bench_function("encode_header", |b| b.iter(|| black_box(header).encode()));
    group.bench_function("encode_4_kib", |b| b.iter(|| black_box(header).frame(black_box(&body))));
    group.bench_function("decode_header", |b| b.iter(|| Header::decode(black_box(&frame)).unwrap()));
    group.finish();
}

criterion_group!(benches, qr, client_messages, server_messages, frames);
criterion_main!(benches);
