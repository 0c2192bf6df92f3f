//! The personal PIN of an active app over HTTP: opening the app, another PIN after it was opened or when it is forgotten,
//! and a new setup of the server behind it.

use handoff_relay::activation::ids::AppId;
use handoff_relay::activation::personal_pin::PinServer;
use handoff_relay::opaque::client::{Login, Registration};

use super::story::{finish, on_file};
use super::*;

/// A phone with an active app.
pub(super) struct Active {
    pub(super) phone: Phone,
    pub(super) user: String,
    pub(super) number: String,
    app: String,
}

type Answer = (u16, Value);

fn message(bytes: &[u8]) -> Value {
    json!({"message": URL_SAFE_NO_PAD.encode(bytes)})
}

fn bytes(answer: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(answer["message"].as_str().unwrap()).unwrap()
}

impl Active {
    pub(super) async fn new(place: &Place, address: SocketAddr) -> Self {
        let phone = Phone::new(address);
        let (user, number) = on_file(&phone, place).await;
        let start = json!({"enrolment_token": place.token(&user), "name": "Phone", "model": "Pixel 9"});
        let (status, view) = phone.ask(Method::POST, "/v1/activations", Some(start)).await.unwrap();
        assert_eq!(status, 201, "{view}");
        let app = finish(&phone, view, &user, &number).await["app"].as_str().unwrap().to_owned();
        Self { phone, user, number, app }
    }

    fn id(&self) -> AppId {
        self.app.parse().unwrap()
    }

    fn path(&self, step: &str) -> String {
        format!("/v1/apps/{}/{step}", self.app)
    }

    async fn ask(&self, method: Method, step: &str, body: Value) -> Answer {
        let (status, answer) = self.phone.ask(method, &self.path(step), Some(body)).await.unwrap();
        (status.as_u16(), answer)
    }

    pub(super) async fn unlock(&self, pin: &str) -> Answer {
        let (login, ke1) = Login::start(pin.as_bytes(), &mut rand::rng()).unwrap();
        let (status, answer) = self.ask(Method::POST, "unlock", message(&ke1)).await;
        if status != 200 {
            return (status, answer);
        }
        let end = login.finish(self.id().as_bytes(), bytes(&answer).as_slice().try_into().unwrap(), &mut rand::rng());
        // An app that was typed a wrong PIN has nothing to send; somebody else's sends something.
        let ke3 = end.map_or([0; 32], |(ke3, _)| ke3);
        self.ask(Method::PUT, "unlock", message(&ke3)).await
    }

    /// Registers another PIN.
    pub(super) async fn replace(&self, pin: &str) -> Answer {
        let (registration, request) = Registration::start(pin.as_bytes(), &mut rand::rng()).unwrap();
        let (status, answer) = self.ask(Method::POST, "personal-pin-request", message(&request)).await;
        if status != 200 {
            return (status, answer);
        }
        let response = bytes(&answer);
        let (setup, response) = response.split_first_chunk::<8>().unwrap();
        let upload = registration.finish(self.id().as_bytes(), response.try_into().unwrap(), &mut rand::rng());
        self.ask(Method::PUT, "personal-pin", message(&[&setup[..], &upload.unwrap()].concat())).await
    }

    /// Asks for an SMS in place of a forgotten PIN, and reads it.
    pub(super) async fn reset_pin(&self) -> String {
        let (status, answer) = self.phone.sms(&self.path("temporary-pin-sms"), &self.number).await.unwrap();
        assert_eq!(status, 204, "{answer}");
        let already = self.phone.pins(&self.number).await.unwrap();
        let pins = async || self.phone.pins(&self.number).await.unwrap();
        // The first SMS was that of the activation.
        let pins = crate::support::eventually("SMS", pins, |pins| pins.len() > 1 && pins.len() >= already.len()).await;
        pins[0].clone()
    }
}

fn problem(answer: &Answer) -> (u16, &str) {
    (answer.0, answer.1["code"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn an_app_that_was_opened_may_have_another_pin_and_no_other_app_may() {
    let place = Place::new(None);
    let service = place.start(0);
    let app = Active::new(&place, service.address()).await;
    let other = Active::new(&place, service.address()).await;
    assert_eq!(problem(&app.replace("830519").await), (403, "unlock-needed"));
    assert_eq!(problem(&app.unlock("000000").await), (403, "wrong-personal-pin"));
    assert_eq!(problem(&app.replace("830519").await), (403, "unlock-needed"));
    assert_eq!(app.unlock(CHOSEN).await, (200, json!({"must_renew": false})));
    for (step, body) in [("personal-pin-request", message(&[2; 33])), ("temporary-pin-sms", json!({}))] {
        let (status, answer) = other.phone.ask(Method::POST, &app.path(step), Some(body)).await.unwrap();
        assert_eq!(problem(&(status.as_u16(), answer)), (404, "unknown-app"), "{step}");
    }
    let malformed = app.ask(Method::POST, "personal-pin-request", message(&[9; 33])).await;
    assert_eq!(problem(&malformed), (400, "bad-pin-message"));
    assert_eq!(problem(&app.ask(Method::PUT, "personal-pin", message(&[9; 200])).await), (400, "bad-pin-message"));
    assert_eq!(app.replace("830519").await.0, 204);
    assert_eq!(problem(&app.unlock(CHOSEN).await), (403, "wrong-personal-pin"));
    assert_eq!(app.unlock("830519").await.0, 200);
}

#[tokio::test]
async fn a_forgotten_pin_is_replaced_after_an_sms() {
    let place = Place::new(None);
    let service = place.start(0);
    let app = Active::new(&place, service.address()).await;
    let prove = async |pin: &str| app.ask(Method::PUT, "temporary-pin", json!({"pin": pin})).await;
    assert_eq!(problem(&prove("12345678").await), (409, "no-temporary-pin"));
    assert_eq!(problem(&prove("1234").await), (400, "bad-temporary-pin"));
    let pin = app.reset_pin().await;
    let wrong = if pin == "12345678" { "12345679" } else { "12345678" };
    let refused = prove(wrong).await;
    assert_eq!((problem(&refused), refused.1["tries_left"].as_u64()), ((403, "wrong-temporary-pin"), Some(4)));
    assert_eq!(problem(&app.replace("830519").await), (403, "unlock-needed"));
    assert_eq!(prove(&format!("{} {}", &pin[..4], &pin[4..])).await.0, 204);
    assert_eq!(prove(&pin).await.0, 204, "a phone repeats what was not answered");
    assert_eq!(app.replace("830519").await.0, 204);
    assert_eq!(problem(&prove(&pin).await), (409, "no-temporary-pin"), "it serves once");
    assert_eq!(app.unlock("830519").await.0, 200);
}

/// The whole plan of docs/activation.md, with restarts in between.
#[tokio::test]
async fn a_setup_is_rotated_without_losing_an_app() {
    let place = Place::new(None);
    let setups = place.data().join("pin.setups");
    let service = place.start(0);
    let address = service.address();
    let (mut renews, mut sleeps) = (Active::new(&place, address).await, Active::new(&place, address).await);
    drop(service);
    let old = std::fs::read_to_string(&setups).unwrap();
    let new = PinServer::generate_line(&mut rand::rng());
    std::fs::write(&setups, format!("{}\n{old}", new.trim())).unwrap();
    let service = place.start(address.port());
    // The connections of before are gone.
    for app in [&mut renews, &mut sleeps] {
        app.phone.client = https::client(None).unwrap();
    }
    assert_eq!(renews.unlock(CHOSEN).await, (200, json!({"must_renew": true})));
    assert_eq!(renews.replace(CHOSEN).await.0, 204);
    assert_eq!(renews.unlock(CHOSEN).await, (200, json!({"must_renew": false})));
    assert_eq!(sleeps.unlock(CHOSEN).await, (200, json!({"must_renew": true})));
    drop(service);
    std::fs::write(&setups, new.as_bytes()).unwrap();
    let _service = place.start(address.port());
    for app in [&mut renews, &mut sleeps] {
        app.phone.client = https::client(None).unwrap();
    }
    assert_eq!(renews.unlock(CHOSEN).await, (200, json!({"must_renew": false})));
    assert_eq!(problem(&sleeps.unlock(CHOSEN).await), (403, "pin-setup-gone"));
}
