use super::*;
use crate::activation::sms::tests::message;
use crate::activation::test_server::{Does, Server};

fn gateway(server: &Server, settings: HttpGatewaySettings) -> HttpGateway {
    let address = server.url("/send");
    HttpGateway::new(HttpGatewaySettings { address, ..settings }, https::client(None).unwrap()).unwrap()
}

fn settings() -> HttpGatewaySettings {
    HttpGatewaySettings::gatewayapi("a-token", "e-ID", Some("https://eid.example/v1/sms/reports"))
}

async fn outcome(does: Does) -> Result<Accepted, GatewayError> {
    let server = Server::that(vec![does]).await;
    let outcome = gateway(&server, settings()).send(&message(1)).await;
    assert_eq!(server.asked().len(), 1, "a gateway tries once");
    outcome
}

#[tokio::test]
async fn gatewayapi_gets_json_with_the_number_as_a_number() {
    let server = Server::that(vec![Does::answers(200, r#"{"ids": [421332671], "usage": {}}"#)]).await;
    let accepted = gateway(&server, settings()).send(&message(1)).await.unwrap();
    assert_eq!(accepted.message_id, "421332671");
    let asked = &server.asked()[0];
    assert!(asked.head.starts_with("POST /send HTTP/1.1\r\n"), "{}", asked.head);
    assert_eq!(asked.header("authorization"), Some("Token a-token"));
    assert_eq!(asked.header("content-type"), Some("application/json"));
    let expected = json!({
        "sender": "e-ID",
        "message": message(1).text.expose(),
        "recipients": [{ "msisdn": 4_512_345_678_u64 }],
        "userref": "01010101010101010101010101010101",
        "validity_period": 300,
        "callback_url": "https://eid.example/v1/sms/reports",
    });
    assert_eq!(serde_json::from_str::<Value>(&asked.body).unwrap(), expected);
}

#[tokio::test]
async fn twilio_gets_a_form() {
    let server = Server::that(vec![Does::answers(201, r#"{"sid": "SM123", "status": "queued"}"#)]).await;
    let twilio = HttpGatewaySettings::twilio("AC1", "secret", "+4560000000", None);
    assert_eq!(twilio.address, "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages.json");
    let accepted = gateway(&server, twilio).send(&message(1)).await.unwrap();
    assert_eq!(accepted.message_id, "SM123");
    let asked = &server.asked()[0];
    let sent = message(1);
    // Python: base64.b64encode(b"AC1:secret")
    assert_eq!(asked.header("authorization"), Some("Basic QUMxOnNlY3JldA=="));
    assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
    let fields: Vec<_> = url::form_urlencoded::parse(asked.body.as_bytes()).into_owned().collect();
    let expected =
        [("To", "+4512345678"), ("From", "+4560000000"), ("Body", sent.text.expose()), ("ValidityPeriod", "300")];
    assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let Template::Form(fields) = HttpGatewaySettings::twilio("AC1", "s", "MG1", Some("https://a.example")).template
    else {
        panic!("a form")
    };
    let has = |name: &str, value: &str| fields.contains(&(name.to_owned(), value.to_owned()));
    assert!(has("MessagingServiceSid", "MG1") && has("StatusCallback", "https://a.example"));
}

#[tokio::test]
async fn the_idempotency_key_is_the_same_for_every_attempt_at_a_message() {
    let server = Server::that(vec![Does::answers(503, ""), Does::answers(200, r#"{"ids": ["a"]}"#)]).await;
    let header = Some("Idempotency-Key".to_owned());
    let gateway = gateway(&server, HttpGatewaySettings { idempotency_header: header, ..settings() });
    assert_eq!(gateway.send(&message(7)).await, Err(GatewayError::Failed(503)));
    assert!(gateway.send(&message(7)).await.is_ok());
    let keys: Vec<_> = server.asked().iter().map(|asked| asked.header("idempotency-key").unwrap().to_owned()).collect();
    assert_eq!(keys, [message(7).key.to_string(), message(7).key.to_string()]);
}

#[tokio::test]
async fn every_trouble_has_its_name() {
    let busy = Does::Answers(429, "retry-after: 7\r\n", String::new());
    let seven = Some(std::time::Duration::from_secs(7));
    assert_eq!(outcome(busy).await, Err(GatewayError::Busy { retry_after: seven }));
    assert_eq!(outcome(Does::answers(429, "")).await, Err(GatewayError::Busy { retry_after: None }));
    assert_eq!(outcome(Does::answers(500, "")).await, Err(GatewayError::Failed(500)));
    assert_eq!(outcome(Does::answers(408, "")).await, Err(GatewayError::TimedOut));
    for refused in [400, 401, 402, 403, 404, 422] {
        assert_eq!(outcome(Does::answers(refused, "")).await, Err(GatewayError::Refused(refused)));
    }
    assert_eq!(outcome(Does::HangsUp).await, Err(GatewayError::Unreachable));
}

#[tokio::test]
async fn a_gateway_that_lies_about_success_is_not_believed() {
    for lie in ["", "OK", "{}", r#"{"ids": []}"#, r#"{"ids": [null]}"#, r#"{"ids": [""]}"#, r#"{"ids": [{}]}"#] {
        assert_eq!(outcome(Does::answers(200, lie)).await, Err(GatewayError::Nonsense), "{lie}");
    }
    assert_eq!(outcome(Does::BreaksOff).await, Err(GatewayError::Nonsense));
    assert_eq!(outcome(Does::Floods).await, Err(GatewayError::Nonsense));
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_pin() {
    let elsewhere = Server::that(vec![Does::answers(200, r#"{"ids": [1]}"#)]).await;
    let location: &'static str = format!("location: {}\r\n", elsewhere.url("/")).leak();
    assert_eq!(outcome(Does::Answers(307, location, String::new())).await, Err(GatewayError::Refused(307)));
    assert_eq!(elsewhere.asked().len(), 0);
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let settings = HttpGatewaySettings { address, ..settings() };
    let gateway = HttpGateway::new(settings, https::client(None).unwrap()).unwrap();
    assert_eq!(gateway.send(&message(1)).await, Err(GatewayError::Unreachable));
}

#[test]
fn settings_that_cannot_work_are_refused_at_start() {
    let refused = |settings| HttpGateway::new(settings, https::client(None).unwrap()).map(drop).unwrap_err();
    let plain = HttpGatewaySettings { address: "http://api.example".to_owned(), ..settings() };
    assert_eq!(refused(plain), BadHttpGateway::Address(BadAddress));
    let header = HttpGatewaySettings { idempotency_header: Some("a b".to_owned()), ..settings() };
    assert_eq!(refused(header), BadHttpGateway::Header);
    let token = Credentials::Authorization(Zeroizing::new("a\nb".to_owned()));
    assert_eq!(refused(HttpGatewaySettings { credentials: token, ..settings() }), BadHttpGateway::Header);
    for template in [json!({}), json!({ "a": "{text}" }), json!({ "to": "{to}" })] {
        let settings = HttpGatewaySettings { template: Template::Json(template), ..settings() };
        assert_eq!(refused(settings), BadHttpGateway::Template);
    }
    let pointer = HttpGatewaySettings { message_id: "ids".to_owned(), ..settings() };
    assert_eq!(refused(pointer), BadHttpGateway::MessageId);
}

#[test]
fn nothing_in_a_text_is_taken_for_a_placeholder() {
    let values =
        Values(vec![("{key}", Zeroizing::new("KEY".to_owned())), ("{text}", Zeroizing::new("{key} {to}".to_owned()))]);
    assert_eq!(values.fill("{text} {key}"), "{key} {to} KEY");
}

#[test]
fn no_credential_shows_in_debug_output() {
    let gateway = HttpGateway::new(settings(), https::client(None).unwrap()).unwrap();
    let shown = format!("{gateway:?} {:?}", settings());
    assert!(!shown.contains("a-token") && shown.contains("gatewayapi.eu"), "{shown}");
}
