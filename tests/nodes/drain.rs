//! How a node leaves: it is not ready any more, gives sessions time to finish, sends the others elsewhere little by
//! little, and ends. A second signal ends it at once.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use handoff_relay::protocol::close::CloseReason::GoingAway;
use rustix::process::Signal;

use crate::group::until_status;
use crate::support::messages::Transfer;
use crate::support::party::Pair;
use crate::support::relay::Relay;

const GRACE: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(3);

/// From the last word to the end of the process, on a busy machine.
const SOON: Duration = Duration::from_secs(2);

/// Sessions that do not finish by themselves.
const SESSIONS: u32 = 60;

fn relay(grace: Duration, window: Duration) -> Relay {
    let of = |name: &str, time: Duration| format!("drain.{name}={}ms", time.as_millis());
    let no_limits = "limits.handshakes_burst_per_address=1000";
    Relay::start(&[&of("grace", grace), &of("window", window), no_limits, "limits.opens_burst_per_address=1000"])
}

#[tokio::test]
async fn a_node_that_leaves_lets_sessions_finish_and_spreads_the_others_over_the_window() {
    let mut relay = relay(GRACE, WINDOW);
    let mut waiting = Vec::new();
    for _ in 0..SESSIONS {
        waiting.push(Pair::waiting(relay.address(), Transfer::usual()).await.old.take().unwrap());
    }
    let nearly_done = Pair::joined(relay.address(), Transfer::usual()).await;
    let started = Instant::now();
    relay.signal(Signal::TERM);
    let closed = waiting.iter_mut().map(|old| async {
        old.hear_end(GoingAway).await;
        started.elapsed()
    });
    let finishes = async {
        until_status(relay.address(), 503).await;
        let not_ready = started.elapsed();
        nearly_done.finish().await;
        (not_ready, started.elapsed())
    };
    let (mut closed, (not_ready, completed)) = tokio::join!(join_all(closed), finishes);
    let status = relay.until_exit().await;
    let gone = started.elapsed();
    closed.sort_unstable();
    let at = |tenth: usize| closed[(closed.len() * tenth / 10).min(closed.len() - 1)];
    println!(
        "not ready after {not_ready:.2?}, a session completed after {completed:.2?}, going_away first {:.2?}, \
         30 % {:.2?}, median {:.2?}, 70 % {:.2?}, last {:.2?}, gone after {gone:.2?}",
        at(0),
        at(3),
        at(5),
        at(7),
        at(10)
    );
    assert_eq!(status.code(), Some(0));
    assert!(not_ready < GRACE && completed < GRACE, "{not_ready:?}, {completed:?}");
    assert!(at(0) >= GRACE, "{:?}", at(0));
    // Evenly: no moment has more than its share, as far as a busy machine allows.
    let share = |part: f64| GRACE + WINDOW.mul_f64(part);
    assert!(at(3) > share(0.15) && at(5) > share(0.35) && at(7) > share(0.55), "{closed:?}");
    assert!(gone < GRACE + WINDOW + SOON, "{gone:?}");
    assert!(!relay.log().contains("panicked"), "{}", relay.log());
}

#[tokio::test]
async fn a_second_signal_ends_a_node_at_once() {
    for second in [Signal::TERM, Signal::INT] {
        let mut relay = relay(Duration::from_mins(1), Duration::from_mins(1));
        let mut joined = Pair::joined(relay.address(), Transfer::usual()).await;
        relay.signal(Signal::TERM);
        until_status(relay.address(), 503).await;
        let started = Instant::now();
        relay.signal(second);
        for party in [&mut joined.old, &mut joined.new] {
            party.as_mut().unwrap().hear_end(GoingAway).await;
        }
        assert_eq!(relay.until_exit().await.code(), Some(0));
        println!("second signal: gone after {:.2?}", started.elapsed());
        assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_node_without_sessions_and_one_whose_last_session_ends_wait_for_nothing() {
    let mut idle = relay(Duration::from_mins(1), Duration::from_mins(1));
    let mut busy = relay(Duration::from_mins(1), Duration::from_mins(1));
    let last = Pair::joined(busy.address(), Transfer::usual()).await;
    let started = Instant::now();
    idle.signal(Signal::TERM);
    busy.signal(Signal::TERM);
    assert_eq!(idle.until_exit().await.code(), Some(0));
    until_status(busy.address(), 503).await;
    last.finish().await;
    assert_eq!(busy.until_exit().await.code(), Some(0));
    println!("nothing to wait for: gone after {:.2?}", started.elapsed());
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}
