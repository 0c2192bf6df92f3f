//! What is around the service: SMS gateways that fail over, lie and report, the webhook that is away, and open connections
//! over which apps hear of events.

use std::time::{Duration, SystemTime};

use actix_web::{App, HttpResponse, HttpServer, web};
use handoff_relay::activation::signature::SigningKey as ReportKey;
use tokio::sync::mpsc;

use super::story::{finish, on_file};
use super::*;

/// A server on loopback: answers with this status and body, and hands on what was posted.
fn server(status: u16, answer: &'static str) -> (String, mpsc::Receiver<Value>) {
    let (sender, receiver) = mpsc::channel(100);
    let app = move || {
        let sender = sender.clone();
        let take = move |body: web::Bytes| {
            let sender = sender.clone();
            async move {
                sender.try_send(serde_json::from_slice(&body).unwrap()).unwrap();
                HttpResponse::build(actix_web::http::StatusCode::from_u16(status).unwrap())
                    .content_type("application/json")
                    .body(answer)
            }
        };
        App::new().default_service(web::to(take))
    };
    let server = HttpServer::new(app).workers(1).disable_signals().bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", server.addrs()[0]);
    actix_web::rt::spawn(server.run());
    (address, receiver)
}

fn over_http(section: &str, address: &str) -> Vec<String> {
    let body = r#"{"to": "{to}", "text": "{text}"}"#;
    vec![format!("{section}.gateway=http"), format!("{section}.url={address}"), format!("{section}.body={body}")]
}

/// A person whose new app waits for a temporary PIN.
async fn waiting(place: &Place, phone: &Phone) -> (Value, String, String) {
    let (user, number) = on_file(phone, place).await;
    let start = json!({"enrolment_token": place.token(&user), "name": "Phone", "model": "Pixel 9"});
    let (status, view) = phone.ask(Method::POST, "/v1/activations", Some(start)).await.unwrap();
    assert_eq!(status, 201, "{view}");
    (view, user, number)
}

async fn look(phone: &Phone, place: &Place, user: &str) -> Value {
    let request = phone.client.post(format!("http://{}/v1/admin/users/look", phone.address));
    let request = request.bearer_auth(place.admin_token()).json(&json!({"user_id": user}));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

#[actix_web::test]
async fn a_gateway_that_lies_is_passed_over_and_the_second_one_reports() {
    let (liar, mut lied_to) = server(200, "all is well");
    let (second, mut sent) = server(200, r#"{"id": "message-1"}"#);
    let mut settings = over_http("sms", &liar);
    settings.extend(over_http("sms_second", &second));
    settings.push(format!("sms_second.report_key={}", URL_SAFE_NO_PAD.encode([3; 32])));
    let place = Place::new(None);
    let service = place.start_with(0, &settings);
    let phone = Phone::new(service.address());
    let (view, user, number) = waiting(&place, &phone).await;
    let path = format!("/v1/activations/{}/temporary-pin-sms", view["id"].as_str().unwrap());
    assert_eq!(phone.ask(Method::POST, &path, Some(json!({}))).await.unwrap().0, 200);
    let (lie, message) = (lied_to.recv().await.unwrap(), sent.recv().await.unwrap());
    assert_eq!((&lie, message["to"].as_str()), (&message, Some(number.as_str())));
    service.until_metric("handoff_sms_sends_total{outcome=\"sent\"}", 1.0).await;
    let report = async |path: &str, key: ReportKey, body: &'static str| {
        let signature = key.sign("an-id", SystemTime::now(), body.as_bytes());
        let request = phone.client.post(format!("http://{}/v1/sms/reports/{path}", phone.address)).body(body);
        let request = request.header("webhook-id", "an-id").header("webhook-timestamp", seconds().to_string());
        let answer = request.header("webhook-signature", signature).send().await.unwrap();
        let status = answer.status().as_u16();
        let problem: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default();
        (status, problem["code"].as_str().unwrap_or_default().to_owned())
    };
    let (right, wrong) = (|| ReportKey::new([3; 32]), || ReportKey::new([4; 32]));
    let delivered = r#"{"id": "message-1", "status": "delivered"}"#;
    assert_eq!(report("second", wrong(), delivered).await, (401, "report-forged".to_owned()));
    assert_eq!(report("first", right(), delivered).await, (404, "not-found".to_owned()), "it reports nothing");
    assert_eq!(report("second", right(), "{}").await, (400, "bad-report".to_owned()));
    assert_eq!(look(&phone, &place, &user).await["sms"][0]["status"], "accepted");
    assert_eq!(report("second", right(), delivered).await, (204, String::new()));
    assert_eq!(look(&phone, &place, &user).await["sms"][0]["status"], "delivered");
    service.until_metric("handoff_sms_deliveries_total{status=\"delivered\"}", 1.0).await;
    service.until_metric("handoff_sms_deliveries_total{status=\"forged\"}", 1.0).await;
    let log = service.log();
    for secret in [&user, &number, "message-1", "#"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

/// Another active app of the same person.
async fn another(place: &Place, address: SocketAddr, user: &str, number: &str) {
    let phone = Phone::new(address);
    let start = json!({"enrolment_token": place.token(user), "name": "Another", "model": "Pixel 9"});
    let (status, view) = phone.ask(Method::POST, "/v1/activations", Some(start)).await.unwrap();
    assert_eq!(status, 201, "{view}");
    finish(&phone, view, user, number).await;
}

async fn events_survive(place: Place) {
    // The webhook is away, and the process dies after it was asked to tell.
    let (away, mut asked) = server(503, "");
    let webhook = |address: &str| {
        let key = URL_SAFE_NO_PAD.encode([5; 32]);
        vec![format!("activation.webhook_url={address}"), format!("activation.webhook_key={key}")]
    };
    let service = place.start_with(0, &webhook(&away));
    let first = Phone::new(service.address());
    let (view, user, number) = waiting(&place, &first).await;
    let mut view = view;
    while view["due"] != "notifications" {
        view = first.step(&view, &user, &number).await.unwrap().1;
    }
    let path = format!("/v1/activations/{}/notifications", view["id"].as_str().unwrap());
    let (_, view) = first.ask(Method::PUT, &path, Some(json!({"push_token": "a-push-token"}))).await.unwrap();
    assert_eq!(view["due"], "active");
    another(&place, service.address(), &user, &number).await;
    let expected = json!({"type": "app_activated", "app": view["app"], "push_token": "a-push-token"});
    assert_eq!(asked.recv().await.unwrap(), expected);
    drop(service);
    let (back, mut told) = server(204, "");
    let service = place.start_with(0, &webhook(&back));
    let heard = tokio::time::timeout(Duration::from_secs(30), told.recv()).await.unwrap().unwrap();
    assert_eq!(heard, expected);
    service.until_metric("handoff_activation_notifications_total{outcome=\"delivered\"}", 1.0).await;
    // And over an open connection, what waited and what comes; on another node with the same database, too.
    let other_node = place.database.is_some().then(|| place.start(0));
    let node = other_node.as_ref().unwrap_or(&service);
    let url = format!("http://{}/v1/apps/events", node.address());
    let first = Phone { address: node.address(), ..first };
    let request = first.client.get(url).header("DPoP", first.proof("GET", "/v1/apps/events"));
    let answer = request.send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()),
        (200, "text/event-stream")
    );
    let mut parts = answer;
    let mut text = String::new();
    let mut until = async |count: usize| {
        while text.matches("event: app_activated\n").count() < count {
            let part = tokio::time::timeout(Duration::from_secs(30), parts.chunk()).await.unwrap().unwrap().unwrap();
            text.push_str(std::str::from_utf8(&part).unwrap());
        }
        text.clone()
    };
    until(1).await;
    another(&place, service.address(), &user, &number).await;
    let text = until(2).await;
    assert!(text.starts_with(": open\n\nid: ") && !text.contains(&user) && !text.contains("a-push-token"), "{text}");
    let stranger = Phone::new(node.address());
    let (status, problem) = stranger.ask(Method::GET, "/v1/apps/events", None).await.unwrap();
    assert_eq!((status.as_u16(), problem["code"].as_str()), (401, Some("unknown-device")));
    // The trail of all that, page by page.
    let found = look(&first, &place, &user).await;
    assert_eq!(found["apps"].as_array().unwrap().len(), 3);
    let path = format!("/v1/admin/users/{}/audit?limit=5", found["user"].as_str().unwrap());
    let request = first.client.get(format!("http://{}{path}", first.address));
    assert_eq!(request.try_clone().unwrap().send().await.unwrap().status(), 401);
    let page: Value = request.bearer_auth(place.admin_token()).send().await.unwrap().json().await.unwrap();
    assert_eq!(
        (page["entries"].as_array().unwrap().len(), page["entries"][0]["what"].as_str()),
        (5, Some("user_created"))
    );
    assert_eq!(page["next"], page["entries"][4]["entry"]);
}

#[actix_web::test]
async fn events_survive_the_process_and_the_webhook_with_a_file() {
    events_survive(Place::new(None)).await;
}

#[actix_web::test]
async fn events_survive_the_process_and_the_webhook_with_postgresql_on_any_node() {
    let server = postgres::Postgres::shared();
    events_survive(Place::new(Some(server.database()))).await;
}
