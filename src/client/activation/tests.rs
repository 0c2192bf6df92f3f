use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::problem::Refusal;
use super::progress::{Question, View};
use super::proof::{proof, thumbprint};
use super::*;
use crate::activation::device_proof::{Request, check};
use crate::activation::http::problem::Kind;
use crate::crypto::DeviceKey;

const APP: &str = "6f9619ff-8b86-4d01-b42d-00c04fc964ff";
const ACTIVATION: &str = "9b2f6c1e-3a34-4c57-9d3a-5f0a3c1f2b11";

fn key() -> DeviceKey {
    DeviceKey::generate(&mut StdRng::seed_from_u64(7))
}

fn saved() -> SavedApp {
    let url = ServerUrl::parse("https://activation.example").unwrap();
    SavedApp::new(url, key(), ("Phone", "Pixel 9"), Beginning::enrolment("a.b.c".to_owned()))
}

fn view(due: &str, has_pin: bool) -> View {
    let ended = if due == "ended" { json!("expired") } else { Value::Null };
    let view = json!({
        "id": ACTIVATION, "due": due, "ended": ended, "expires_in_ms": 1000, "starts_in_ms": 250, "app": APP,
        "holder": "M*** H***", "number_ends": "78", "has_pin": has_pin,
    });
    serde_json::from_value(view).unwrap()
}

fn refusal(code: &str) -> Refusal {
    Refusal::read(409, None, json!({"code": code}).to_string().as_bytes())
}

fn at(due: &str, has_pin: bool) -> Progress {
    let mut progress = Progress::new(saved());
    progress.handle_view(view(due, has_pin));
    progress
}

#[test]
fn a_proof_holds_for_its_request_and_for_no_other() {
    let now = server::wall();
    let url = "https://activation.example:8443/v1/apps";
    let proof = proof(&key(), ("GET", url), now, [7; 16]);
    let request = |method, path| Request { method, path, host: "activation.example:8443", scheme: Some("https") };
    let checked = check(Some(&proof), &request("GET", "/v1/apps"), now).unwrap();
    assert_eq!(checked.device.to_string(), thumbprint(&key().public()));
    assert!(check(Some(&proof), &request("POST", "/v1/apps"), now).is_err());
    assert!(check(Some(&proof), &request("GET", "/v1/apps/events"), now).is_err());
}

#[test]
fn an_app_begins_with_its_token_and_then_asks_where_it_was() {
    let progress = Progress::new(saved());
    assert_eq!(progress.due(), None);
    let Some(Question::Start(body)) = progress.question() else { panic!("nothing is started") };
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body, json!({"enrolment_token": "a.b.c", "name": "Phone", "model": "Pixel 9"}));
    let progress = at("personal_pin", true);
    assert_eq!(progress.due(), Some(Due::PersonalPin));
    let killed = Progress::new(SavedApp::from_json(&progress.saved().to_json()).unwrap());
    assert_eq!(killed.due(), None, "the server may be further");
    assert_eq!(killed.question(), Some(Question::Look(ACTIVATION.parse().unwrap())));
    let active = Progress::new(SavedApp::from_json(&at("active", false).saved().to_json()).unwrap());
    assert_eq!((active.due(), active.question()), (Some(Due::Active), None));
    assert_eq!(active.saved().app(), Some(APP.parse().unwrap()));
}

#[test]
fn what_the_server_says_is_what_is_due() {
    for (due, has_pin, expected) in [
        ("waiting", false, Due::Wait(std::time::Duration::from_millis(250))),
        ("user_id", false, Due::UserId),
        ("temporary_pin", false, Due::TemporaryPinSms),
        ("temporary_pin", true, Due::TemporaryPin),
        ("personal_pin", true, Due::PersonalPin),
        ("biometrics", true, Due::Biometrics),
        ("notifications", true, Due::Notifications),
        ("active", true, Due::Active),
        ("ended", false, Due::Over(End::Expired)),
    ] {
        assert_eq!(at(due, has_pin).due(), Some(expected));
    }
    assert!(serde_json::from_value::<View>(json!({"due": "dance"})).is_err());
}

#[test]
fn a_temporary_pin_that_is_of_no_use_asks_for_another_sms() {
    for code in ["temporary-pin-expired", "temporary-pin-used-up", "no-temporary-pin"] {
        let mut progress = at("temporary_pin", true);
        progress.handle_refusal(&refusal(code));
        assert_eq!(progress.due(), Some(Due::TemporaryPinSms), "{code}");
        progress.handle_sms(view("temporary_pin", true));
        assert_eq!(progress.due(), Some(Due::TemporaryPin), "{code}");
    }
    let mut progress = at("temporary_pin", true);
    progress.handle_refusal(&refusal("wrong-temporary-pin"));
    assert_eq!(progress.due(), Some(Due::TemporaryPin), "the person types it again");
}

#[test]
fn who_is_told_that_another_step_is_due_asks_which() {
    for code in ["another-step-is-due", "step-done-otherwise", "activation-ended", "copy-waits"] {
        let mut progress = at("biometrics", true);
        progress.handle_refusal(&refusal(code));
        assert_eq!(progress.due(), None, "{code}");
    }
}

#[test]
fn a_saved_app_is_the_same_when_it_is_read_and_shows_no_secret() {
    let app = at("active", true).saved().clone();
    let json = app.to_json();
    let read = SavedApp::from_json(&json).unwrap();
    assert_eq!(read.to_json(), json);
    assert_eq!(read.key.public(), key().public());
    let secret = serde_json::from_slice::<Value>(&json).unwrap()["device_key"].as_str().unwrap().to_owned();
    let shown = format!("{app:?} {:?} {:?}", saved(), Progress::new(saved()));
    assert!(!shown.contains(&secret) && !shown.contains("a.b.c"), "{shown}");
}

#[test]
fn what_is_no_saved_app_is_named() {
    let json: Value = serde_json::from_slice(&saved().to_json()).unwrap();
    let with = |member: &str, value: Value| {
        let mut json = json.clone();
        json[member] = value;
        SavedApp::from_json(json.to_string().as_bytes()).unwrap_err()
    };
    assert_eq!(SavedApp::from_json(b"").unwrap_err(), BadSavedApp::Malformed);
    assert_eq!(SavedApp::from_json(b"{}").unwrap_err(), BadSavedApp::Malformed);
    assert_eq!(with("handoff_app", json!(2)), BadSavedApp::Newer);
    assert_eq!(with("device_key", json!("AAAA")), BadSavedApp::Key);
    assert_eq!(with("server", json!("http://example.com")), BadSavedApp::Server(BadServerUrl::Unencrypted));
    assert_eq!(with("stage", json!("flying")), BadSavedApp::Malformed);
}

#[test]
fn every_refusal_of_the_server_has_its_kind_but_those_of_the_administration() {
    let others = ["admin-token-wrong", "unknown-user", "bad-report", "report-forged"];
    let codes: Vec<&str> = Kind::ALL.iter().map(|kind| kind.code()).filter(|code| !others.contains(code)).collect();
    let known: Vec<&str> = RefusalKind::ALL.iter().map(|kind| kind.code()).collect();
    assert_eq!(known, codes);
    for code in codes {
        assert_eq!(refusal(code).kind.code(), code);
    }
}

#[test]
fn a_refusal_says_what_it_is_and_what_is_left() {
    let body = json!({"code": "wrong-temporary-pin", "title": "Wrong temporary PIN", "detail": "Not\u{1b}[31m it.",
                      "tries_left": 3, "retry_after_ms": 1500, "ended": "pins_used_up"});
    let refusal = Refusal::read(403, None, body.to_string().as_bytes());
    assert_eq!(
        refusal.to_string(),
        "Wrong temporary PIN. Not[31m it. Tries left: 3. It is over because the temporary PIN was wrong too often. \
         Try again in 2 s."
    );
    let proxy = Refusal::read(502, None, b"<html>");
    assert_eq!(proxy.to_string(), "The server is away: a gateway answers in its place, with status 502. Try again.");
    let proxy = Refusal::read(502, Some(std::time::Duration::from_secs(3)), b"<html>");
    assert_eq!(
        proxy.to_string(),
        "The server is away: a gateway answers in its place, with status 502. Try again in 3 s."
    );
}

mod over_the_network {
    use super::*;
    use crate::activation::test_server::{Asked, Does, Server as Fake};

    fn body(due: &str) -> String {
        json!({
            "id": ACTIVATION, "due": due, "ended": null, "expires_in_ms": 1000, "starts_in_ms": 0, "app": APP,
            "holder": "M*** H***", "number_ends": "78", "has_pin": true,
        })
        .to_string()
    }

    async fn at(script: Vec<Does>) -> (Fake, Activation) {
        let fake = Fake::that(script).await;
        let url = ServerUrl::parse(&fake.url("")).unwrap();
        let saved = SavedApp::new(url.clone(), key(), ("Phone", "Pixel 9"), Beginning::enrolment("a.b.c".to_owned()));
        (fake, Activation::new(Server::new(&url).unwrap(), saved))
    }

    fn lines(asked: &[Asked]) -> Vec<&str> {
        asked.iter().map(|asked| asked.head.lines().next().unwrap().split(" HTTP").next().unwrap()).collect()
    }

    #[tokio::test]
    async fn what_changes_nothing_the_second_time_is_repeated_with_a_proof_of_its_own() {
        let unavailable = Does::answers(503, r#"{"code": "registry-unavailable", "retry_after_ms": 100}"#);
        let script = vec![Does::HangsUp, Does::BreaksOff, unavailable, Does::answers(201, &body("biometrics"))];
        let (fake, mut activation) = at(script).await;
        assert_eq!(activation.due().await, Ok(Due::Biometrics));
        let asked = fake.asked();
        assert_eq!(lines(&asked), ["POST /v1/activations"; 4]);
        assert!(asked.iter().all(|again| again.body == asked[0].body && again.body.contains("a.b.c")));
        let proofs: std::collections::HashSet<_> = asked.iter().map(|asked| asked.header("dpop").unwrap()).collect();
        assert_eq!(proofs.len(), 4);
    }

    #[tokio::test]
    async fn a_try_whose_answer_is_lost_is_not_spent_twice_and_the_server_says_what_became_of_it() {
        let (begun, further) = (Does::answers(201, &body("temporary_pin")), Does::answers(200, &body("personal_pin")));
        let (fake, mut activation) = at(vec![begun, Does::BreaksOff, further]).await;
        assert_eq!(activation.due().await, Ok(Due::TemporaryPin));
        let lost = ActivationError::NoAnswer(NoAnswer::Broken);
        assert_eq!(activation.temporary_pin("1234 5678").await, Err(lost));
        assert_eq!(activation.due().await, Ok(Due::PersonalPin));
        let path = format!("/v1/activations/{ACTIVATION}");
        let expected = ["POST /v1/activations".to_owned(), format!("PUT {path}/temporary-pin"), format!("GET {path}")];
        assert_eq!(lines(&fake.asked()), expected);
    }

    #[tokio::test]
    async fn a_server_that_floods_or_talks_nonsense_is_not_understood() {
        for does in [Does::Floods, Does::answers(200, "{}"), Does::answers(200, "<html>")] {
            let (_fake, mut activation) = at(vec![does]).await;
            assert_eq!(activation.due().await, Err(ActivationError::NotUnderstood));
        }
    }

    #[tokio::test]
    async fn a_redirect_leads_nowhere() {
        let elsewhere = Does::Answers(307, "location: http://127.0.0.1:1/\r\n", String::new());
        let (fake, mut activation) = at(vec![elsewhere]).await;
        assert_eq!(activation.due().await.unwrap_err().refusal().map(|refusal| refusal.status), Some(307));
        assert_eq!(fake.asked().len(), 1);
    }
}

proptest! {
    #[test]
    fn no_answer_and_no_file_makes_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(Refusal::read(500, None, &bytes));
        prop_assert!(SavedApp::from_json(&bytes).is_err());
    }
}
