//! A whole run at the log level debug, searched for everything that names a person or opens anything.

use rustix::process::Signal;

use super::postgres::Postgres;
use super::renewal::Active;
use super::story::{TH2, finish};
use super::*;
use crate::secrets_in_logs::search::Secrets;

/// Both ways, a PIN that is forgotten and replaced, wrong PINs, a wrong user ID; then the log is searched.
async fn a_whole_run(place: Place, format: &str) {
    let more = ["log.filter=debug".to_owned(), format!("log.format={format}")];
    let mut service = place.start_with(0, &more);
    let mut secrets = Secrets::default();
    let app = Active::new(&place, service.address()).await;
    let old = &app.phone;
    let new = Phone::new(service.address());
    assert_eq!(app.unlock("000000").await.0, 403);
    assert_eq!(app.unlock(CHOSEN).await.0, 200);
    assert_eq!(app.replace("830519").await.0, 204);
    app.reset_pin().await;

    let (_, mine) = old.ask(Method::GET, "/v1/apps", None).await.unwrap();
    let claims =
        json!({"cnf": {"jkt": new.thumbprint()}, "th2": TH2, "iat": seconds(), "exp": seconds() + 300, "jti": "1"});
    let header = json!({"alg": "ES256", "typ": "handoff-copy+jwt", "kid": mine["apps"][0]["id"]});
    let grant = jws(&header, &claims, &old.key);
    let start = json!({"copy_grant": grant, "th2": TH2, "name": "Marias neues", "model": "Pixel 9"});
    let proof = new.proof("POST", "/v1/activations");
    let (status, view) = new.ask_with(&proof, Method::POST, "/v1/activations", Some(start)).await.unwrap();
    assert_eq!(status, 201, "{view}");
    let path = |step: &str| format!("/v1/activations/{}/{step}", view["id"].as_str().unwrap());
    for wrong in [json!({"user_id": "somebody-else"}), json!({"user_id": "x"}), json!("garbage-in-a-body")] {
        new.ask(Method::PUT, &path("user-id"), Some(wrong)).await.unwrap();
    }
    let view = finish(&new, view, &app.user, &app.number).await;
    assert_eq!(view["due"], "active");
    let token = place.token(&app.user);
    let wrong_token = json!({"enrolment_token": format!("{token}x"), "name": "Phone", "model": "Pixel 9"});
    new.ask(Method::POST, "/v1/activations", Some(wrong_token)).await.unwrap();
    new.ask_with(&proof, Method::GET, "/v1/apps", None).await.unwrap();
    let admin = place.admin_token();
    old.administer(&admin, "/v1/admin/users/erase", json!({"user_id": app.user})).await.unwrap();

    for pin in old.pins(&app.number).await.unwrap() {
        secrets.add("temporary PIN", &pin);
        secrets.add("temporary PIN", format!("{} {}", &pin[..4], &pin[4..]));
    }
    for pin in [CHOSEN, "830519"] {
        secrets.add("personal PIN", pin);
    }
    for (name, secret) in [
        ("user ID", app.user.as_str()),
        ("user ID", "somebody-else"),
        ("body", "garbage-in-a-body"),
        ("name", "Maria Hansen"),
        ("name", "Marias neues"),
        ("number", app.number.as_str()),
        ("number", &app.number[3..]),
        ("token", token.as_str()),
        ("grant", grant.as_str()),
        ("proof", proof.as_str()),
        ("admin token", admin.as_str()),
    ] {
        secrets.add(name, secret);
    }
    for phone in [old, &new] {
        secrets.add("device key", phone.key.to_bytes());
        secrets.add("thumbprint", phone.thumbprint());
    }
    let file = |name: &str| std::fs::read_to_string(place.data().join(name)).unwrap();
    secrets.add("registry key", file("registry.key").trim());
    secrets.add("registry key", URL_SAFE_NO_PAD.decode(file("registry.key").trim()).unwrap());
    for part in file("pin.setups").split_whitespace() {
        secrets.add("PIN setup", part);
    }
    assert!(secrets.len() >= 20, "{}", secrets.len());
    service.signal(Signal::TERM);
    assert_eq!(service.until_exit().await.code(), Some(0));
    let log = service.log();
    assert!(log.contains("DEBUG") && log.contains("an SMS was handed to a gateway"), "{log}");
    assert_eq!(secrets.found_in(&log), [""; 0]);
    // The search finds what is there.
    assert!(!secrets.found_in(&format!("{log} {}", app.number)).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debug_log_of_a_whole_run_with_a_file_names_nobody() {
    a_whole_run(Place::new(None), "json").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debug_log_of_a_whole_run_with_postgresql_names_nobody() {
    a_whole_run(Place::new(Some(Postgres::shared().database())), "text").await;
}
