//! What one session costs in the state machine: a whole life, one relayed frame, and the directory's transitions.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed benchmark")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use handoff_relay::protocol::Role;
use handoff_relay::protocol::ids::{JoinHash, JoinProof, PublishedKey, ResumeHash, ResumeToken};
use handoff_relay::protocol::message::ClientMessage;
use handoff_relay::session::network_tag::{NetworkTag, Refuse};
use handoff_relay::session::node::NodeId;
use handoff_relay::session::route::{Route, Rules};
use handoff_relay::session::{ConnectionId, Output, Session, Settings};

const LIFETIME: Duration = Duration::from_mins(3);
const OLD: ConnectionId = ConnectionId(1);
const NEW: ConnectionId = ConnectionId(2);

fn node() -> NodeId {
    NodeId::from_random([1; 16])
}

struct Bench {
    session: Session,
    route: Option<Route>,
    now: Instant,
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "any instant will do as the start")]
    fn new() -> Self {
        let settings = Settings { lifetime: LIFETIME, intervals: vec![LIFETIME], refuse: Refuse::Nothing };
        Self { session: Session::new(settings, node()), route: None, now: Instant::now() }
    }

    fn joined() -> Self {
        let mut bench = Self::new();
        bench.first_message(OLD, Role::Old, open());
        bench.first_message(NEW, Role::New, join());
        bench
    }

    fn first_message(&mut self, id: ConnectionId, role: Role, message: ClientMessage) {
        self.session.handle_connect(id, role, NetworkTag::UNKNOWN, self.now);
        self.session.handle_message(id, message, self.now);
        self.pump();
    }

    fn pump(&mut self) {
        while let Some(output) = self.session.poll_output() {
            if let Output::Transition(id, transition) = output {
                let rules = Rules { node: node(), lifetime: LIFETIME, refuse: Refuse::Nothing };
                let outcome = Route::apply(&mut self.route, transition, rules, Duration::ZERO);
                if let Some(id) = id {
                    self.session.handle_outcome(id, Ok(outcome), self.now);
                }
            } else {
                black_box(output);
            }
        }
    }
}

fn open() -> ClientMessage {
    ClientMessage::Open {
        public_key: PublishedKey::new(vec![4; 65]).unwrap(),
        join_hashes: vec![JoinHash::of(&JoinProof::new([1; 32]))],
        interval_ms: 180_000,
        resume_hash: ResumeHash::of(&ResumeToken::new([2; 32])),
        token: None,
    }
}

fn join() -> ClientMessage {
    ClientMessage::Join {
        frame: 0,
        proof: JoinProof::new([1; 32]),
        resume_hash: ResumeHash::of(&ResumeToken::new([3; 32])),
    }
}

fn whole_life(criterion: &mut Criterion) {
    criterion.bench_function("session: open, join, 8 frames, complete, both gone", |bencher| {
        bencher.iter_batched(
            || (Bench::new(), open(), join(), Bytes::from_static(&[7; 512])),
            |(mut bench, open, join, frame)| {
                bench.first_message(OLD, Role::Old, open);
                bench.first_message(NEW, Role::New, join);
                for from in [OLD, NEW].into_iter().cycle().take(8) {
                    bench.session.handle_data(from, frame.clone(), bench.now);
                    bench.pump();
                }
                bench.session.handle_message(OLD, ClientMessage::Complete {}, bench.now);
                bench.session.handle_disconnect(OLD);
                bench.session.handle_disconnect(NEW);
                bench.pump();
            },
            BatchSize::SmallInput,
        );
    });
}

fn transitions(criterion: &mut Criterion) {
    let frame = Bytes::from_static(&[7; 512]);
    criterion.bench_function("session: relay one frame", |bencher| {
        bencher.iter_batched_ref(
            Bench::joined,
            |bench| {
                bench.session.handle_data(OLD, frame.clone(), bench.now);
                bench.pump();
            },
            BatchSize::SmallInput,
        );
    });
    criterion.bench_function("session: resume", |bencher| {
        bencher.iter_batched_ref(
            Bench::joined,
            |bench| {
                let resume = ClientMessage::Resume { token: ResumeToken::new([3; 32]) };
                bench.first_message(ConnectionId(3), Role::New, resume);
            },
            BatchSize::SmallInput,
        );
    });
    criterion.bench_function("session: the next deadline", |bencher| {
        let bench = Bench::joined();
        bencher.iter(|| black_box(bench.session.poll_timeout()));
    });
}

criterion_group!(benches, whole_life, transitions);
criterion_main!(benches);
