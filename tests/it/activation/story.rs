//! Both ways from beginning to end, and the answers to what is wrong.

use std::path::Path;

use super::postgres::Postgres;
use super::{Method, Phone, Place, StatusCode, Value, json, jws, seconds};

pub(super) const TH2: &str = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk";

/// Takes steps until the app is active.
pub(super) async fn finish(phone: &Phone, mut view: Value, user: &str, number: &str) -> Value {
    for _ in 0..10 {
        if view["due"] == "active" {
            return view;
        }
        let (status, next) = phone.step(&view, user, number).await.unwrap();
        assert_eq!(status, 200, "{next}");
        view = next;
    }
    panic!("still {view}");
}

pub(super) async fn on_file(phone: &Phone, place: &Place) -> (String, String) {
    let (user, number) = place.person();
    let body = json!({"users": [{"user_id": user, "name": "Maria Hansen", "phone": number}]});
    let (status, answer) = phone.administer(&place.admin_token(), "/v1/admin/users", body).await.unwrap();
    assert_eq!((status, answer["created"].as_u64()), (StatusCode::OK, Some(1)), "{answer}");
    (user, number)
}

async fn both_ways(place: Place) {
    let service = place.start(0);
    let (old, new) = (Phone::new(service.address()), Phone::new(service.address()));
    let (user, number) = on_file(&old, &place).await;
    let start = json!({"enrolment_token": place.token(&user), "name": "Old phone", "model": "Pixel 9"});
    let (status, view) = old.ask(Method::POST, "/v1/activations", Some(start.clone())).await.unwrap();
    assert_eq!((status, view["due"].as_str()), (StatusCode::CREATED, Some("temporary_pin")), "{view}");
    let (status, again) = old.ask(Method::POST, "/v1/activations", Some(start)).await.unwrap();
    assert_eq!((status, &again["id"]), (StatusCode::CREATED, &view["id"]), "a phone repeats what was not answered");
    let first = finish(&old, view, &user, &number).await;
    let header = json!({"alg": "ES256", "typ": "handoff-copy+jwt", "kid": first["app"]});
    let claims =
        json!({"cnf": {"jkt": new.thumbprint()}, "th2": TH2, "iat": seconds(), "exp": seconds() + 300, "jti": "1"});
    let grant = jws(&header, &claims, &old.key);
    let start = json!({"copy_grant": grant, "th2": TH2, "name": "New phone", "model": "iPhone 20"});
    let (status, view) = new.ask(Method::POST, "/v1/activations", Some(start)).await.unwrap();
    assert_eq!((status, view["due"].as_str()), (StatusCode::CREATED, Some("user_id")), "{view}");
    assert_eq!((view["holder"].as_str(), view["number_ends"].as_str()), (Some("M*** H***"), Some(&number[9..])));
    let path = format!("/v1/activations/{}/biometrics", view["id"].as_str().unwrap());
    let (status, problem) = new.ask(Method::PUT, &path, Some(json!({"enabled": true}))).await.unwrap();
    assert_eq!((status, problem["code"].as_str()), (StatusCode::CONFLICT, Some("another-step-is-due")));
    assert_eq!(problem["due"], "user_id", "a step in the wrong order names the one that is due");
    finish(&new, view, &user, &number).await;
    let (_, mine) = new.ask(Method::GET, "/v1/apps", None).await.unwrap();
    let names: Vec<&str> = mine["apps"].as_array().unwrap().iter().map(|app| app["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Old phone", "New phone"]);
    let path = format!("/v1/apps/{}", first["app"].as_str().unwrap());
    let (status, _) = new.ask(Method::PATCH, &path, Some(json!({"name": "Backup"}))).await.unwrap();
    assert_eq!(status, 204);
    let (_, mine) = old.ask(Method::GET, "/v1/apps", None).await.unwrap();
    assert_eq!((mine["apps"][0]["name"].as_str(), mine["apps"][0]["is_this"].as_bool()), (Some("Backup"), Some(true)));
    assert_eq!(new.ask(Method::DELETE, &path, None).await.unwrap().0, 204);
    let (status, problem) = old.ask(Method::GET, "/v1/apps", None).await.unwrap();
    assert_eq!((status, problem["code"].as_str()), (StatusCode::UNAUTHORIZED, Some("unknown-device")));
    nothing_personal_is_logged(&service.log(), &[&user, &number, "Maria", "phone\"", &grant]);
}

fn nothing_personal_is_logged(log: &str, secrets: &[&str]) {
    assert!(log.contains("activation is served"), "{log}");
    for secret in secrets {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ways_go_from_beginning_to_end_with_a_file() {
    both_ways(Place::new(None)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ways_go_from_beginning_to_end_with_postgresql() {
    let server = Postgres::shared();
    both_ways(Place::new(Some(server.database()))).await;
    assert!(is_anywhere(server.folder(), "app_activated"), "the search finds what is there");
    for secret in ["person00000", "+4520000000", "Maria Hansen", "iPhone 20"] {
        assert!(!is_anywhere(server.folder(), secret), "{secret} is in the database's files");
    }
}

/// Whether any file below holds this text.
fn is_anywhere(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return is_anywhere(&path, text);
        }
        // Sockets, and files that are gone by now.
        String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).contains(text)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_has_a_problem_of_its_own() {
    let place = Place::new(None);
    let service = place.start(0);
    let phone = Phone::new(service.address());
    let (user, number) = on_file(&phone, &place).await;
    let start = json!({"enrolment_token": place.token(&user), "name": "Phone", "model": "Pixel 9"});
    let code = async |proof: &str, body: Value| {
        let (status, problem) = phone.ask_with(proof, Method::POST, "/v1/activations", Some(body)).await.unwrap();
        (status.as_u16(), problem["code"].as_str().unwrap_or_default().to_owned())
    };
    let proof = || phone.proof("POST", "/v1/activations");
    assert_eq!(code("nothing", start.clone()).await, (401, "proof-invalid".to_owned()));
    assert_eq!(code(&phone.proof("PUT", "/v1/activations"), start.clone()).await, (401, "proof-invalid".to_owned()));
    for body in [json!({}), json!([]), json!({"name": "a", "model": "b"}), json!({"name": "", "model": "b", "x": 1})] {
        assert_eq!(code(&proof(), body).await, (400, "bad-body".to_owned()));
    }
    let huge = json!({"enrolment_token": "a".repeat(20_000), "name": "a", "model": "b"});
    assert_eq!(code(&proof(), huge).await, (400, "bad-body".to_owned()));
    let stranger = json!({"enrolment_token": place.token("stranger"), "name": "a", "model": "b"});
    assert_eq!(code(&proof(), stranger).await, (403, "not-on-file".to_owned()));
    let shown = proof();
    assert_eq!(code(&shown, start.clone()).await, (201, String::new()));
    assert_eq!(code(&shown, start.clone()).await, (401, "proof-replayed".to_owned()));
    let thief = Phone::new(service.address());
    let (status, problem) = thief.ask(Method::POST, "/v1/activations", Some(start)).await.unwrap();
    assert_eq!((status.as_u16(), problem["code"].as_str()), (403, Some("grant-used")));
    for path in ["/v1/activations", "/v1/apps/x/y", "/v1/admin", "/v1/activations/a/b/c"] {
        let (status, problem) = phone.ask(Method::GET, path, None).await.unwrap();
        assert_eq!((status.as_u16(), problem["code"].as_str()), (404, Some("not-found")), "{path}");
    }
    let wrong = phone.administer("wrong", "/v1/admin/users/erase", json!({"user_id": user})).await.unwrap();
    assert_eq!((wrong.0.as_u16(), wrong.1["code"].as_str()), (401, Some("admin-token-wrong")));
    let gone = phone.administer(&place.admin_token(), "/v1/admin/users/erase", json!({"user_id": user})).await.unwrap();
    assert_eq!(gone.0, 204);
    nothing_personal_is_logged(&service.log(), &[&user, &number]);
}
