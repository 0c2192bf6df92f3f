//! What the integration tests stand on: a real relay process, raw sockets, messages, a faulty network.
//!
//! Knows how to talk to a relay, and not what is right: each test says that itself.

pub(crate) mod fault_proxy;
pub(crate) mod messages;
pub(crate) mod party;
#[path = "../../support/redis_server/mod.rs"]
pub(crate) mod redis_server;
pub(crate) mod relay;
pub(crate) mod socket;
pub(crate) mod tap;

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How long anything may take that should happen at once; generous, since a busy machine is no defect of the relay.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Time between two looks at something that sends no events: `/proc`, `/metrics`.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Asks until the answer is right; the only place where a test looks again and again.
pub(crate) async fn eventually<T: Debug>(
    what: &str,
    mut ask: impl AsyncFnMut() -> T,
    is_right: impl Fn(&T) -> bool,
) -> T {
    let started = Instant::now();
    loop {
        let answer = ask().await;
        if is_right(&answer) {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "{what}: still {answer:?}");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
