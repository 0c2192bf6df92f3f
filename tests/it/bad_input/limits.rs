//! Rows about limits: each on a relay of its own with one limit drawn tight.

use handoff_relay::protocol::Role::{self, New, Old};
use handoff_relay::protocol::close::CloseReason;

use crate::secrets_in_logs::watched::Watched;
use crate::support::messages::{Transfer, random_session};
use crate::support::party::{Pair, Party};
use crate::support::socket::{Handshake, Response, Socket};

/// One limit, and what whoever is over it hears.
struct Row {
    settings: &'static [&'static str],
    /// Connections that are let in before, in this role, each to a session of its own.
    before: (usize, Role),
    status: u16,
    code: &'static str,
    /// The label in the metric of limits.
    limit: Option<&'static str>,
}

const ROWS: &[Row] = &[
    Row {
        settings: &["limits.connections_per_address=3"],
        before: (3, New),
        status: 429,
        code: "too-many-connections",
        limit: Some("connections_per_address"),
    },
    Row {
        settings: &["limits.handshakes_burst_per_address=4", "limits.handshakes_per_second_per_address=0.01"],
        before: (4, New),
        status: 429,
        code: "too-many-handshakes",
        limit: Some("handshakes_per_address"),
    },
    Row {
        settings: &["limits.opens_burst_per_address=2", "limits.opens_per_second_per_address=0.01"],
        before: (2, Old),
        status: 429,
        code: "too-many-opens",
        limit: Some("opens_per_address"),
    },
    Row {
        settings: &["limits.opens_burst=2", "limits.opens_per_second=0.01"],
        before: (2, Old),
        status: 503,
        code: "overloaded",
        limit: Some("opens"),
    },
    Row {
        settings: &["limits.connections=3"],
        before: (3, Old),
        status: 503,
        code: "overloaded",
        limit: Some("connections"),
    },
    Row { settings: &["limits.sessions=2"], before: (2, Old), status: 503, code: "overloaded", limit: None },
];

#[tokio::test]
async fn whoever_is_over_a_limit_hears_when_to_come_back_and_whoever_is_in_stays() {
    for row in ROWS {
        let relay = Watched::start(row.settings);
        let (count, role) = row.before;
        let mut pairs = Vec::new();
        let mut silent = Vec::new();
        for _ in 0..count {
            match role {
                Old => pairs.push(Pair::waiting(relay.address(), Transfer::usual()).await),
                New => silent.push(Socket::open(relay.address(), &random_session(), New).await),
            }
        }
        let refused = knock(&relay, role).await;
        assert_eq!(
            (refused.status, refused.json()["code"].as_str()),
            (row.status, Some(row.code)),
            "{:?}",
            row.settings
        );
        let seconds: u64 = refused.header("retry-after").expect(row.code).parse().unwrap();
        let millis = refused.json()["retry_after_ms"].as_u64().expect(row.code);
        assert_eq!(seconds, millis.div_ceil(1000).max(1), "{}", row.code);
        if let Some(limit) = row.limit {
            let metrics = relay.metrics().await;
            assert!(metrics.value(&format!("handoff_rate_limited_total{{limit=\"{limit}\"}}")) > 0.5, "{limit}");
        }
        drop(silent);
        if row.code != "too-many-handshakes" && row.limit != Some("connections") {
            for pair in pairs.drain(..1.min(pairs.len())) {
                let mut pair = pair;
                pair.join().await;
                pair.finish().await;
            }
        }
        drop(pairs);
        assert!(!relay.log().contains("panicked"));
        relay.expect_no_secret_in_the_log().await;
    }
    println!("limits: {} rows", ROWS.len());
}

async fn knock(relay: &Watched, role: Role) -> Response {
    let mut socket = Socket::connect(relay.address()).await;
    socket.send(&Handshake::new(&random_session(), role).bytes()).await;
    socket.response().await.expect("an answer")
}

#[tokio::test]
async fn a_place_that_is_given_up_is_free_again() {
    let relay = Watched::start(&["limits.sessions=1", "limits.connections=3", "limits.connections_per_address=3"]);
    for _ in 0..3 {
        let pair = Pair::joined(relay.address(), Transfer::usual()).await;
        assert_eq!(knock(&relay, Old).await.status, 503);
        pair.finish().await;
        relay.until_metric("handoff_connections", 0.0).await;
        relay.until_metric("handoff_sessions", 0.0).await;
    }
}

#[tokio::test]
async fn of_two_apps_that_connect_for_the_last_place_one_gets_it_and_one_hears_when_to_come_back() {
    let relay = Watched::start(&["limits.sessions=1"]);
    let (first, second) = (Transfer::usual(), Transfer::usual());
    let mut sockets = Vec::new();
    for transfer in [&first, &second] {
        sockets.push(Socket::open(relay.address(), &transfer.session, Old).await);
    }
    let mut late = Party { role: Old, socket: sockets.pop().unwrap() };
    let mut early = Party { role: Old, socket: sockets.pop().unwrap() };
    early.say(&first.open()).await;
    early.hear("opened").await;
    late.say(&second.open()).await;
    let ending = late.socket.until_end().await;
    assert!(ending.is(CloseReason::Overloaded), "{ending:?}");
    assert!(ending.ended.unwrap()["retry_after_ms"].as_u64().unwrap() > 0);
    drop(early);
    relay.expect_no_secret_in_the_log().await;
}

#[tokio::test]
async fn an_allowed_origin_is_let_in() {
    let relay = Watched::start(&["server.allowed_origins=https://app.example,https://other.example"]);
    let transfer = Transfer::usual();
    let handshake = Handshake::new(&transfer.session, Old).with("Origin", "https://other.example");
    let mut old = Party::connect_with(relay.address(), Old, &handshake, &transfer.open()).await;
    old.hear("opened").await;
}

#[tokio::test]
async fn whoever_comes_after_the_end_of_its_time_hears_that_it_has_expired() {
    let relay = Watched::start(&["session.lifetime=2s", "session.frame_intervals=1s,static"]);
    let transfer = Transfer::random(2000, 1000);
    let mut pair = Pair::joined(relay.address(), transfer).await;
    for role in Role::BOTH {
        pair.side(role).take().unwrap().hear_end(CloseReason::Expired).await;
    }
    let first_words = [(Old, pair.transfer.open()), (New, pair.transfer.join(0)), (New, pair.transfer.join(1))];
    let resumes = Role::BOTH.map(|role| (role, pair.transfer.resume(role)));
    for (role, message) in first_words.into_iter().chain(resumes) {
        pair.party(role, &message).await.hear_end(CloseReason::Expired).await;
    }
    relay.expect_no_secret_in_the_log().await;
}
