//! The steps of an activation, from the user ID to the active app.

use std::time::{Duration, SystemTime};

use metrics::{counter, histogram};
use subtle::ConstantTimeEq as _;
use tracing::warn;
use zeroize::Zeroizing;

use super::{Caller, Service, ServiceError, View, count_end};
use crate::activation::flow::{Done, Due, Refused, Step};
use crate::activation::ids::{ActivationId, PhoneNumber, UserId};
use crate::activation::notify::EventKind;
use crate::activation::registry::{
    ActivationRow, Actor, App, AppState, Registry, RegistryError, SendId, Subject, Tag, Tx, User, What,
};
use crate::activation::sms::delivery::Report;
use crate::activation::sms::gateway::{IdempotencyKey, SmsMessage};
use crate::activation::sms::sender::{NotSent, Place, Sent};
use crate::activation::sms::text::{AppHash, Language, SmsText};
use crate::activation::temporary_pin::send_rules::{Request, SendRefused};
use crate::activation::temporary_pin::{Binding, LIFETIME, SentPin, TemporaryPin, Try};
use crate::telemetry::{self, trace};

/// Pauses between tries to write down what became of an SMS.
const WRITE_PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];

/// How the SMS is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinRequest {
    /// Its language.
    pub language: Language,
    /// The Android app that may read it.
    pub app_hash: Option<AppHash>,
}

impl Service {
    /// How far an activation is.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn look(&self, caller: &Caller, id: ActivationId) -> Result<View, ServiceError> {
        let mut tx = self.begin(caller).await?;
        let row = self.own(&mut tx, caller, id).await?;
        let user = self.user_of(&mut tx, row.user).await?;
        tx.commit().await?;
        Ok(self.view(&row, &user))
    }

    /// The person typed a user ID. It is compared with the granted one and never looked up, so that no answer tells
    /// whether there is such a user.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn user_id(&self, caller: &Caller, id: ActivationId, typed: &UserId) -> Result<View, ServiceError> {
        let mut tx = self.begin(caller).await?;
        let row = self.own(&mut tx, caller, id).await?;
        let user = self.user_of(&mut tx, row.user).await?;
        let sealer = self.parts.registry.sealer();
        let matches = sealer.user_tag(typed).ct_eq(&sealer.user_tag(&user.id)).into();
        self.step(tx, caller, (row, user), Step::UserId { matches }, What::UserIdRight).await
    }

    /// The person typed a temporary PIN.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn temporary_pin(
        &self,
        caller: &Caller,
        id: ActivationId,
        typed: &TemporaryPin,
    ) -> Result<View, ServiceError> {
        let mut tx = self.begin(caller).await?;
        let row = self.own(&mut tx, caller, id).await?;
        let user = self.user_of(&mut tx, row.user).await?;
        let (user_key, activation) = (*row.user.as_bytes(), *row.id.as_bytes());
        let binding = Binding { user: &user_key, activation: &activation, purpose: row.flow.way().purpose() };
        let step = Step::TemporaryPin { typed, binding, key: &self.parts.pin_key };
        let end = self.step(tx, caller, (row, user), step, What::PinRight).await;
        let outcome = match &end {
            Ok(_) => Try::Right.label(),
            Err(ServiceError::Step(Refused::WrongPin { left })) => Try::Wrong { left: *left }.label(),
            Err(ServiceError::Step(Refused::PinExpired)) => Try::Expired.label(),
            Err(ServiceError::Step(Refused::PinUsedUp)) => Try::UsedUp.label(),
            Err(_) => return end,
        };
        counter!(telemetry::TEMPORARY_PIN_TRIES, "outcome" => outcome).increment(1);
        end
    }

    /// An SMS with a temporary PIN is wanted. Where it must not be sent, the answer is the same.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn send_pin(
        &self,
        caller: &Caller,
        id: ActivationId,
        request: &PinRequest,
    ) -> Result<View, ServiceError> {
        let now = self.now();
        let mut tx = self.begin(caller).await?;
        let mut row = self.own(&mut tx, caller, id).await?;
        let user = self.user_of(&mut tx, row.user).await?;
        let (pin, mut sent, text) = self.new_pin(&row, request, now)?;
        let refused = self.send_refusal(&mut tx, caller, &user, now).await?;
        if let Some(refused) = refused {
            counter!(telemetry::SMS_REFUSED, "rule" => refused.label()).increment(1);
        }
        let is_withheld = refused == Some(SendRefused::NumberTooNew);
        if is_withheld {
            sent = SentPin::decoy(&mut (self.parts.environment.rng)(), now);
        }
        drop(pin);
        let before = row.clone();
        let step = Step::SendPin(&sent);
        let mut span = trace::step("handoff.activation.step", trace::Kind::Internal);
        let outcome = row.flow.handle(step, now);
        count_step(&step, outcome, &mut span);
        match (outcome, refused.filter(|_| !is_withheld)) {
            (Ok(_), Some(refused)) => {
                // The proof is used up; nothing else has happened.
                tx.commit().await?;
                return Err(ServiceError::Sends(refused));
            }
            (Ok(_), None) => {}
            (Err(refused), _) => return self.refuse(tx, caller, (&before, &row), refused).await,
        }
        // Also for an SMS that is withheld: a full queue must not tell the two apart.
        let Ok(place) = self.parts.sms.reserve() else {
            tx.commit().await?;
            return Err(ServiceError::SmsBusy);
        };
        let number = self.parts.registry.sealer().number_tag(&user.phone);
        let send_id = tx.insert_send(number, self.address_tag(caller), now).await?;
        tx.update_activation(&row, now).await?;
        let what = if is_withheld { What::PinWithheld } else { What::PinSent };
        tx.note(what, (Actor::NewApp, caller.address), (row.user, Subject::Activation(row.id)), now).await?;
        tx.commit().await?;
        if !is_withheld {
            self.hand_over(place, (user.phone.clone(), text), send_id);
        }
        Ok(self.view(&row, &user))
    }

    /// Answers the first message of the personal PIN's registration. Keeps nothing.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn personal_pin_request(
        &self,
        caller: &Caller,
        id: ActivationId,
        request: &[u8],
    ) -> Result<Vec<u8>, ServiceError> {
        let mut tx = self.begin(caller).await?;
        let row = self.own(&mut tx, caller, id).await?;
        tx.commit().await?;
        let due = row.flow.due(self.now());
        match row.flow.end(self.now()) {
            Some(end) => return Err(Refused::Ended(end).into()),
            // Also when the record is there already: the phone that lost the last answer begins the step again.
            None if due < Due::PersonalPin => return Err(Refused::NotDue(due).into()),
            None => {}
        }
        Ok(self.parts.personal_pin.respond(row.app, request)?)
    }

    /// Takes the record of the personal PIN.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn personal_pin(&self, caller: &Caller, id: ActivationId, upload: &[u8]) -> Result<View, ServiceError> {
        let record = self.parts.personal_pin.record(upload)?;
        let mut tx = self.begin(caller).await?;
        let row = self.own(&mut tx, caller, id).await?;
        let user = self.user_of(&mut tx, row.user).await?;
        self.step(tx, caller, (row, user), Step::PersonalPin(record.as_bytes()), What::PersonalPinSet).await
    }

    /// Fingerprint or face: yes or no.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn biometrics(&self, caller: &Caller, id: ActivationId, wanted: bool) -> Result<View, ServiceError> {
        let mut tx = self.begin(caller).await?;
        let row = self.own(&mut tx, caller, id).await?;
        let user = self.user_of(&mut tx, row.user).await?;
        self.step(tx, caller, (row, user), Step::Biometrics(wanted), What::BiometricsChosen).await
    }

    /// Notifications: where to, or not at all. The last step: afterwards the app is active.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn notifications(
        &self,
        caller: &Caller,
        id: ActivationId,
        token: Option<&str>,
    ) -> Result<View, ServiceError> {
        let mut tx = self.begin(caller).await?;
        let row = self.own(&mut tx, caller, id).await?;
        let user = self.user_of(&mut tx, row.user).await?;
        self.step(tx, caller, (row, user), Step::Notifications(token), What::AppActivated).await
    }

    /// Takes a step, writes down what it changed, and only then answers.
    async fn step(
        &self,
        mut tx: Tx,
        caller: &Caller,
        (mut row, user): (ActivationRow, User),
        step: Step<'_>,
        what: What,
    ) -> Result<View, ServiceError> {
        let now = self.now();
        let before = row.clone();
        let mut span = trace::step("handoff.activation.step", trace::Kind::Internal);
        let outcome = row.flow.handle(step, now);
        count_step(&step, outcome, &mut span);
        match outcome {
            Ok(Done::Repeated) => {}
            Ok(Done::Changed) => {
                tx.update_activation(&row, now).await?;
                let on = (row.user, Subject::Activation(row.id));
                tx.note(what, (Actor::NewApp, caller.address), on, now).await?;
            }
            Ok(Done::Activated) => self.activate(&mut tx, caller, &row, now).await?,
            Err(refused) => return self.refuse(tx, caller, (&before, &row), refused).await,
        }
        tx.commit().await?;
        self.wake();
        Ok(self.view(&row, &user))
    }

    /// The app, the end of its activation and the events for the user's other apps are one transaction. The user is
    /// locked, so the count is exact.
    async fn activate(
        &self,
        tx: &mut Tx,
        caller: &Caller,
        row: &ActivationRow,
        now: SystemTime,
    ) -> Result<(), ServiceError> {
        let others = tx.active_apps(row.user).await?;
        if others.len() >= self.most_apps() {
            return Err(ServiceError::TooManyApps);
        }
        let choices = row.flow.choices().ok_or(RegistryError::Corrupt("activation"))?;
        let app = App {
            id: row.app,
            user: row.user,
            device: row.device,
            state: AppState::Active,
            name: row.name.clone(),
            model: row.model.clone(),
            push_token: choices.notifications.map(|token| Zeroizing::new(token.to_owned())),
            created: now,
            last_used: now,
            biometrics: choices.biometrics,
            pin_record: Zeroizing::new(choices.record.to_vec()),
            pin_state: Zeroizing::default(),
        };
        tx.insert_app(&app).await?;
        tx.update_activation(row, now).await?;
        let who = (Actor::NewApp, caller.address);
        tx.note(What::AppActivated, who, (row.user, Subject::App(row.app)), now).await?;
        histogram!(telemetry::ACTIVATION_DURATION).record(now.duration_since(row.flow.starts()).unwrap_or_default());
        self.leave(tx, EventKind::AppActivated, &others, &[]).await?;
        Ok(())
    }

    /// A refused step may have been counted, or have ended the activation: that is committed before it is answered.
    async fn refuse(
        &self,
        mut tx: Tx,
        caller: &Caller,
        (before, after): (&ActivationRow, &ActivationRow),
        refused: Refused,
    ) -> Result<View, ServiceError> {
        let now = self.now();
        if before != after {
            tx.update_activation(after, now).await?;
            let (who, on) = ((Actor::NewApp, caller.address), (after.user, Subject::Activation(after.id)));
            let tried = match refused {
                Refused::WrongUserId { .. } => Some(What::UserIdWrong),
                Refused::WrongPin { .. } => Some(What::PinWrong),
                Refused::NotDue(_)
                | Refused::DoneOtherwise(_)
                | Refused::Waiting(_)
                | Refused::Ended(_)
                | Refused::NoPin
                | Refused::PinExpired
                | Refused::PinUsedUp => None,
            };
            if let Some(tried) = tried {
                tx.note(tried, who, on, now).await?;
            }
            if after.flow.due(now) == Due::Ended {
                tx.note(What::ActivationEnded, who, on, now).await?;
            }
        }
        tx.commit().await?;
        if let Some(end) = after.flow.end(now).filter(|_| before != after) {
            count_end(end);
        }
        Err(refused.into())
    }

    fn new_pin(
        &self,
        row: &ActivationRow,
        request: &PinRequest,
        now: SystemTime,
    ) -> Result<(TemporaryPin, SentPin, SmsText), ServiceError> {
        let pin = TemporaryPin::random(&mut (self.parts.environment.rng)());
        let purpose = row.flow.way().purpose();
        let binding = Binding { user: row.user.as_bytes(), activation: row.id.as_bytes(), purpose };
        let sent = SentPin::new(&pin, binding, &self.parts.pin_key, now);
        let text = self.parts.texts.compose(&pin, purpose, request.language, request.app_hash.as_ref());
        Ok((pin, sent, text.map_err(|_| ServiceError::UnknownAppHash)?))
    }

    /// Gives the SMS to the sender, and writes down what came of it.
    pub(super) fn hand_over(&self, place: Place, (to, text): (PhoneNumber, SmsText), send_id: SendId) {
        let key = IdempotencyKey::from_random(self.random());
        let registry = self.parts.registry.clone();
        let done = async move |end: Result<Sent, NotSent>| {
            let (status, message) = match &end {
                Ok(Sent { gateway, message_id }) => ("accepted", Some(message_tag(&registry, *gateway, message_id))),
                Err(_) => ("failed", None),
            };
            write_down(&registry, send_id, status, message).await;
        };
        let message = SmsMessage { to, text, key, valid_for: LIFETIME };
        self.parts.sms.dispatch(place, message, done);
    }

    /// Writes down what a gateway reports of a message. Whether there is such a message.
    ///
    /// # Errors
    /// [`ServiceError::Registry`].
    pub async fn report(&self, gateway: usize, report: &Report) -> Result<bool, ServiceError> {
        let tag = message_tag(&self.parts.registry, gateway, &report.message_id);
        Ok(self.parts.registry.report_send(tag, report.status.label()).await?)
    }

    pub(super) async fn send_refusal(
        &self,
        tx: &mut Tx,
        caller: &Caller,
        user: &User,
        now: SystemTime,
    ) -> Result<Option<SendRefused>, ServiceError> {
        tx.lock_sends().await?;
        let (rules, number) = (&self.settings.send_rules, self.parts.registry.sealer().number_tag(&user.phone));
        let counts = tx.count_sends(number, self.address_tag(caller), rules, now).await?;
        let request = Request {
            to_number: counts.to_number,
            from_address: counts.from_address,
            in_all: counts.in_all,
            number_changed: user.number_changed,
        };
        Ok(rules.check(&request, now).err())
    }

    /// An IPv4 address or an IPv6 /64, which one household has.
    pub(super) fn address_tag(&self, caller: &Caller) -> [u8; 32] {
        let bytes = match caller.address.map(|address| address.to_canonical()) {
            Some(std::net::IpAddr::V4(address)) => address.octets().to_vec(),
            Some(std::net::IpAddr::V6(address)) => address.octets().into_iter().take(8).collect(),
            None => Vec::new(),
        };
        self.parts.registry.sealer().tag("address", &bytes)
    }
}

/// Tries again when the database is busy: a delivery report looks for it, and so does whoever administers.
async fn write_down(registry: &Registry, send: SendId, status: &str, message: Option<Tag>) {
    let mut pauses = WRITE_PAUSES.into_iter();
    while let Err(problem) = registry.end_send(send, status, message).await {
        let Some(pause) = pauses.next() else {
            warn!(%problem, "what became of an SMS could not be written down");
            return;
        };
        tokio::time::sleep(pause).await;
    }
}

/// Of a PIN that a limit keeps from being sent, this says what the activation itself allowed.
fn count_step(step: &Step<'_>, outcome: Result<Done, Refused>, span: &mut trace::Step) {
    let outcome = match outcome {
        Ok(Done::Changed | Done::Activated) => "taken",
        Ok(Done::Repeated) => "repeated",
        Err(_) => "refused",
    };
    if let Some(label) = step.label() {
        counter!(telemetry::ACTIVATION_STEPS, "step" => label, "outcome" => outcome).increment(1);
        span.set("handoff.activation.step", label);
        span.set("handoff.outcome", outcome);
    }
}

/// Stands for a gateway's name of a message.
fn message_tag(registry: &Registry, gateway: usize, id: &str) -> Tag {
    registry.sealer().tag("SMS", format!("{gateway} {id}").as_bytes())
}
