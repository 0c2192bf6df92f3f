//! The work that is measured: one handoff, and many of them.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::phone::{Phone, Refused, Script};

/// Data frames each way.
const FRAMES: usize = 4;

/// Nothing on one machine takes longer than this.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Where the two phones of a handoff connect.
#[derive(Clone, Copy, Debug)]
pub struct Servers {
    pub old: SocketAddr,
    pub new: SocketAddr,
}

/// Opens a session and leaves it waiting.
pub async fn open(servers: Servers, script: &Script, session: Uuid) -> Result<Phone> {
    let mut old = Phone::connect(servers.old, session, "old").await?;
    old.send(&script.open).await?;
    old.text("opened").await?;
    Ok(old)
}

/// Opens and joins a session.
pub async fn pair(servers: Servers, script: &Script) -> Result<(Phone, Phone)> {
    let session = Uuid::new_v4();
    let old = open(servers, script, session).await?;
    let mut new = Phone::connect(servers.new, session, "new").await?;
    new.send(&script.join).await?;
    new.text("joined").await?;
    Ok((old, new))
}

/// Everything after the session was opened.
async fn finish(servers: Servers, script: &Script, mut old: Phone, session: Uuid) -> Result<()> {
    let mut new = Phone::connect(servers.new, session, "new").await?;
    new.send(&script.join).await?;
    new.text("joined").await?;
    for _ in 0..FRAMES {
        new.send(&script.data).await?;
        old.data().await?;
        old.send(&script.data).await?;
        new.data().await?;
    }
    old.send(&script.complete).await?;
    tokio::try_join!(old.end(script), new.end(script))?;
    Ok(())
}

/// Both sides connect, open, join, four data frames each way, complete, close. Says how long it took.
pub async fn hand_over(servers: Servers, script: &Script) -> Result<Duration> {
    let started = Instant::now();
    let session = Uuid::new_v4();
    let handoff = async {
        let old = open(servers, script, session).await?;
        finish(servers, script, old, session).await
    };
    tokio::time::timeout(PATIENCE, handoff).await.map_err(|_| anyhow!("a handoff hangs"))??;
    Ok(started.elapsed())
}

/// Hands over until it succeeds: a node that has just found its Redis waits for what other nodes may know.
pub async fn until_ready(servers: Servers, script: &Script) -> Result<()> {
    let started = Instant::now();
    loop {
        match hand_over(servers, script).await {
            Err(error) if started.elapsed() < PATIENCE && error.is::<Refused>() => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            outcome => return outcome.map(drop),
        }
    }
}

/// So many handoffs, so many of them at a time; the first that fails ends it.
pub async fn many(servers: Servers, script: &Rc<Script>, count: u32, at_a_time: u32) -> Result<Vec<Duration>> {
    let left = Rc::new(std::cell::Cell::new(count));
    let mut workers = JoinSet::new();
    for _ in 0..at_a_time.min(count) {
        let (left, script) = (Rc::clone(&left), Rc::clone(script));
        workers.spawn_local(async move {
            let mut times = Vec::new();
            while let Some(rest) = left.get().checked_sub(1) {
                left.set(rest);
                times.push(hand_over(servers, &script).await?);
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = workers.join_next().await {
        times.extend(done??);
    }
    Ok(times)
}

/// Starts `work` so many times a second, whether earlier ones are done or not, and waits for all of them. What is
/// late is made up for.
pub async fn at_rate<T: 'static, F: Future<Output = T> + 'static>(
    per_second: f64,
    count: u32,
    mut work: impl FnMut(u32) -> F,
) -> Vec<T> {
    let started = tokio::time::Instant::now();
    let mut running = JoinSet::new();
    let mut done = Vec::new();
    for number in 0..count {
        tokio::time::sleep_until(started + Duration::from_secs_f64(f64::from(number) / per_second)).await;
        running.spawn_local(work(number));
        while let Some(Ok(result)) = running.try_join_next() {
            done.push(result);
        }
    }
    while let Some(result) = running.join_next().await {
        done.extend(result);
    }
    done
}

/// A percentile of what was measured; nothing if nothing was.
pub fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    times.get(last.min(times.len() * percent / 100)).copied().unwrap_or_default()
}
