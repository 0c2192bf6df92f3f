use serde_json::{Value, json};

use super::*;
use crate::activation::signature::Signed;
use crate::activation::test_server::{Does, Server};

fn clock() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_485_601)
}

fn event() -> Event {
    Event {
        id: "05050505050505050505050505050505".to_owned(),
        kind: EventKind::AppActivated,
        app: AppId::from_random([1; 16]),
        push_token: Zeroizing::new("a-push-token".to_owned()),
    }
}

fn settings(server: &Server) -> NotifySettings {
    let timeout = Duration::from_millis(300);
    NotifySettings { timeout, ..NotifySettings::new(server.url("/push"), SigningKey::new([3; 32])) }
}

fn notifier(settings: NotifySettings) -> Notifier {
    Notifier::new(settings, https::client(None).unwrap(), clock).unwrap()
}

#[tokio::test]
async fn an_event_is_signed_and_says_nothing_personal() {
    let server = Server::that(vec![Does::answers(204, "")]).await;
    assert_eq!(notifier(settings(&server)).tell(&event()).await, Told::Delivered);
    let asked = &server.asked()[0];
    assert!(asked.head.starts_with("POST /push HTTP/1.1\r\n"));
    assert_eq!(asked.header("content-type"), Some("application/json"));
    let header = |name| asked.header(name).unwrap();
    let signed = Signed {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
    };
    assert_eq!((signed.id, signed.timestamp), ("05050505050505050505050505050505", "1795485601"));
    assert_eq!(SigningKey::new([3; 32]).verify(signed, asked.body.as_bytes(), clock()), Ok(()));
    let expected =
        json!({ "type": "app_activated", "app": "01010101-0101-4101-8101-010101010101", "push_token": "a-push-token" });
    assert_eq!(serde_json::from_str::<Value>(&asked.body).unwrap(), expected);
}

#[tokio::test]
async fn what_may_pass_another_time_has_failed() {
    let script =
        vec![Does::answers(503, ""), Does::answers(429, ""), Does::HangsUp, Does::Hangs, Does::answers(302, "")];
    let server = Server::that(script).await;
    let notifier = notifier(settings(&server));
    for _ in 0..5 {
        assert_eq!(notifier.tell(&event()).await, Told::Failed);
    }
    let asked = server.asked();
    assert!(asked.iter().all(|again| again.header("webhook-id") == asked[0].header("webhook-id")));
}

#[tokio::test]
async fn what_the_push_service_does_not_want_is_refused() {
    for status in [400, 401, 404, 410] {
        let server = Server::that(vec![Does::answers(status, "")]).await;
        assert_eq!(notifier(settings(&server)).tell(&event()).await, Told::Refused);
    }
}

#[test]
fn every_kind_has_the_name_that_it_has_in_json() {
    for kind in EventKind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        assert_eq!(EventKind::from_name(kind.as_str()), Some(kind));
    }
    assert_eq!(EventKind::from_name("nothing"), None);
}

#[test]
fn an_address_without_tls_is_refused_at_start() {
    let settings = NotifySettings::new("http://push.example/".to_owned(), SigningKey::new([3; 32]));
    assert_eq!(Notifier::new(settings, https::client(None).unwrap(), clock).map(drop), Err(BadAddress));
}

#[test]
fn every_outcome_is_a_value_of_its_label() {
    let outcomes = [Told::Delivered, Told::Refused, Told::Failed].map(Told::label);
    assert_eq!([&outcomes[..], &["expired"]].concat(), telemetry::NOTIFY_OUTCOMES);
}

#[test]
fn no_token_and_no_key_shows_in_debug_output() {
    let settings = NotifySettings::new("https://push.example/a-secret-path".to_owned(), SigningKey::new([3; 32]));
    let shown = format!("{:?} {:?}", event(), notifier(settings));
    assert!(!shown.contains("a-push-token") && !shown.contains("a-secret-path"), "{shown}");
}
