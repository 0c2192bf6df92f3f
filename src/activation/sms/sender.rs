//! Sends messages over one gateway or several: tries again, gives up in time, leaves a failing gateway alone.
//!
//! A round tries each gateway once, in the order of preference, until one takes the message; so a gateway that fails
//! costs no waiting where there is a second one. Between rounds there is a pause. Each gateway has so many attempts at
//! a time and a breaker: what a slow gateway cannot take goes to the next one at once. Only what all of them are too busy
//! for waits for its turn, the oldest first. A message may go out twice when a gateway took it and did not say so; both say the
//! same.
//!
//! Not durable: what was not sent when the process dies is gone, and the person asks for another PIN.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{counter, gauge, histogram};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::breaker::{Breaker, BreakerSettings};
use super::gateway::{GatewayError, SmsGateway, SmsMessage};
use crate::telemetry;

/// Settings of the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderSettings {
    /// When an attempt that has no answer is given up.
    pub timeout: Duration,
    /// How often all gateways are tried.
    pub rounds: NonZeroU32,
    /// The pause after the first round; doubled after each.
    pub pause: Duration,
    /// Attempts at one gateway at the same time.
    pub at_once: u32,
    /// Messages under way in all; beyond, new ones are refused.
    pub under_way: u32,
    /// When a gateway is left alone.
    pub breaker: BreakerSettings,
}

impl Default for SenderSettings {
    /// With one gateway that hangs: 3 * 5 s and pauses of at most 1.5 s, within the patience of a person.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            rounds: NonZeroU32::MIN.saturating_add(2),
            pause: Duration::from_millis(500),
            at_once: 64,
            under_way: 2000,
            breaker: BreakerSettings::default(),
        }
    }
}

/// A message was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Which gateway, in the order of preference.
    pub gateway: usize,
    /// What that gateway calls it.
    pub message_id: String,
}

/// A message was taken by nobody. Where a gateway timed out or made no sense, it may have been sent all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// The last attempt failed so.
    #[error("no gateway took the message: {0}")]
    Failed(#[source] GatewayError),
    /// All gateways are left alone after failures, or have too much under way.
    #[error("no gateway is free for the message")]
    NoGateway,
}

/// Too many messages are under way, or the sender is shutting down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many SMS are under way; try again in a few seconds")]
pub struct QueueFull;

/// Room for one message. Without [`SmsSender::dispatch`] it is free again.
#[derive(Debug)]
pub struct Place {
    permit: OwnedSemaphorePermit,
}

/// One gateway with its bounds.
#[derive(Debug)]
struct Lane {
    gateway: Arc<dyn SmsGateway>,
    free: Semaphore,
    breaker: Mutex<Breaker>,
}

/// What one lane said in one round.
enum Said {
    Taken(String),
    Not(GatewayError),
    Full,
    Resting,
}

/// Sends messages.
pub struct SmsSender {
    lanes: Vec<Lane>,
    settings: SenderSettings,
    under_way: Arc<Semaphore>,
}

impl SmsSender {
    /// Over these gateways, the preferred one first.
    #[must_use]
    pub fn new(gateways: Vec<Arc<dyn SmsGateway>>, settings: SenderSettings) -> Self {
        let permits = |count: u32| usize::try_from(count).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let lane = |gateway| Lane {
            gateway,
            free: Semaphore::new(permits(settings.at_once)),
            breaker: Mutex::new(Breaker::new(settings.breaker)),
        };
        let lanes = gateways.into_iter().map(lane).collect();
        Self { lanes, settings, under_way: Arc::new(Semaphore::new(permits(settings.under_way))) }
    }

    /// Room for one more message: asked for before anything is written down that counts as a send.
    ///
    /// # Errors
    /// [`QueueFull`] if too many are under way.
    pub fn reserve(&self) -> Result<Place, QueueFull> {
        Arc::clone(&self.under_way).try_acquire_owned().map(|permit| Place { permit }).map_err(|_| {
            counter!(telemetry::SMS_SENDS, "outcome" => "queue_full").increment(1);
            QueueFull
        })
    }

    /// Sends in the background and returns at once, so that an answer to the app takes the same time whether there is
    /// anything to send or not. `done` hears how it ended; until it has done its work, the message takes its place.
    pub fn dispatch<Work>(
        self: &Arc<Self>,
        place: Place,
        message: SmsMessage,
        done: impl FnOnce(Result<Sent, NotSent>) -> Work + Send + 'static,
    ) where
        Work: Future<Output = ()> + Send,
    {
        let sender = Arc::clone(self);
        tokio::spawn(async move {
            done(sender.send(&message).await).await;
            drop(place.permit);
        });
    }

    /// Takes no more, and waits until all that is under way has ended: at most rounds * (gateways * timeout + pause).
    pub async fn drain(&self) {
        // With all permits here, no task holds one. It fails only when drained already.
        if let Ok(all) = self.under_way.acquire_many(self.settings.under_way).await {
            all.forget();
        }
        self.under_way.close();
    }

    /// Sends, and waits for the end. Dropping the future ends the attempt, not what a gateway has taken.
    ///
    /// # Errors
    /// [`NotSent`] when no gateway took the message in any round.
    pub async fn send(&self, message: &SmsMessage) -> Result<Sent, NotSent> {
        let started = Instant::now();
        gauge!(telemetry::SMS_UNDER_WAY).increment(1.0);
        let end = self.rounds(message).await;
        gauge!(telemetry::SMS_UNDER_WAY).decrement(1.0);
        histogram!(telemetry::SMS_SEND_DURATION).record(started.elapsed());
        let outcome = if end.is_ok() { "sent" } else { "failed" };
        counter!(telemetry::SMS_SENDS, "outcome" => outcome).increment(1);
        match &end {
            Ok(sent) => info!(event = "sms.sent", gateway = sent.gateway, "an SMS was handed to a gateway"),
            Err(error) => warn!(event = "sms.not_sent", %error, "an SMS was not sent"),
        }
        end
    }

    async fn rounds(&self, message: &SmsMessage) -> Result<Sent, NotSent> {
        let mut end = NotSent::NoGateway;
        let mut lanes: Vec<(usize, &Lane)> = self.lanes.iter().enumerate().collect();
        // The first lane that was full, if no other one was of any use.
        let mut waits_for = None;
        for round in 0..self.settings.rounds.get() {
            if round > 0 && !lanes.is_empty() && waits_for.is_none() {
                sleep(self.pause(message, round, end)).await;
            }
            let mut not_final = Vec::with_capacity(lanes.len());
            let mut full = None;
            let mut is_reached = false;
            for (gateway, lane) in lanes {
                let patience = if waits_for == Some(gateway) { self.settings.timeout } else { Duration::ZERO };
                match self.attempt(lane, gateway, message, patience).await {
                    Said::Taken(message_id) => return Ok(Sent { gateway, message_id }),
                    Said::Not(error) => {
                        end = NotSent::Failed(error);
                        is_reached = true;
                        if error.may_pass() {
                            not_final.push((gateway, lane));
                        }
                    }
                    Said::Full => {
                        full = full.or(Some(gateway));
                        not_final.push((gateway, lane));
                    }
                    Said::Resting => not_final.push((gateway, lane)),
                }
            }
            waits_for = full.filter(|_| !is_reached);
            lanes = not_final;
        }
        Err(end)
    }

    async fn attempt(&self, lane: &Lane, at: usize, message: &SmsMessage, patience: Duration) -> Said {
        let gateway = if at == 0 { "preferred" } else { "fallback" };
        let free = match lane.free.try_acquire() {
            Err(_) if !patience.is_zero() => timeout(patience, lane.free.acquire()).await.ok().and_then(Result::ok),
            at_once => at_once.ok(),
        };
        let started = Instant::now();
        let said = match free {
            Some(_place) => self.attempt_uncounted(lane, message).await,
            None => Said::Full,
        };
        if let Said::Taken(_) | Said::Not(_) = said {
            histogram!(telemetry::SMS_ATTEMPT_DURATION, "gateway" => gateway).record(started.elapsed());
        }
        let outcome = match &said {
            Said::Taken(_) => "accepted",
            Said::Not(error) => error.label(),
            Said::Full => "full",
            Said::Resting => "resting",
        };
        counter!(telemetry::SMS_ATTEMPTS, "gateway" => gateway, "outcome" => outcome).increment(1);
        said
    }

    async fn attempt_uncounted(&self, lane: &Lane, message: &SmsMessage) -> Said {
        if lane.with_breaker(|breaker| breaker.admit(Instant::now().into_std())).is_err() {
            return Said::Resting;
        }
        let attempt = timeout(self.settings.timeout, lane.gateway.send(message)).await;
        let answer = attempt.unwrap_or(Err(GatewayError::TimedOut));
        // Whoever refuses is alive.
        let is_alive = answer.as_ref().map_or_else(|error| !error.may_pass(), |_| true);
        lane.with_breaker(|breaker| breaker.report(is_alive, Instant::now().into_std()));
        answer.map_or_else(Said::Not, |accepted| Said::Taken(accepted.message_id))
    }

    /// Between half and all of the pause, which doubles with every round; or as long as the gateway asks for, within
    /// the time of an attempt.
    fn pause(&self, message: &SmsMessage, round: u32, end: NotSent) -> Duration {
        if let NotSent::Failed(GatewayError::Busy { retry_after: Some(asked) }) = end {
            return asked.min(self.settings.timeout);
        }
        let doubled = 1_u32.checked_shl(round.saturating_sub(1)).unwrap_or(u32::MAX);
        let half = self.settings.pause.saturating_mul(doubled).min(self.settings.timeout).mul_f64(0.5);
        half.saturating_add(half.mul_f64(message.key.spread(round)))
    }
}

impl Lane {
    fn with_breaker<T>(&self, change: impl FnOnce(&mut Breaker) -> T) -> T {
        change(&mut self.breaker.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for SmsSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmsSender").field("gateways", &self.lanes.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
