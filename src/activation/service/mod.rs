//! What ties flow, registry, PINs and SMS together: the only place of the activation that does something to the world.
//!
//! Knows no HTTP. Each method is one transaction: proof of the device key, lock, step, audit trail, commit. What is
//! answered with success is committed. A step that was refused is committed too when it counts as a try. An SMS goes
//! out after the commit.

mod apps;
mod error;
mod events;
mod renew;
mod start;
mod steps;
#[cfg(test)]
pub(crate) mod tests;
mod unlock;
mod users;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use metrics::counter;
use rand::RngExt as _;
use rand::rngs::ThreadRng;
use tokio::sync::Notify;
use zeroize::Zeroizing;

pub use apps::{AppView, Mine, PendingView};
pub use error::ServiceError;
pub use start::{NewApp, Start};
pub use steps::PinRequest;
pub use users::{MOST_ENTRIES, NewUser, OnFile};

use super::device_proof::Proof;
use super::flow::{Due, End, Step, Way};
use super::grant::EnrolmentVerifier;
use super::ids::{ActivationId, AppId, UserKey};
use super::notify::Notifier;
use super::personal_pin::PinServer;
use super::registry::{ActivationRow, Actor, AppState, Registry, RegistryError, Subject, Tx, User, What};
use super::sms::sender::SmsSender;
use super::sms::text::SmsTexts;
use super::streams::Streams;
use super::temporary_pin::send_rules::SendRules;
use crate::keyed_hash::HashKey;
use crate::telemetry;

/// Longer than an SMS is under way with any gateways; what is under way for longer is nobody's.
const LONGEST_SEND: Duration = Duration::from_mins(5);

/// How long an activation that is over can still be asked about.
const KEPT_AFTER_END: Duration = Duration::from_hours(24);

/// Settings of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceSettings {
    /// From the time that it may start, how long an activation may take.
    pub lifetime: Duration,
    /// How long a copy has to wait before it may start.
    pub copy_wait: Duration,
    /// Active apps that one user may have.
    pub most_apps: u32,
    /// When an SMS may go out.
    pub send_rules: SendRules,
}

/// Where time and randomness come from.
#[derive(Clone)]
pub struct Environment {
    /// The time.
    pub clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    /// Randomness.
    pub rng: fn() -> ThreadRng,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

/// What a service is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where everything is.
    pub registry: Registry,
    /// The key of the temporary PINs' hashes.
    pub pin_key: HashKey,
    /// Checks enrolment tokens; without it none is taken.
    pub enrolment: Option<EnrolmentVerifier>,
    /// The server's side of the personal PINs.
    pub personal_pin: PinServer,
    /// Sends the SMS.
    pub sms: Arc<SmsSender>,
    /// Tells the user's other apps what happened, if anybody pushes.
    pub notifier: Option<Arc<Notifier>>,
    /// What they say.
    pub texts: SmsTexts,
    /// Time and randomness.
    pub environment: Environment,
}

/// The activation service of one node. All state is in the registry: any node serves any step.
#[derive(Debug)]
pub struct Service {
    parts: Parts,
    settings: ServiceSettings,
    streams: Streams,
    /// Told when this node has left an event.
    fresh: Notify,
}

/// Who asks: the device by its proof, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The device's proof, checked against the request.
    pub proof: Proof,
    /// The network address.
    pub address: Option<IpAddr>,
}

/// An activation as its app may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its id.
    pub id: ActivationId,
    /// The step that is due.
    pub due: Due,
    /// Why it is over, if it is.
    pub end: Option<End>,
    /// Time until it is over.
    pub expires_in: Duration,
    /// Time until a copy may start.
    pub starts_in: Duration,
    /// What the app is called: in the registry once it is active.
    pub app: AppId,
    /// The holder's name, masked.
    pub holder: Zeroizing<String>,
    /// The last digits of the number that the SMS goes to.
    pub number_ends: Zeroizing<String>,
    /// Whether a temporary PIN is waiting to be typed.
    pub has_pin: bool,
}

impl Service {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts, settings: ServiceSettings) -> Self {
        Self { parts, settings, streams: Streams::default(), fresh: Notify::new() }
    }

    /// Where everything is.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.parts.registry
    }

    /// Reads the keys of enrolment tokens again.
    ///
    /// # Errors
    /// [`crate::jwt::jwks::BadJwks`] if the file cannot be used; the keys stay as they were.
    pub fn reload(&self) -> Result<(), crate::jwt::jwks::BadJwks> {
        self.parts.enrolment.as_ref().map_or(Ok(()), EnrolmentVerifier::reload)
    }

    /// Writes down what is over by now, and deletes what is over for long.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn sweep(&self) -> Result<u64, RegistryError> {
        let now = self.now();
        let ago = |time: Duration| now.checked_sub(time).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut tx = self.parts.registry.begin().await?;
        let expired = tx.expired_activations(now).await?;
        tx.commit().await?;
        for id in expired {
            self.expire(id, now).await?;
        }
        let mut tx = self.parts.registry.begin().await?;
        let given_up = tx.give_up_sends(ago(LONGEST_SEND)).await?;
        let swept = tx.sweep(ago(KEPT_AFTER_END), now).await?;
        tx.commit().await?;
        counter!(telemetry::SMS_SENDS, "outcome" => "unknown").increment(given_up);
        self.sweep_events().await?;
        Ok(swept)
    }

    /// Ends an activation whose time is over, unless somebody else has done so meanwhile.
    async fn expire(&self, id: ActivationId, now: SystemTime) -> Result<(), RegistryError> {
        let mut tx = self.parts.registry.begin().await?;
        let Some(mut row) = tx.lock_activation(id).await? else { return tx.commit().await };
        let is_new = row.flow.expire(now);
        if is_new {
            tx.update_activation(&row, now).await?;
            let on = (row.user, Subject::Activation(id));
            tx.note(What::ActivationEnded, (Actor::Service, None), on, now).await?;
        }
        tx.commit().await?;
        if is_new {
            count_end(End::Expired);
        }
        Ok(())
    }

    fn now(&self) -> SystemTime {
        (self.parts.environment.clock)()
    }

    fn random(&self) -> [u8; 16] {
        (self.parts.environment.rng)().random()
    }

    /// Begins a transaction in which the caller's proof is used up.
    async fn begin(&self, caller: &Caller) -> Result<Tx, ServiceError> {
        let mut tx = self.parts.registry.begin().await?;
        let seen = [caller.proof.device.to_string().as_bytes(), b"\0", caller.proof.id.as_bytes()].concat();
        let tag = self.parts.registry.sealer().tag("proof", &seen);
        let is_new = tx.is_first_use(tag, caller.proof.expires).await?;
        if is_new { Ok(tx) } else { Err(ServiceError::Replayed) }
    }

    /// The caller's own activation, locked. Another device's does not exist for it.
    async fn own(&self, tx: &mut Tx, caller: &Caller, id: ActivationId) -> Result<ActivationRow, ServiceError> {
        let row = tx.lock_activation(id).await?.filter(|row| row.device == caller.proof.key);
        let mut row = row.ok_or(ServiceError::UnknownActivation)?;
        self.check_grantor(tx, &mut row).await?;
        Ok(row)
    }

    /// A copy ends when the app that granted it is not active any more.
    async fn check_grantor(&self, tx: &mut Tx, row: &mut ActivationRow) -> Result<(), ServiceError> {
        let now = self.now();
        let Way::OtherPhone { granted_by: Some(grantor) } = row.flow.way() else { return Ok(()) };
        if matches!(row.flow.due(now), Due::Active | Due::Ended) {
            return Ok(());
        }
        let is_active = tx.app(grantor).await?.is_some_and(|app| app.state == AppState::Active);
        if !is_active && row.flow.handle(Step::GrantorGone, now).is_ok() {
            tx.update_activation(row, now).await?;
            let who = (Actor::NewApp, None);
            tx.note(What::ActivationEnded, who, (row.user, Subject::Activation(row.id)), now).await?;
            count_end(End::GrantorGone);
        }
        Ok(())
    }

    fn view(&self, row: &ActivationRow, user: &User) -> View {
        let now = self.now();
        let until = |time: SystemTime| time.duration_since(now).unwrap_or_default();
        View {
            id: row.id,
            due: row.flow.due(now),
            end: row.flow.end(now),
            expires_in: until(row.flow.expires()),
            starts_in: until(row.flow.starts()),
            app: row.app,
            holder: masked(&user.name),
            number_ends: Zeroizing::new(user.phone.last_two().to_owned()),
            has_pin: row.flow.has_pin(now),
        }
    }

    /// The user of an activation; it cannot be without one.
    async fn user_of(&self, tx: &mut Tx, key: UserKey) -> Result<User, ServiceError> {
        Ok(tx.lock_user(key).await?.ok_or(RegistryError::Corrupt("user"))?)
    }
}

/// An activation is over without an app.
fn count_end(end: End) {
    counter!(telemetry::ACTIVATIONS_ENDED, "reason" => end.as_str()).increment(1);
}

/// Enough for the holder to recognise, and for nobody else to learn: the first letter of each word.
fn masked(name: &str) -> Zeroizing<String> {
    let words = name.split_whitespace().filter_map(|word| word.chars().next());
    let masked: Vec<String> = words.map(|letter| format!("{letter}***")).collect();
    Zeroizing::new(masked.join(" "))
}
