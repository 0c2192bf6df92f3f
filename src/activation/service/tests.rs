mod over;

use std::sync::Mutex;

use over::{
    an_activation_that_expired_is_written_down_once_whoever_notices_first,
    an_sms_that_was_under_way_when_the_process_died_is_unknown_after_a_while,
};
use p256::ecdsa::SigningKey;
use serde_json::json;
use tempfile::NamedTempFile;

use super::*;
use crate::activation::device_proof::tests::{device_key, jwk, jws};
use crate::activation::flow::Refused;
use crate::activation::grant::{BadGrant, EnrolmentKeys, EnrolmentSettings, GRANT_TYPE};
use crate::activation::ids::{DeviceKey, Thumbprint, UserId};
use crate::activation::personal_pin::PinServer;
use crate::activation::personal_pin::lock::Locked;
use crate::activation::registry::tests::Place;
use crate::activation::sms::outbox::Outbox;
use crate::activation::sms::sender::SenderSettings;
use crate::activation::temporary_pin::TemporaryPin;
use crate::activation::temporary_pin::send_rules::{Limit, SendRefused};
use crate::opaque::client::{Login, Registration};

const START: u64 = 1_800_000_000;
const TRANSCRIPT: [u8; 32] = [9; 32];
const TH2: &str = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk";

/// A phone with a key.
pub(crate) struct Phone {
    pub(crate) key: SigningKey,
}

impl Phone {
    pub(crate) fn new() -> Self {
        Self { key: SigningKey::from_slice(&rand::random::<[u8; 32]>()).unwrap() }
    }

    pub(crate) fn device(&self) -> DeviceKey {
        device_key(&self.key)
    }

    pub(crate) fn thumbprint(&self) -> Thumbprint {
        Thumbprint::of(&self.device())
    }
}

/// A service with everything around it that is real but the gateway.
pub(crate) struct Rig {
    pub(crate) place: Place,
    pub(crate) service: Arc<Service>,
    pub(crate) outbox: Arc<Outbox>,
    proofing: SigningKey,
    clock: Arc<Mutex<SystemTime>>,
    _jwks: NamedTempFile,
}

pub(crate) fn settings() -> ServiceSettings {
    let rules = SendRules::default();
    // All phones of a test are at one address.
    let per_address = Limit { most: 100_000, ..rules.per_address };
    let in_all = Limit { most: 100_000, ..rules.in_all };
    ServiceSettings {
        lifetime: Duration::from_mins(30),
        copy_wait: Duration::ZERO,
        most_apps: 3,
        send_rules: SendRules { per_address, in_all, ..rules },
    }
}

impl Rig {
    pub(crate) async fn new(place: Place) -> Self {
        Self::with(place, settings()).await
    }

    pub(crate) async fn with(place: Place, settings: ServiceSettings) -> Self {
        let proofing = Phone::new().key;
        let jwks = NamedTempFile::new().unwrap();
        std::fs::write(jwks.path(), json!({"keys": [jwk(&proofing)]}).to_string()).unwrap();
        let enrolment = EnrolmentSettings {
            keys: EnrolmentKeys::File(jwks.path().to_owned()),
            audience: "handoff-activation".to_owned(),
            issuer: None,
            leeway: Duration::from_secs(30),
        };
        let outbox = Arc::new(Outbox::new(|| SystemTime::UNIX_EPOCH));
        let gateway: Arc<dyn crate::activation::sms::gateway::SmsGateway> = outbox.clone();
        let clock = Arc::new(Mutex::new(SystemTime::UNIX_EPOCH + Duration::from_secs(START)));
        let now = Arc::clone(&clock);
        let parts = Parts {
            registry: place.registry().await,
            pin_key: HashKey::new([2; 32]),
            enrolment: Some(EnrolmentVerifier::load(enrolment).unwrap()),
            personal_pin: PinServer::random(&mut rand::rng()),
            sms: Arc::new(SmsSender::new(vec![gateway], SenderSettings::default())),
            notifier: None,
            texts: SmsTexts::new("eid.example", "e-ID", vec![]).unwrap(),
            environment: Environment { clock: Arc::new(move || *now.lock().unwrap()), rng: rand::rng },
        };
        let service = Arc::new(Service::new(parts, settings));
        let rig = Self { place, service, outbox, proofing, clock, _jwks: jwks };
        rig.put("maria82", "+4512345678").await;
        rig
    }

    pub(crate) async fn put(&self, id: &str, phone: &str) -> UserKey {
        let name = Zeroizing::new("Maria Hansen".to_owned());
        let user = NewUser { id: id.parse().unwrap(), name, phone: phone.parse().unwrap() };
        self.service.put_users(&[user]).await.unwrap()[0].key()
    }

    fn now(&self) -> SystemTime {
        *self.clock.lock().unwrap()
    }

    fn seconds(&self) -> u64 {
        self.now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
    }

    fn pass(&self, time: Duration) {
        *self.clock.lock().unwrap() += time;
    }

    /// A new proof of this phone.
    fn by(&self, phone: &Phone) -> Caller {
        let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string();
        let expires = self.now() + Duration::from_mins(5);
        let proof = Proof { key: phone.device(), device: phone.thumbprint(), id, expires };
        Caller { proof, address: Some("192.0.2.7".parse().unwrap()) }
    }

    fn token_for(&self, user: &str, phone: Option<&Phone>) -> Start {
        let jti: u64 = rand::random();
        let mut claims = json!({"sub": user, "aud": "handoff-activation", "exp": self.seconds() + 600,
                                "jti": jti.to_string()});
        if let Some(phone) = phone {
            claims["cnf"] = json!({"jkt": phone.thumbprint()});
        }
        Start::Enrolment(jws(&json!({"alg": "ES256"}), &claims, &self.proofing).into())
    }

    fn grant(&self, app: AppId, old: &Phone, new: &Phone) -> Start {
        let header = json!({"alg": "ES256", "typ": GRANT_TYPE, "kid": app});
        let jti: u64 = rand::random();
        let claims = json!({"cnf": {"jkt": new.thumbprint()}, "th2": TH2, "iat": self.seconds(),
                            "exp": self.seconds() + 300, "jti": jti.to_string()});
        Start::Copy { grant: jws(&header, &claims, &old.key).into(), transcript: TRANSCRIPT }
    }

    async fn start(&self, phone: &Phone, start: &Start) -> Result<View, ServiceError> {
        let app = NewApp { name: "Maria's phone".to_owned().into(), model: "Pixel 9".to_owned().into() };
        self.service.start(&self.by(phone), start, &app).await
    }

    /// The PIN of the newest SMS.
    async fn pin(&self) -> TemporaryPin {
        loop {
            if let Some(kept) = self.outbox.newest_first().first() {
                let text = kept.message.text.expose();
                let (_, code) = text.rsplit_once('#').unwrap();
                return code[..8].parse().unwrap();
            }
            // The sender's task has its turn.
            tokio::task::yield_now().await;
        }
    }

    async fn send(&self, phone: &Phone, id: ActivationId) -> Result<View, ServiceError> {
        let already = self.outbox.newest_first().len();
        let view = self.service.send_pin(&self.by(phone), id, &PinRequest::default()).await?;
        while self.outbox.newest_first().len() == already {
            tokio::task::yield_now().await;
        }
        Ok(view)
    }

    /// From the temporary PIN to the active app.
    async fn finish(&self, phone: &Phone, id: ActivationId) -> Result<View, ServiceError> {
        self.send(phone, id).await?;
        let pin = self.pin().await;
        let view = self.service.temporary_pin(&self.by(phone), id, &pin).await?;
        self.choose(phone, &view).await
    }

    async fn choose(&self, phone: &Phone, view: &View) -> Result<View, ServiceError> {
        let (id, app) = (view.id, view.app.as_bytes());
        let (registration, request) = Registration::start(b"471108", &mut rand::rng()).unwrap();
        let response = self.service.personal_pin_request(&self.by(phone), id, &request).await?;
        let (setup, response) = response.split_first_chunk::<8>().unwrap();
        let upload = registration.finish(app, response.try_into().unwrap(), &mut rand::rng()).unwrap();
        let upload = [&setup[..], &upload].concat();
        let view = self.service.personal_pin(&self.by(phone), id, &upload).await?;
        assert_eq!(view.due, Due::Biometrics);
        let view = self.service.biometrics(&self.by(phone), id, true).await?;
        assert_eq!(view.due, Due::Notifications);
        self.service.notifications(&self.by(phone), id, Some("push-token")).await
    }

    /// An active app on this phone.
    async fn active(&self, phone: &Phone) -> AppId {
        let view = self.start(phone, &self.token_for("maria82", Some(phone))).await.unwrap();
        self.finish(phone, view.id).await.unwrap().app
    }

    async fn copied(&self, app: AppId, old: &Phone, new: &Phone) -> Result<View, ServiceError> {
        let view = self.start(new, &self.grant(app, old, new)).await?;
        let typed = "Maria82".parse().unwrap();
        let view = self.service.user_id(&self.by(new), view.id, &typed).await?;
        self.finish(new, view.id).await
    }

    async fn trail(&self) -> Vec<String> {
        let mut tx = self.service.registry().begin().await.unwrap();
        let user = tx.lock_user_by_id(&"maria82".parse().unwrap()).await.unwrap().unwrap();
        tx.audit_of(user.key, 0, 1000).await.unwrap().into_iter().map(|entry| entry.what).collect()
    }
}

macro_rules! on_both {
    ($($story:ident)*) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $story() {
                super::$story(super::Rig::new(super::Place::sqlite()).await).await;
            })*
        }
        mod postgresql {
            $(#[tokio::test]
            async fn $story() {
                super::$story(super::Rig::new(super::Place::postgres()).await).await;
            })*
        }
    };
}

on_both! {
    both_ways_end_with_active_apps_and_a_complete_trail
    the_same_start_again_is_the_same_activation_and_another_is_refused
    of_two_last_steps_at_once_one_app_comes
    of_two_activations_at_once_only_as_many_apps_come_as_are_allowed
    a_deleted_app_ends_the_copies_that_it_granted
    of_many_requests_at_once_only_as_many_sms_go_out_as_are_allowed
    an_event_is_there_with_what_happened_and_only_then
    a_report_is_written_down_with_the_sms_and_the_last_word_stays
    an_activation_that_expired_is_written_down_once_whoever_notices_first
    an_sms_that_was_under_way_when_the_process_died_is_unknown_after_a_while
}

async fn both_ways_end_with_active_apps_and_a_complete_trail(rig: Rig) {
    let (old, new) = (Phone::new(), Phone::new());
    let view = rig.start(&old, &rig.token_for("maria82", Some(&old))).await.unwrap();
    assert_eq!((view.due, view.holder.as_str(), view.number_ends.as_str()), (Due::TemporaryPin, "M*** H***", "78"));
    let first = rig.finish(&old, view.id).await.unwrap();
    assert_eq!(first.due, Due::Active);
    let second = rig.copied(first.app, &old, &new).await.unwrap();
    assert_eq!(second.due, Due::Active);
    let mine = rig.service.apps(&rig.by(&new)).await.unwrap();
    let apps: Vec<(AppId, bool)> = mine.apps.iter().map(|app| (app.id, app.is_this)).collect();
    assert_eq!(apps.len(), 2);
    assert!(apps.contains(&(first.app, false)) && apps.contains(&(second.app, true)), "{apps:?}");
    assert_eq!(mine.pending, []);
    let one = ["activation_started", "pin_sent", "pin_right", "personal_pin_set", "biometrics_chosen", "app_activated"];
    let mut expected = vec!["user_created"];
    expected.extend(one);
    expected.extend(&one[..1]);
    expected.push("user_id_right");
    expected.extend(&one[1..]);
    assert_eq!(rig.trail().await, expected);
}

async fn the_same_start_again_is_the_same_activation_and_another_is_refused(rig: Rig) {
    let (phone, other) = (Phone::new(), Phone::new());
    let start = rig.token_for("maria82", None);
    let first = rig.start(&phone, &start).await.unwrap();
    assert_eq!(rig.start(&phone, &start).await.unwrap().id, first.id);
    assert!(matches!(rig.start(&other, &start).await, Err(ServiceError::TokenUsed)));
    let another = rig.token_for("maria82", None);
    assert!(matches!(rig.start(&phone, &another).await, Err(ServiceError::DeviceKeyUsed)));
    rig.finish(&phone, first.id).await.unwrap();
    assert_eq!(rig.start(&phone, &start).await.unwrap().due, Due::Active, "also when it is done");
}

async fn of_two_last_steps_at_once_one_app_comes(rig: Rig) {
    let phone = Phone::new();
    let view = rig.start(&phone, &rig.token_for("maria82", None)).await.unwrap();
    rig.send(&phone, view.id).await.unwrap();
    let pin = rig.pin().await;
    // Every step from many hands at once, like a phone that repeats and repeats.
    let callers: Vec<Caller> = (0..8).map(|_| rig.by(&phone)).collect();
    let typed = callers.iter().map(|caller| rig.service.temporary_pin(caller, view.id, &pin));
    assert!(futures_util::future::join_all(typed).await.iter().all(Result::is_ok));
    let view = rig.choose(&phone, &view).await.unwrap();
    let callers: Vec<Caller> = (0..8).map(|_| rig.by(&phone)).collect();
    let again = callers.iter().map(|caller| rig.service.notifications(caller, view.id, Some("push-token")));
    let views = futures_util::future::join_all(again).await;
    assert!(views.iter().all(|view| view.as_ref().is_ok_and(|view| view.due == Due::Active)));
    assert_eq!(rig.service.apps(&rig.by(&phone)).await.unwrap().apps.len(), 1);
    let trail = rig.trail().await;
    for what in ["pin_right", "app_activated"] {
        assert_eq!(trail.iter().filter(|entry| *entry == what).count(), 1, "{what}");
    }
}

async fn of_two_activations_at_once_only_as_many_apps_come_as_are_allowed(rig: Rig) {
    let phones: Vec<Phone> = (0..5).map(|_| Phone::new()).collect();
    let mut ready = Vec::new();
    for phone in &phones {
        // The number has its rest between the SMS.
        rig.pass(Duration::from_mins(6));
        let view = rig.start(phone, &rig.token_for("maria82", None)).await.unwrap();
        rig.send(phone, view.id).await.unwrap();
        let pin = rig.pin().await;
        let view = rig.service.temporary_pin(&rig.by(phone), view.id, &pin).await.unwrap();
        ready.push(view);
    }
    let all = phones.iter().zip(&ready).map(|(phone, view)| rig.choose(phone, view));
    let ends = futures_util::future::join_all(all).await;
    let active = ends.iter().filter(|end| end.as_ref().is_ok_and(|view| view.due == Due::Active)).count();
    let refused = ends.iter().filter(|end| matches!(end, Err(ServiceError::TooManyApps))).count();
    assert_eq!((active, refused), (3, 2));
    let fourth = Phone::new();
    let start = rig.token_for("maria82", None);
    assert!(matches!(rig.start(&fourth, &start).await, Err(ServiceError::TooManyApps)));
    // With room again, the one that was refused goes on where it was.
    let (one, waiting) = (0..5).fold((None, None), |(one, waiting), at| {
        if ends[at].is_ok() { (one.or(Some(at)), waiting) } else { (one, waiting.or(Some(at))) }
    });
    let (one, waiting) = (one.unwrap(), waiting.unwrap());
    rig.service.delete_app(&rig.by(&phones[one]), ready[one].app).await.unwrap();
    let caller = rig.by(&phones[waiting]);
    let view = rig.service.notifications(&caller, ready[waiting].id, Some("push-token")).await.unwrap();
    assert_eq!(view.due, Due::Active);
}

async fn a_deleted_app_ends_the_copies_that_it_granted(rig: Rig) {
    let (old, new, late) = (Phone::new(), Phone::new(), Phone::new());
    let app = rig.active(&old).await;
    let grant = rig.grant(app, &old, &late);
    let view = rig.start(&new, &rig.grant(app, &old, &new)).await.unwrap();
    assert_eq!(rig.service.apps(&rig.by(&old)).await.unwrap().pending[0].id, view.id);
    rig.service.delete_app(&rig.by(&old), app).await.unwrap();
    let typed: UserId = "maria82".parse().unwrap();
    let refused = rig.service.user_id(&rig.by(&new), view.id, &typed).await;
    assert!(matches!(refused, Err(ServiceError::Step(Refused::Ended(End::GrantorGone)))), "{refused:?}");
    assert!(matches!(rig.start(&late, &grant).await, Err(ServiceError::GrantorNotActive)));
    assert!(matches!(rig.service.apps(&rig.by(&old)).await, Err(ServiceError::UnknownDevice)));
}

async fn sqlite() -> Rig {
    Rig::new(Place::sqlite()).await
}

#[tokio::test]
async fn a_proof_is_taken_once() {
    let rig = sqlite().await;
    let phone = Phone::new();
    let view = rig.start(&phone, &rig.token_for("maria82", None)).await.unwrap();
    let caller = rig.by(&phone);
    rig.service.look(&caller, view.id).await.unwrap();
    assert!(matches!(rig.service.look(&caller, view.id).await, Err(ServiceError::Replayed)));
    // Another device may have used the same number.
    let other = Caller { proof: Proof { id: caller.proof.id, ..rig.by(&Phone::new()).proof }, ..rig.by(&phone) };
    assert!(matches!(rig.service.look(&other, view.id).await, Err(ServiceError::UnknownActivation)));
}

#[tokio::test]
async fn another_device_does_not_see_an_activation() {
    let rig = sqlite().await;
    let (phone, thief) = (Phone::new(), Phone::new());
    let view = rig.start(&phone, &rig.token_for("maria82", None)).await.unwrap();
    rig.send(&phone, view.id).await.unwrap();
    let pin = rig.pin().await;
    let stolen = rig.service.temporary_pin(&rig.by(&thief), view.id, &pin).await;
    assert!(matches!(stolen, Err(ServiceError::UnknownActivation)));
    assert!(matches!(rig.service.cancel(&rig.by(&thief), view.id).await, Err(ServiceError::UnknownActivation)));
    assert!(rig.service.temporary_pin(&rig.by(&phone), view.id, &pin).await.is_ok());
}

#[tokio::test]
async fn a_pin_of_another_activation_is_wrong() {
    let rig = sqlite().await;
    let (one, other) = (Phone::new(), Phone::new());
    let first = rig.start(&one, &rig.token_for("maria82", None)).await.unwrap();
    let second = rig.start(&other, &rig.token_for("maria82", None)).await.unwrap();
    rig.send(&other, second.id).await.unwrap();
    rig.send(&one, first.id).await.unwrap();
    let pin_of_first = rig.pin().await;
    let refused = rig.service.temporary_pin(&rig.by(&other), second.id, &pin_of_first).await;
    assert!(matches!(refused, Err(ServiceError::Step(Refused::WrongPin { left: 4 }))), "{refused:?}");
}

#[tokio::test]
async fn wrong_tries_are_counted_although_they_are_refused() {
    let rig = sqlite().await;
    let phone = Phone::new();
    let view = rig.start(&phone, &rig.token_for("maria82", None)).await.unwrap();
    rig.send(&phone, view.id).await.unwrap();
    let pin = rig.pin().await;
    let wrong = TemporaryPin::random(&mut rand::rng());
    for left in (0..5).rev() {
        let refused = rig.service.temporary_pin(&rig.by(&phone), view.id, &wrong).await;
        assert!(matches!(refused, Err(ServiceError::Step(Refused::WrongPin { left: l })) if l == left), "{refused:?}");
    }
    let refused = rig.service.temporary_pin(&rig.by(&phone), view.id, &pin).await;
    assert!(matches!(refused, Err(ServiceError::Step(Refused::PinUsedUp))));
    rig.send(&phone, view.id).await.unwrap();
    let pin = rig.pin().await;
    assert!(rig.service.temporary_pin(&rig.by(&phone), view.id, &pin).await.is_ok(), "the user is not locked");
}

#[tokio::test]
async fn guesses_at_once_all_count() {
    let rig = sqlite().await;
    let phone = Phone::new();
    let view = rig.start(&phone, &rig.token_for("maria82", None)).await.unwrap();
    rig.send(&phone, view.id).await.unwrap();
    let wrong = TemporaryPin::random(&mut rand::rng());
    let mut callers: Vec<Caller> = (0..20).map(|_| rig.by(&phone)).collect();
    for (caller, host) in callers.iter_mut().zip(1_u8..) {
        caller.address = Some([198, 51, 100, host].into());
    }
    let guesses = callers.iter().map(|caller| rig.service.temporary_pin(caller, view.id, &wrong));
    let ends = futures_util::future::join_all(guesses).await;
    let wrong = |end: &&Result<View, ServiceError>| matches!(end, Err(ServiceError::Step(Refused::WrongPin { .. })));
    assert_eq!(ends.iter().filter(wrong).count(), 5);
}

#[tokio::test]
async fn the_fourth_sms_to_a_number_has_to_wait_and_nothing_is_sent() {
    let rig = sqlite().await;
    let phone = Phone::new();
    let view = rig.start(&phone, &rig.token_for("maria82", None)).await.unwrap();
    for _ in 0..3 {
        rig.send(&phone, view.id).await.unwrap();
    }
    let pin = rig.pin().await;
    let refused = rig.service.send_pin(&rig.by(&phone), view.id, &PinRequest::default()).await;
    assert!(matches!(refused, Err(ServiceError::Sends(SendRefused::TooManyToNumber { .. }))), "{refused:?}");
    assert_eq!(rig.outbox.newest_first().len(), 3);
    assert!(rig.service.temporary_pin(&rig.by(&phone), view.id, &pin).await.is_ok(), "the last one holds");
}

#[tokio::test]
async fn a_number_that_was_changed_gets_no_sms_and_the_answer_is_the_same() {
    let rig = sqlite().await;
    rig.put("erik77", "+4511111111").await;
    rig.put("erik77", "+4522222222").await;
    let (phone, honest) = (Phone::new(), Phone::new());
    let view = rig.start(&phone, &rig.token_for("erik77", None)).await.unwrap();
    let withheld = rig.service.send_pin(&rig.by(&phone), view.id, &PinRequest::default()).await.unwrap();
    let other = rig.start(&honest, &rig.token_for("maria82", None)).await.unwrap();
    let sent = rig.send(&honest, other.id).await.unwrap();
    let (id, app, number_ends) = (sent.id, sent.app, sent.number_ends.clone());
    assert_eq!(View { id, app, number_ends, ..withheld }, sent);
    assert_eq!(rig.outbox.newest_first().len(), 1, "only the honest one");
    let guess = rig.service.temporary_pin(&rig.by(&phone), view.id, &TemporaryPin::random(&mut rand::rng())).await;
    assert!(matches!(guess, Err(ServiceError::Step(Refused::WrongPin { left: 4 }))));
    rig.pass(Duration::from_hours(5 * 24));
    let view = rig.start(&Phone::new(), &rig.token_for("erik77", None)).await.unwrap();
    assert_eq!(view.due, Due::TemporaryPin);
}

#[tokio::test]
async fn a_user_id_that_is_on_file_and_one_that_is_not_are_refused_alike() {
    let rig = sqlite().await;
    rig.put("erik77", "+4511111111").await;
    let (old, new) = (Phone::new(), Phone::new());
    let app = rig.active(&old).await;
    let view = rig.start(&new, &rig.grant(app, &old, &new)).await.unwrap();
    for (typed, tries) in [("erik77", 4), ("nobody", 3)] {
        let refused = rig.service.user_id(&rig.by(&new), view.id, &typed.parse().unwrap()).await;
        assert!(matches!(refused, Err(ServiceError::Step(Refused::WrongUserId { left })) if left == tries));
    }
}

#[tokio::test]
async fn a_grant_of_an_unknown_app_another_key_device_or_user_is_refused() {
    let rig = sqlite().await;
    let (old, new, thief) = (Phone::new(), Phone::new(), Phone::new());
    let app = rig.active(&old).await;
    let unknown = rig.grant(AppId::from_random([7; 16]), &old, &new);
    assert!(matches!(rig.start(&new, &unknown).await, Err(ServiceError::GrantorNotActive)));
    let forged = rig.grant(app, &thief, &thief);
    assert!(matches!(rig.start(&thief, &forged).await, Err(ServiceError::Grant(BadGrant::Token(_)))));
    let grant = rig.grant(app, &old, &new);
    assert!(matches!(rig.start(&thief, &grant).await, Err(ServiceError::Grant(BadGrant::OtherDevice))));
    rig.start(&new, &grant).await.unwrap();
    let used = rig.start(&Phone { key: new.key.clone() }, &grant).await.unwrap();
    assert_eq!(used.due, Due::UserId, "the same device again");
    rig.pass(Duration::from_mins(6));
    let late = rig.grant(app, &old, &thief);
    rig.pass(Duration::from_mins(6));
    assert!(matches!(rig.start(&thief, &late).await, Err(ServiceError::Grant(BadGrant::Expired))));
}

#[tokio::test]
async fn the_enrolling_phone_can_grant_without_an_app_of_its_own_and_only_once() {
    let rig = sqlite().await;
    let (helper, new, other) = (Phone::new(), Phone::new(), Phone::new());
    let Start::Enrolment(token) = rig.token_for("maria82", Some(&helper)) else { panic!("no token") };
    let grant = |by: &Phone, to: &Phone| {
        let header = json!({"alg": "ES256", "typ": GRANT_TYPE, "jwk": jwk(&by.key)});
        let claims = json!({"cnf": {"jkt": to.thumbprint()}, "th2": TH2, "iat": rig.seconds(),
                            "exp": rig.seconds() + 300, "jti": "1", "enrolment": token.as_str()});
        Start::Copy { grant: jws(&header, &claims, &by.key).into(), transcript: TRANSCRIPT }
    };
    let stolen = rig.start(&other, &grant(&other, &other)).await;
    assert!(matches!(stolen, Err(ServiceError::Grant(BadGrant::OtherDevice))), "{stolen:?}");
    let view = rig.start(&new, &grant(&helper, &new)).await.unwrap();
    assert_eq!(view.due, Due::UserId);
    assert!(matches!(rig.start(&other, &grant(&helper, &other)).await, Err(ServiceError::TokenUsed)));
    let own = rig.start(&helper, &Start::Enrolment(token.clone())).await;
    assert!(matches!(own, Err(ServiceError::TokenUsed)), "one identity proof, one app");
    rig.service.user_id(&rig.by(&new), view.id, &"maria82".parse().unwrap()).await.unwrap();
    assert_eq!(rig.finish(&new, view.id).await.unwrap().due, Due::Active);
}

#[tokio::test]
async fn a_copy_that_has_to_wait_can_be_cancelled_from_the_old_app() {
    let rig = Rig::with(Place::sqlite(), ServiceSettings { copy_wait: Duration::from_hours(1), ..settings() }).await;
    let (old, new) = (Phone::new(), Phone::new());
    let app = rig.active(&old).await;
    let view = rig.start(&new, &rig.grant(app, &old, &new)).await.unwrap();
    assert_eq!((view.due, view.starts_in), (Due::Waiting, Duration::from_hours(1)));
    rig.service.cancel(&rig.by(&old), view.id).await.unwrap();
    rig.service.cancel(&rig.by(&old), view.id).await.unwrap();
    rig.pass(Duration::from_hours(1));
    assert_eq!(rig.service.look(&rig.by(&new), view.id).await.unwrap().end, Some(End::Cancelled));
}

#[tokio::test]
async fn an_erased_user_has_no_apps_and_no_activations() {
    let rig = sqlite().await;
    let (old, new) = (Phone::new(), Phone::new());
    let app = rig.active(&old).await;
    let view = rig.start(&new, &rig.grant(app, &old, &new)).await.unwrap();
    let id = "maria82".parse().unwrap();
    rig.service.erase_user(&id).await.unwrap();
    assert!(matches!(rig.service.erase_user(&id).await, Err(ServiceError::UnknownUser)));
    assert!(matches!(rig.service.apps(&rig.by(&old)).await, Err(ServiceError::UnknownDevice)));
    assert!(matches!(rig.service.look(&rig.by(&new), view.id).await, Err(ServiceError::UnknownActivation)));
    let again = rig.start(&Phone::new(), &rig.token_for("maria82", None)).await;
    assert!(matches!(again, Err(ServiceError::NotOnFile)));
}

#[tokio::test]
async fn what_is_over_for_a_day_is_swept() {
    let rig = sqlite().await;
    let phone = Phone::new();
    let view = rig.start(&phone, &rig.token_for("maria82", None)).await.unwrap();
    rig.pass(Duration::from_mins(30));
    assert_eq!(rig.service.sweep().await.unwrap(), 0);
    assert_eq!(rig.service.look(&rig.by(&phone), view.id).await.unwrap().end, Some(End::Expired));
    rig.pass(Duration::from_hours(24) + Duration::from_secs(1));
    assert_eq!(rig.service.sweep().await.unwrap(), 1);
    assert!(matches!(rig.service.look(&rig.by(&phone), view.id).await, Err(ServiceError::UnknownActivation)));
}

#[tokio::test]
async fn a_new_service_on_the_same_registry_goes_on_with_every_step() {
    let rig = sqlite().await;
    let phone = Phone::new();
    let view = rig.start(&phone, &rig.token_for("maria82", None)).await.unwrap();
    rig.service.registry().close().await;
    let refused = rig.service.look(&rig.by(&phone), view.id).await;
    assert!(matches!(refused, Err(ServiceError::Registry(_))), "a database that is away has a name: {refused:?}");
    let Rig { place, .. } = rig;
    let again = Rig::new(place).await;
    assert_eq!(again.finish(&phone, view.id).await.unwrap().due, Due::Active);
}

/// Tries to open the app.
async fn unlock(rig: &Rig, phone: &Phone, app: AppId, pin: &[u8]) -> Result<bool, ServiceError> {
    let (login, ke1) = Login::start(pin, &mut rand::rng()).unwrap();
    let ke2 = rig.service.begin_unlock(&rig.by(phone), app, &ke1).await?;
    let ke3 = login.finish(app.as_bytes(), ke2.as_slice().try_into().unwrap(), &mut rand::rng());
    let ke3 = ke3.map_or([0; 32], |(ke3, _)| ke3);
    rig.service.finish_unlock(&rig.by(phone), app, &ke3).await
}

#[tokio::test]
async fn an_app_opens_with_its_pin_and_wrong_ones_lock_it_for_a_while_and_then_for_good() {
    let rig = sqlite().await;
    let (phone, other) = (Phone::new(), Phone::new());
    let app = rig.active(&phone).await;
    let second = rig.active(&other).await;
    for _ in 0..4 {
        assert!(matches!(unlock(&rig, &phone, app, b"000000").await, Err(ServiceError::PinNotProven)));
    }
    assert!(!unlock(&rig, &phone, app, b"471108").await.unwrap(), "the right one gives the tries back");
    for _ in 0..5 {
        assert!(matches!(unlock(&rig, &phone, app, b"000000").await, Err(ServiceError::PinNotProven)));
    }
    let locked = unlock(&rig, &phone, app, b"471108").await;
    assert!(matches!(locked, Err(ServiceError::Locked(Locked::Waiting { .. }))), "{locked:?}");
    for _ in 0..5 {
        rig.pass(Duration::from_hours(24));
        assert!(matches!(unlock(&rig, &phone, app, b"000000").await, Err(ServiceError::PinNotProven)));
    }
    rig.pass(Duration::from_hours(24 * 365));
    assert!(matches!(unlock(&rig, &phone, app, b"471108").await, Err(ServiceError::Locked(Locked::ForGood))));
    assert!(rig.trail().await.contains(&"app_locked".to_owned()));
    assert!(!unlock(&rig, &other, second, b"471108").await.unwrap(), "the user is not locked");
    assert!(matches!(unlock(&rig, &other, app, b"471108").await, Err(ServiceError::UnknownApp)));
}

#[tokio::test]
async fn a_try_that_is_never_finished_counts_and_a_login_serves_once() {
    let rig = sqlite().await;
    let phone = Phone::new();
    let app = rig.active(&phone).await;
    let (login, ke1) = Login::start(b"471108", &mut rand::rng()).unwrap();
    let ke2 = rig.service.begin_unlock(&rig.by(&phone), app, &ke1).await.unwrap();
    let (ke3, _) = login.finish(app.as_bytes(), ke2.as_slice().try_into().unwrap(), &mut rand::rng()).unwrap();
    rig.service.finish_unlock(&rig.by(&phone), app, &ke3).await.unwrap();
    let again = rig.service.finish_unlock(&rig.by(&phone), app, &ke3).await;
    assert!(matches!(again, Err(ServiceError::PinNotProven)));
    let callers: Vec<Caller> = (0..8).map(|_| rig.by(&phone)).collect();
    let tries = callers.iter().map(|caller| rig.service.begin_unlock(caller, app, &ke1));
    let ends = futures_util::future::join_all(tries).await;
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 5, "each KE2 is a guess, proven or not");
}

async fn of_many_requests_at_once_only_as_many_sms_go_out_as_are_allowed(rig: Rig) {
    let rules = settings().send_rules;
    let rules = SendRules { per_address: Limit { most: 5, ..rules.per_address }, ..rules };
    let rig = Rig::with(rig.place, ServiceSettings { send_rules: rules, ..settings() }).await;
    let mut ready = Vec::new();
    for number in 0..20 {
        let (user, phone) = (format!("person{number}"), Phone::new());
        rig.put(&user, &format!("+45201111{number:02}")).await;
        let view = rig.start(&phone, &rig.token_for(&user, None)).await.unwrap();
        ready.push((rig.by(&phone), view.id));
    }
    let request = PinRequest::default();
    let sends = ready.iter().map(|(caller, id)| rig.service.send_pin(caller, *id, &request));
    let ends = futures_util::future::join_all(sends).await;
    let refused = |end: &&Result<View, ServiceError>| {
        matches!(end, Err(ServiceError::Sends(SendRefused::TooManyFromAddress { .. })))
    };
    assert_eq!((ends.iter().filter(|end| end.is_ok()).count(), ends.iter().filter(refused).count()), (5, 15));
}

async fn kinds(rig: &Rig, app: AppId) -> Vec<String> {
    let mut tx = rig.service.registry().begin().await.unwrap();
    tx.events_of(app, rig.now()).await.unwrap().into_iter().map(|event| event.kind).collect()
}

async fn an_event_is_there_with_what_happened_and_only_then(rig: Rig) {
    let (old, new) = (Phone::new(), Phone::new());
    let app = rig.active(&old).await;
    let mut stream = rig.service.stream(&rig.by(&old), None).await.unwrap();
    let view = rig.start(&new, &rig.grant(app, &old, &new)).await.unwrap();
    rig.service.user_id(&rig.by(&new), view.id, &"maria82".parse().unwrap()).await.unwrap();
    rig.send(&new, view.id).await.unwrap();
    let pin = rig.pin().await;
    let view = rig.service.temporary_pin(&rig.by(&new), view.id, &pin).await.unwrap();
    assert_eq!(kinds(&rig, app).await, [""; 0], "nothing has happened yet");
    let copy = rig.choose(&new, &view).await.unwrap().app;
    assert_eq!(kinds(&rig, app).await, ["app_activated"]);
    rig.service.notifications(&rig.by(&new), view.id, Some("push-token")).await.unwrap();
    assert_eq!(kinds(&rig, app).await, ["app_activated"], "a repeated step is no second event");
    // Another node finds it where it is.
    rig.service.feed_streams().await.unwrap();
    let heard = stream.next().await.unwrap();
    assert_eq!((heard.app, heard.kind.as_str()), (app, "app_activated"));
    rig.service.delete_app(&rig.by(&new), app).await.unwrap();
    rig.service.feed_streams().await.unwrap();
    assert_eq!(stream.next().await.unwrap().kind, "this_app_deleted");
    assert_eq!(kinds(&rig, copy).await, [""; 0], "who did it need not be told");
    // What was heard is not told again, unless it was so short ago that another one may have come before it.
    rig.pass(Duration::from_hours(1));
    let third = Phone::new();
    rig.copied(copy, &new, &third).await.unwrap();
    let mut again = rig.service.stream(&rig.by(&new), None).await.unwrap();
    let last = again.next().await.unwrap();
    drop(again);
    rig.pass(Duration::from_mins(1));
    rig.active(&Phone::new()).await;
    let mut again = rig.service.stream(&rig.by(&new), Some(&last.id)).await.unwrap();
    assert_ne!(again.next().await.unwrap().id, last.id);
    rig.pass(Duration::from_hours(24));
    assert_eq!(kinds(&rig, copy).await, [""; 0], "a day is over");
    rig.service.sweep().await.unwrap();
}

async fn a_report_is_written_down_with_the_sms_and_the_last_word_stays(rig: Rig) {
    use crate::activation::sms::delivery::{Report, Status};
    let phone = Phone::new();
    let view = rig.start(&phone, &rig.token_for("maria82", None)).await.unwrap();
    rig.send(&phone, view.id).await.unwrap();
    let maria = "maria82".parse().unwrap();
    let status = async || rig.service.user_on_file(&maria).await.unwrap().sends[0].status.clone();
    while status().await != "accepted" {
        tokio::task::yield_now().await;
    }
    let message_id = rig.outbox.newest_first()[0].message.key.to_string();
    for (word, expected) in
        [(Status::UnderWay, "under_way"), (Status::Delivered, "delivered"), (Status::UnderWay, "delivered")]
    {
        let report = Report { message_id: message_id.clone(), status: word };
        assert!(rig.service.report(0, &report).await.unwrap());
        assert_eq!(status().await, expected);
        assert!(!rig.service.report(1, &report).await.unwrap(), "the other gateway knows no such message");
    }
}

/// Registers this PIN in place of the one that the app has.
async fn replace(rig: &Rig, phone: &Phone, app: AppId, pin: &[u8]) -> Result<Vec<u8>, ServiceError> {
    let (registration, request) = Registration::start(pin, &mut rand::rng()).unwrap();
    let response = rig.service.new_pin_request(&rig.by(phone), app, &request).await?;
    let (setup, response) = response.split_first_chunk::<8>().unwrap();
    let upload = registration.finish(app.as_bytes(), response.try_into().unwrap(), &mut rand::rng()).unwrap();
    let upload = [&setup[..], &upload].concat();
    rig.service.replace_pin(&rig.by(phone), app, &upload).await.map(|()| upload)
}

#[tokio::test]
async fn an_app_that_was_just_opened_may_have_another_pin() {
    let rig = sqlite().await;
    let (phone, other) = (Phone::new(), Phone::new());
    let app = rig.active(&phone).await;
    let second = rig.active(&other).await;
    assert!(matches!(replace(&rig, &phone, app, b"830519").await, Err(ServiceError::NotUnlocked)));
    unlock(&rig, &phone, app, b"471108").await.unwrap();
    assert!(matches!(unlock(&rig, &phone, app, b"000000").await, Err(ServiceError::PinNotProven)));
    let after_a_wrong_one = replace(&rig, &phone, app, b"830519").await;
    assert!(matches!(after_a_wrong_one, Err(ServiceError::NotUnlocked)), "{after_a_wrong_one:?}");
    unlock(&rig, &phone, app, b"471108").await.unwrap();
    assert!(matches!(replace(&rig, &other, app, b"830519").await, Err(ServiceError::UnknownApp)));
    let upload = replace(&rig, &phone, app, b"830519").await.unwrap();
    rig.service.replace_pin(&rig.by(&phone), app, &upload).await.unwrap();
    assert_eq!(rig.trail().await.iter().filter(|what| *what == "personal_pin_replaced").count(), 1);
    assert!(kinds(&rig, second).await.contains(&"pin_replaced".to_owned()));
    assert!(matches!(unlock(&rig, &phone, app, b"471108").await, Err(ServiceError::PinNotProven)), "the old one");
    unlock(&rig, &phone, app, b"830519").await.unwrap();
    rig.pass(Duration::from_mins(5));
    assert!(matches!(replace(&rig, &phone, app, b"471108").await, Err(ServiceError::NotUnlocked)));
    rig.service.replace_pin(&rig.by(&phone), app, &upload).await.unwrap();
}

/// Asks for an SMS in place of a forgotten PIN, and reads it.
async fn reset_pin(rig: &Rig, phone: &Phone, app: AppId) -> TemporaryPin {
    let already = rig.outbox.newest_first().len();
    rig.service.send_reset_pin(&rig.by(phone), app, &PinRequest::default()).await.unwrap();
    while rig.outbox.newest_first().len() == already {
        tokio::task::yield_now().await;
    }
    rig.pin().await
}

#[tokio::test]
async fn a_forgotten_pin_is_replaced_after_an_sms_but_not_in_an_app_that_is_locked_for_good() {
    let rig = sqlite().await;
    let phone = Phone::new();
    let app = rig.active(&phone).await;
    rig.pass(Duration::from_mins(20));
    let wrong = TemporaryPin::random(&mut rand::rng());
    let early = rig.service.prove_reset_pin(&rig.by(&phone), app, &wrong).await;
    assert!(matches!(early, Err(ServiceError::Step(Refused::NoPin))));
    let pin = reset_pin(&rig, &phone, app).await;
    let refused = rig.service.prove_reset_pin(&rig.by(&phone), app, &wrong).await;
    assert!(matches!(refused, Err(ServiceError::Step(Refused::WrongPin { left: 4 }))), "{refused:?}");
    rig.service.prove_reset_pin(&rig.by(&phone), app, &pin).await.unwrap();
    rig.service.prove_reset_pin(&rig.by(&phone), app, &pin).await.unwrap();
    replace(&rig, &phone, app, b"830519").await.unwrap();
    let served = rig.service.prove_reset_pin(&rig.by(&phone), app, &pin).await;
    assert!(matches!(served, Err(ServiceError::Step(Refused::NoPin))), "it serves once: {served:?}");
    unlock(&rig, &phone, app, b"830519").await.unwrap();
    for _ in 1..6 {
        rig.pass(Duration::from_mins(20));
        reset_pin(&rig, &phone, app).await;
    }
    rig.pass(Duration::from_mins(20));
    let too_many = rig.service.send_reset_pin(&rig.by(&phone), app, &PinRequest::default()).await;
    assert!(matches!(too_many, Err(ServiceError::Sends(SendRefused::TooManyToNumber { .. }))), "{too_many:?}");
    for _ in 0..10 {
        rig.pass(Duration::from_hours(25));
        assert!(matches!(unlock(&rig, &phone, app, b"000000").await, Err(ServiceError::PinNotProven)));
    }
    let locked = rig.service.send_reset_pin(&rig.by(&phone), app, &PinRequest::default()).await;
    assert!(matches!(locked, Err(ServiceError::Locked(Locked::ForGood))), "{locked:?}");
}

#[tokio::test]
async fn an_audit_trail_is_read_page_by_page_also_of_a_user_who_was_erased() {
    let rig = sqlite().await;
    rig.active(&Phone::new()).await;
    let user = rig.put("maria82", "+4512345679").await;
    rig.service.erase_user(&"maria82".parse().unwrap()).await.unwrap();
    let (mut read, mut after) = (Vec::new(), 0);
    loop {
        let page = rig.service.audit(user, after, 4).await.unwrap();
        assert!(page.len() <= 4);
        let Some(last) = page.last() else { break };
        after = last.number;
        read.extend(page.into_iter().map(|entry| entry.what));
    }
    assert_eq!((read.first().unwrap().as_str(), read.len()), ("user_created", 9));
    assert_eq!(read[7..], ["number_changed", "user_erased"]);
}
