//! A service with everything around it, and what phones do with it.

use std::sync::Mutex;

use p256::ecdsa::SigningKey;
use tempfile::NamedTempFile;

use super::*;
use crate::activation::device_proof::tests::device_key;
use crate::activation::grant::{EnrolmentKeys, EnrolmentSettings};
use crate::activation::ids::{DeviceKey, Thumbprint};
use crate::activation::personal_pin::PinServer;
use crate::activation::sms::outbox::Outbox;
use crate::activation::sms::sender::SenderSettings;

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
    pub(super) proofing: SigningKey,
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

    pub(super) fn now(&self) -> SystemTime {
        *self.clock.lock().unwrap()
    }

    pub(super) fn seconds(&self) -> u64 {
        self.now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
    }

    pub(super) fn pass(&self, time: Duration) {
        *self.clock.lock().unwrap() += time;
    }

    /// A new proof of this phone.
    pub(super) fn by(&self, phone: &Phone) -> Caller {
        let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string();
        let expires = self.now() + Duration::from_mins(5);
        let proof = Proof { key: phone.device(), device: phone.thumbprint(), id, expires };
        Caller { proof, address: Some("192.0.2.7".parse().unwrap()) }
    }

    pub(super) fn token_for(&self, user: &str, phone: Option<&Phone>) -> Start {
        let jti: u64 = rand::random();
        let mut claims = json!({"sub": user, "aud": "handoff-activation", "exp": self.seconds() + 600,
                                "jti": jti.to_string()});
        if let Some(phone) = phone {
            claims["cnf"] = json!({"jkt": phone.thumbprint()});
        }
        Start::Enrolment(jws(&json!({"alg": "ES256"}), &claims, &self.proofing).into())
    }

    pub(super) fn grant(&self, app: AppId, old: &Phone, new: &Phone) -> Start {
        let header = json!({"alg": "ES256", "typ": GRANT_TYPE, "kid": app});
        let jti: u64 = rand::random();
        let claims = json!({"cnf": {"jkt": new.thumbprint()}, "th2": TH2, "iat": self.seconds(),
                            "exp": self.seconds() + 300, "jti": jti.to_string()});
        Start::Copy { grant: jws(&header, &claims, &old.key).into(), transcript: TRANSCRIPT }
    }

    pub(super) async fn start(&self, phone: &Phone, start: &Start) -> Result<View, ServiceError> {
        let app = NewApp { name: "Maria's phone".to_owned().into(), model: "Pixel 9".to_owned().into() };
        self.service.start(&self.by(phone), start, &app).await
    }

    /// The PIN of the newest SMS.
    pub(super) async fn pin(&self) -> TemporaryPin {
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

    pub(super) async fn send(&self, phone: &Phone, id: ActivationId) -> Result<View, ServiceError> {
        let already = self.outbox.newest_first().len();
        let view = self.service.send_pin(&self.by(phone), id, &PinRequest::default()).await?;
        while self.outbox.newest_first().len() == already {
            tokio::task::yield_now().await;
        }
        Ok(view)
    }

    /// From the temporary PIN to the active app.
    pub(super) async fn finish(&self, phone: &Phone, id: ActivationId) -> Result<View, ServiceError> {
        self.send(phone, id).await?;
        let pin = self.pin().await;
        let view = self.service.temporary_pin(&self.by(phone), id, &pin).await?;
        self.choose(phone, &view).await
    }

    pub(super) async fn choose(&self, phone: &Phone, view: &View) -> Result<View, ServiceError> {
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
    pub(super) async fn active(&self, phone: &Phone) -> AppId {
        let view = self.start(phone, &self.token_for("maria82", Some(phone))).await.unwrap();
        self.finish(phone, view.id).await.unwrap().app
    }

    pub(super) async fn copied(&self, app: AppId, old: &Phone, new: &Phone) -> Result<View, ServiceError> {
        let view = self.start(new, &self.grant(app, old, new)).await?;
        let typed = "Maria82".parse().unwrap();
        let view = self.service.user_id(&self.by(new), view.id, &typed).await?;
        self.finish(new, view.id).await
    }

    pub(super) async fn trail(&self) -> Vec<String> {
        let mut tx = self.service.registry().begin().await.unwrap();
        let user = tx.lock_user_by_id(&"maria82".parse().unwrap()).await.unwrap().unwrap();
        tx.audit_of(user.key, 0, 1000).await.unwrap().into_iter().map(|entry| entry.what).collect()
    }
}
