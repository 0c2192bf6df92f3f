use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::*;
use crate::activation::signature::Signed;
use crate::activation::test_server::{Does, Server};

fn clock() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_485_601)
}

fn event() -> Event {
    Event {
        id: IdempotencyKey::from_random([5; 16]),
        kind: EventKind::AppActivated,
        app: AppId::from_random([1; 16]),
        push_token: Zeroizing::new("a-push-token".to_owned()),
    }
}

fn settings(server: &Server) -> NotifySettings {
    let pauses = vec![Duration::from_millis(10); 3];
    let timeout = Duration::from_millis(300);
    NotifySettings { timeout, pauses, ..NotifySettings::new(server.url("/push"), SigningKey::new([3; 32])) }
}

fn notifier(settings: NotifySettings) -> Arc<Notifier> {
    Arc::new(Notifier::new(settings, https::client(None).unwrap(), clock).unwrap())
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
async fn what_failed_is_tried_again_with_the_same_id() {
    let script = vec![Does::answers(503, ""), Does::HangsUp, Does::Hangs, Does::answers(200, "")];
    let server = Server::that(script).await;
    assert_eq!(notifier(settings(&server)).tell(&event()).await, Told::Delivered);
    let asked = server.asked();
    assert_eq!(asked.len(), 4);
    assert!(asked.iter().all(|again| again.header("webhook-id") == asked[0].header("webhook-id")));
}

#[tokio::test]
async fn after_the_last_attempt_it_is_given_up() {
    let server = Server::that(vec![Does::answers(429, "")]).await;
    assert_eq!(notifier(settings(&server)).tell(&event()).await, Told::GivenUp);
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn what_the_push_service_refuses_is_not_tried_again() {
    for status in [400, 401, 404, 410] {
        let server = Server::that(vec![Does::answers(status, "")]).await;
        assert_eq!(notifier(settings(&server)).tell(&event()).await, Told::Refused);
        assert_eq!(server.asked().len(), 1);
    }
}

#[tokio::test]
async fn the_queue_is_bounded_and_draining_waits_for_it() {
    let server = Server::that(vec![Does::Waits(200, String::new())]).await;
    let settings = NotifySettings { under_way: 1, timeout: Duration::from_secs(20), ..settings(&server) };
    let notifier = notifier(settings);
    let (done, mut end) = oneshot::channel();
    notifier.dispatch(event(), move |told| done.send(told).unwrap()).unwrap();
    assert_eq!(notifier.dispatch(event(), |_| unreachable!()), Err(QueueFull));
    server.until_asked(1).await;
    let mut draining = Box::pin(notifier.drain());
    assert!(futures_util::poll!(&mut draining).is_pending());
    server.release(1);
    timeout(Duration::from_secs(20), draining).await.unwrap();
    assert_eq!(end.try_recv().unwrap(), Told::Delivered);
    assert_eq!(notifier.dispatch(event(), |_| unreachable!()), Err(QueueFull));
}

#[test]
fn an_address_without_tls_is_refused_at_start() {
    let settings = NotifySettings::new("http://push.example/".to_owned(), SigningKey::new([3; 32]));
    assert_eq!(Notifier::new(settings, https::client(None).unwrap(), clock).map(drop), Err(BadAddress));
}

#[test]
fn every_outcome_is_a_value_of_its_label() {
    let outcomes = [Told::Delivered, Told::Refused, Told::GivenUp].map(Told::label);
    assert_eq!([&outcomes[..], &["queue_full"]].concat(), telemetry::NOTIFY_OUTCOMES);
}

#[test]
fn no_token_and_no_key_shows_in_debug_output() {
    let settings = NotifySettings::new("https://push.example/a-secret-path".to_owned(), SigningKey::new([3; 32]));
    let shown = format!("{:?} {:?}", event(), notifier(settings));
    assert!(!shown.contains("a-push-token") && !shown.contains("a-secret-path"), "{shown}");
}
