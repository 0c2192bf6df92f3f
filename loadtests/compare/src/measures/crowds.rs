//! What crowds do: bursts, thousands of deadlines at once, and people who mean no good.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use uuid::Uuid;

use super::{Bench, script};
use crate::handoff::{self, PATIENCE, Servers, at_rate, hand_over, many, percentile};
use crate::phone::{Phone, Refused, Script, frame};
use crate::report::Report;
use crate::server::Kind;

/// Handoffs that begin within one second.
const BURST: u32 = 4000;

/// Sessions that nobody joins, and in how many a second they come.
const LURKERS: u32 = 8000;
const LURKERS_PER_SECOND: f64 = 2000.0;

/// How long they live: long enough to open all of them, short enough to wait for.
const LURKERS_LIFETIME: Duration = Duration::from_secs(20);

/// Good handoffs a second beside a crowd.
const GOOD_PER_SECOND: f64 = 50.0;

/// Bad connections a second, and for how many seconds.
const BAD_PER_SECOND: f64 = 1000.0;
const BAD_SECONDS: f64 = 10.0;

/// What became of good handoffs.
struct Good {
    times: Vec<Duration>,
    failed: u32,
}

impl Good {
    fn of(results: Vec<Result<Duration>>) -> Self {
        let mut good = Self { times: Vec::new(), failed: 0 };
        for result in results {
            match result {
                Ok(time) => good.times.push(time),
                Err(error) => {
                    eprintln!("a good handoff failed: {error:#}");
                    good.failed += 1;
                }
            }
        }
        good
    }

    fn p99_ms(&mut self) -> f64 {
        percentile(&mut self.times, 99).as_secs_f64() * 1e3
    }
}

async fn good_for(servers: Servers, script: &Rc<Script>, seconds: f64) -> Good {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some hundreds")]
    let count = (GOOD_PER_SECOND * seconds) as u32;
    let handoff = |_| {
        let script = Rc::clone(script);
        async move { hand_over(servers, &script).await }
    };
    Good::of(at_rate(GOOD_PER_SECOND, count, handoff).await)
}

impl Bench {
    pub(super) async fn burst(&self, report: &mut Report) -> Result<()> {
        let script = script();
        let server = self.start(Kind::Memory, &[])?;
        many(server.servers, &script, 1000, self.at_a_time).await?;
        let before = server.resident_kib()?;
        let servers = server.servers;
        let handoff = |_| {
            let script = Rc::clone(&script);
            async move { hand_over(servers, &script).await }
        };
        let mut good = Good::of(at_rate(f64::from(BURST), BURST, handoff).await);
        report.goal("burst", "4000 handoffs begun in 1 s: failed", f64::from(good.failed), "handoffs", 0.0);
        report.note("burst", "4000 handoffs begun in 1 s: p99", good.p99_ms(), "ms");
        // And all of them at the same time, because nobody joins before all are there.
        let opened = at_rate(f64::from(BURST), BURST, |_| {
            let script = Rc::clone(&script);
            async move {
                let started = Instant::now();
                let phone = tokio::time::timeout(PATIENCE, handoff::open(servers, &script, Uuid::new_v4())).await;
                anyhow::Ok((started.elapsed(), phone.context("an opening hangs")??))
            }
        });
        let opened = opened.await.into_iter().collect::<Result<Vec<_>>>()?;
        let (mut times, phones): (Vec<Duration>, Vec<Phone>) = opened.into_iter().unzip();
        report.note(
            "burst",
            "4000 opened in 1 s, and waiting: p99",
            percentile(&mut times, 99).as_secs_f64() * 1e3,
            "ms",
        );
        report.note("burst", "resident with all of them", server.resident_kib()? / 1024.0, "MiB");
        let mut endings = tokio::task::JoinSet::new();
        for mut phone in phones {
            let script = Rc::clone(&script);
            endings.spawn_local(async move {
                phone.send(&frame(1, br#"{"type":"cancel","reason":"user"}"#)).await?;
                phone.end(&script).await
            });
        }
        while let Some(end) = endings.join_next().await {
            end??;
        }
        report.note("burst", "resident before", before / 1024.0, "MiB");
        tokio::time::sleep(Duration::from_secs(2)).await;
        report.note("burst", "resident after, records remembered", server.resident_kib()? / 1024.0, "MiB");
        self.refused_burst(report).await
    }

    /// With the usual limits: whoever is refused hears when to try again.
    async fn refused_burst(&self, report: &mut Report) -> Result<()> {
        let script = script();
        let server = self.start_limited(Kind::Memory)?;
        let servers = server.servers;
        let outcomes = at_rate(f64::from(BURST), BURST, |_| {
            let script = Rc::clone(&script);
            async move { tokio::time::timeout(PATIENCE, handoff::open(servers, &script, Uuid::new_v4())).await }
        });
        let (mut opened, mut told, mut failed) = (0_u32, 0_u32, 0_u32);
        for outcome in outcomes.await {
            match outcome {
                Ok(Ok(_)) => opened += 1,
                Ok(Err(error)) if error.downcast_ref::<Refused>().is_some_and(|refused| refused.says_when) => told += 1,
                Ok(Err(error)) => {
                    eprintln!("an opening failed: {error:#}");
                    failed += 1;
                }
                Err(_) => failed += 1,
            }
        }
        report.note("burst", "usual limits, 16 addresses: opened", f64::from(opened), "sessions");
        report.note("burst", "usual limits: refused with Retry-After", f64::from(told), "sessions");
        report.goal("burst", "usual limits: hung, or refused without", f64::from(failed), "sessions", 0.0);
        Ok(())
    }

    pub(super) async fn lurkers(&self, report: &mut Report) -> Result<()> {
        let script = Rc::new(Script::new(LURKERS_LIFETIME));
        let lifetime = format!("session.lifetime={}s", LURKERS_LIFETIME.as_secs());
        let server = self.start(Kind::Memory, &[&lifetime])?;
        let servers = server.servers;
        many(servers, &script, 1000, self.at_a_time).await?;
        let mut alone = good_for(servers, &script, 10.0).await;
        let crowd = at_rate(LURKERS_PER_SECOND, LURKERS, |_| {
            let script = Rc::clone(&script);
            async move { lurk(servers, &script).await }
        });
        let good_beside = async {
            // The first deadline comes a lifetime after the first opening; the last one four seconds later.
            tokio::time::sleep(LURKERS_LIFETIME).await;
            good_for(servers, &script, f64::from(LURKERS) / LURKERS_PER_SECOND).await
        };
        let (overshoots, mut beside) = tokio::join!(crowd, good_beside);
        let mut overshoots = overshoots.into_iter().collect::<Result<Vec<f64>>>()?;
        overshoots.sort_unstable_by(f64::total_cmp);
        let latest = overshoots.last().copied().unwrap_or_default();
        let earliest = overshoots.first().copied().unwrap_or_default();
        report.goal("lurkers", "8000 deadlines in 4 s: the latest end, late by", latest, "ms", 250.0);
        report.goal("lurkers", "the earliest end, early by", -earliest, "ms", 1.0);
        report.goal("lurkers", "good handoffs: failed", f64::from(alone.failed + beside.failed), "handoffs", 0.0);
        let (before, during) = (alone.p99_ms(), beside.p99_ms());
        report.note("lurkers", "good handoffs alone: p99", before, "ms");
        report.note("lurkers", "good handoffs beside the deadlines: p99", during, "ms");
        report.goal("lurkers", "beside, to alone", during / before, "times", 2.0);
        Ok(())
    }

    pub(super) async fn abuse(&self, report: &mut Report) -> Result<()> {
        let script = script();
        let server = self.start(Kind::Memory, &[])?;
        let servers = server.servers;
        many(servers, &script, 1000, self.at_a_time).await?;
        let mut alone = good_for(servers, &script, BAD_SECONDS).await;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ten thousand")]
        let count = (BAD_PER_SECOND * BAD_SECONDS) as u32;
        let bad = at_rate(BAD_PER_SECOND, count, |number| {
            let script = Rc::clone(&script);
            async move { tokio::time::timeout(PATIENCE, misbehave(servers, &script, number)).await.is_ok_and(|r| r.is_ok()) }
        });
        let started = Instant::now();
        let (bad, mut beside) = tokio::join!(bad, good_for(servers, &script, BAD_SECONDS));
        let answered = u32::try_from(bad.iter().filter(|is_answered| **is_answered).count())?;
        let rate = f64::from(count) / started.elapsed().as_secs_f64();
        report.note("abuse", "bad connections", rate, "1/s");
        report.goal("abuse", "bad connections that were not ended", f64::from(count - answered), "connections", 0.0);
        report.goal("abuse", "good handoffs: failed", f64::from(alone.failed + beside.failed), "handoffs", 0.0);
        report.note("abuse", "good handoffs alone: p99", alone.p99_ms(), "ms");
        report.note("abuse", "good handoffs beside them: p99", beside.p99_ms(), "ms");
        Ok(())
    }
}

/// Opens a session, joins it never, and says how late its end came, in milliseconds.
async fn lurk(servers: Servers, script: &Script) -> Result<f64> {
    let asked = Instant::now();
    let mut phone = Phone::connect(servers.old, Uuid::new_v4(), "old").await?;
    phone.send(&script.open).await?;
    let opened = phone.text("opened").await?;
    let answered = Instant::now();
    let opened: serde_json::Value = serde_json::from_slice(&opened)?;
    let left = Duration::from_millis(opened["expires_in_ms"].as_u64().context("no time left in `opened`")?);
    let ended = phone.end(script).await;
    let told = Instant::now();
    let ended = ended?;
    anyhow::ensure!(ended.windows(7).any(|part| part == b"expired"), "ended for another reason");
    // The deadline lies between these two; early is counted from the one, late from the other.
    let (from, to) = (asked + left, answered + left);
    Ok(if told < from {
        -(from - told).as_secs_f64() * 1e3
    } else {
        told.saturating_duration_since(to).as_secs_f64() * 1e3
    })
}

/// Does one of the things that nobody should, and waits until the server has ended it.
async fn misbehave(servers: Servers, script: &Script, number: u32) -> Result<()> {
    let session = Uuid::new_v4();
    match number % 6 {
        // Not HTTP.
        0 => {
            let mut phone = Phone::dial(servers.old).await?;
            phone.send(b"\x16\x03\x01 what?\r\n\r\n").await?;
            phone.listen_to_the_end().await;
        }
        // No such path.
        1 => {
            let mut phone = Phone::dial(servers.old).await?;
            phone.send(b"GET /admin HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n").await?;
            phone.head().await?;
        }
        // A session that does not exist.
        2 => {
            let mut phone = Phone::connect(servers.new, session, "new").await?;
            phone.send(&script.join).await?;
            phone.end(script).await?;
        }
        // Nothing that the protocol knows.
        3 => {
            let mut phone = Phone::connect(servers.old, session, "old").await?;
            phone.send(&frame(1, b"{\"type\":\"nonsense\"}")).await?;
            phone.listen_to_the_end().await;
        }
        // A frame that announces more than is allowed.
        4 => {
            let mut phone = Phone::connect(servers.old, session, "old").await?;
            phone.send(&[0x82, 0xff, 0, 0, 0, 0xff, 0, 0, 0, 0, 1, 2, 3, 4, 5]).await?;
            phone.listen_to_the_end().await;
        }
        // Gone without a word.
        _ => drop(Phone::connect(servers.old, session, "old").await?),
    }
    Ok(())
}
