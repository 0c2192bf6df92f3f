//! Abuse, over HTTP against the real binary: guesses from many addresses, pumped SMS, one app too many, two activations at
//! once, an old app that is deleted in the middle, gateways that are down or say nothing, probing for user IDs.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::net::TcpListener;

use super::postgres::Postgres;
use super::story::{TH2, finish, on_file};
use super::*;
use crate::support::eventually;

/// Behind a proxy that says where a request comes from.
const PROXIED: &str = "server.trusted_proxies=127.0.0.1";

impl Phone {
    /// A request from another address.
    async fn ask_from(&self, from: &str, method: Method, path: &str, body: Value) -> (u16, Value) {
        let proof = self.proof(method.as_str(), path);
        let request = self.client.request(method, format!("http://{}{path}", self.address)).header("DPoP", proof);
        let answer = request.header("X-Forwarded-For", from).json(&body).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null))
    }

    async fn begin(&self, place: &Place, user: &str) -> (u16, Value) {
        let start = json!({"enrolment_token": place.token(user), "name": "Phone", "model": "Pixel 9"});
        let (status, view) = self.ask(Method::POST, "/v1/activations", Some(start)).await.unwrap();
        (status.as_u16(), view)
    }

    /// Begins a copy that this app grants.
    async fn copy_to(&self, new: &Phone, app: &Value) -> (u16, Value) {
        let jti: u64 = rand::random();
        let claims = json!({"cnf": {"jkt": new.thumbprint()}, "th2": TH2, "iat": seconds(), "exp": seconds() + 300,
                            "jti": jti.to_string()});
        let grant = jws(&json!({"alg": "ES256", "typ": "handoff-copy+jwt", "kid": app}), &claims, &self.key);
        let start = json!({"copy_grant": grant, "th2": TH2, "name": "New phone", "model": "Pixel 9"});
        let (status, view) = new.ask(Method::POST, "/v1/activations", Some(start)).await.unwrap();
        (status.as_u16(), view)
    }
}

fn step(view: &Value, name: &str) -> String {
    format!("/v1/activations/{}/{name}", view["id"].as_str().unwrap())
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["code"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn guesses_of_a_pin_from_many_addresses_are_counted_together() {
    let place = Place::new(None);
    let service = place.start_with(0, &[PROXIED.to_owned()]);
    let phone = Phone::new(service.address());
    let (user, number) = on_file(&phone, &place).await;
    let (_, view) = phone.begin(&place, &user).await;
    let mut address = 0..;
    let mut from = || format!("198.51.100.{}", address.next().unwrap());
    for sms in 1..=3 {
        phone.sms(&step(&view, "temporary-pin-sms"), &number).await.unwrap();
        let pin = phone.pins(&number).await.unwrap()[0].clone();
        let wrong = if pin == "12345678" { "12345679" } else { "12345678" };
        for left in (0..5).rev() {
            let path = step(&view, "temporary-pin");
            let refused = phone.ask_from(&from(), Method::PUT, &path, json!({"pin": wrong})).await;
            let is_as_expected = code(&refused) == (403, "wrong-temporary-pin") && refused.1["tries_left"] == left;
            assert!(is_as_expected, "SMS {sms}, {left} left: {refused:?}");
        }
        let path = step(&view, "temporary-pin");
        let right = phone.ask_from(&from(), Method::PUT, &path, json!({"pin": pin})).await;
        assert_eq!(code(&right), (403, "temporary-pin-used-up"), "the right one comes too late");
    }
    let more = phone.ask_from(&from(), Method::POST, &step(&view, "temporary-pin-sms"), json!({})).await;
    assert_eq!(code(&more), (429, "too-many-sms"));
    service.until_metric("handoff_pin_temporary_tries_total{outcome=\"wrong\"}", 15.0).await;
    service.until_metric("handoff_pin_temporary_tries_total{outcome=\"used_up\"}", 3.0).await;
}

async fn pumped_sms_are_capped(place: Place) {
    let limits = ["sms.most_per_address=5".to_owned(), "sms.most_in_all=8".to_owned(), PROXIED.to_owned()];
    let service = place.start_with(0, &limits);
    let administrator = Phone::new(service.address());
    let pump = async |from: &str| {
        let phone = Phone::new(service.address());
        let (user, _) = on_file(&administrator, &place).await;
        let (status, view) = phone.begin(&place, &user).await;
        assert_eq!(status, 201);
        let answer = phone.ask_from(from, Method::POST, &step(&view, "temporary-pin-sms"), json!({})).await;
        (answer.0, answer.1["code"].as_str().unwrap_or_default().to_owned())
    };
    // Many numbers from one address, one of each.
    let mut answers = Vec::new();
    for _ in 0..9 {
        answers.push(pump("203.0.113.7").await);
    }
    let (ok, per_address) = ((200, String::new()), (429, "too-many-sms".to_owned()));
    assert_eq!(answers, [vec![ok.clone(); 5], vec![per_address; 4]].concat());
    // The rest of the world, all at once.
    let sources: Vec<String> = (0..10).map(|number| format!("198.51.100.{number}")).collect();
    let answers = join_all(sources.iter().map(|source| pump(source))).await;
    assert_eq!(answers.iter().filter(|answer| **answer == ok).count(), 3, "{answers:?}");
    let overloaded = (503, "sms-overloaded".to_owned());
    assert_eq!(answers.iter().filter(|answer| **answer == overloaded).count(), 7, "{answers:?}");
    for (series, value) in [
        ("handoff_sms_sends_total{outcome=\"sent\"}", 8.0),
        ("handoff_sms_refused_total{rule=\"per_address\"}", 4.0),
        ("handoff_sms_refused_total{rule=\"in_all\"}", 7.0),
    ] {
        service.until_metric(series, value).await;
    }
    let url = format!("http://{}/dev/outbox.json", service.address());
    let outbox: Value = administrator.client.get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(outbox["messages"].as_array().unwrap().len(), 8, "no more has gone out");
}

#[tokio::test]
async fn pumped_sms_are_capped_and_counted_with_a_file() {
    pumped_sms_are_capped(Place::new(None)).await;
}

#[tokio::test]
async fn pumped_sms_are_capped_and_counted_with_postgresql() {
    pumped_sms_are_capped(Place::new(Some(Postgres::shared().database()))).await;
}

#[tokio::test]
async fn many_sms_to_one_number_are_capped_and_counted() {
    let place = Place::new(None);
    let service = place.start(0);
    let phone = Phone::new(service.address());
    let (user, number) = on_file(&phone, &place).await;
    let mut refused = 0;
    for _ in 0..3 {
        // A new activation gives no more of them.
        let phone = Phone::new(service.address());
        let (_, view) = phone.begin(&place, &user).await;
        for _ in 0..2 {
            let (status, _) = phone.sms(&step(&view, "temporary-pin-sms"), &number).await.unwrap();
            refused += u32::from(status == 429);
        }
    }
    assert_eq!((refused, phone.pins(&number).await.unwrap().len()), (3, 3));
    service.until_metric("handoff_sms_refused_total{rule=\"per_number\"}", 3.0).await;
}

#[tokio::test]
async fn a_fourth_app_is_refused_until_another_one_is_deleted() {
    let place = Place::new(None);
    let service = place.start(0);
    let first = Phone::new(service.address());
    let (user, number) = on_file(&first, &place).await;
    let mut apps = Vec::new();
    for number_of in 0..3 {
        // Each gets one SMS: three in a quarter of an hour.
        let phone = if number_of == 0 { None } else { Some(Phone::new(service.address())) };
        let phone = phone.as_ref().unwrap_or(&first);
        let (_, view) = phone.begin(&place, &user).await;
        apps.push(finish(phone, view, &user, &number).await["app"].as_str().unwrap().to_owned());
    }
    let fourth = Phone::new(service.address());
    assert_eq!(code(&fourth.begin(&place, &user).await), (409, "too-many-apps"));
    let copied = first.copy_to(&fourth, &json!(apps[0])).await;
    assert_eq!(code(&copied), (409, "too-many-apps"));
    assert_eq!(first.ask(Method::DELETE, &format!("/v1/apps/{}", apps[1]), None).await.unwrap().0, 204);
    assert_eq!(fourth.begin(&place, &user).await.0, 201);
}

async fn two_at_once(place: Place) {
    let service = place.start_with(0, &["activation.most_apps=1".to_owned()]);
    let administrator = Phone::new(service.address());
    let (user, number) = on_file(&administrator, &place).await;
    let phones = [Phone::new(service.address()), Phone::new(service.address())];
    let mut last = Vec::new();
    for phone in &phones {
        let (status, mut view) = phone.begin(&place, &user).await;
        assert_eq!(status, 201, "{view}");
        while view["due"] != "notifications" {
            let (status, next) = phone.step(&view, &user, &number).await.unwrap();
            assert_eq!(status, 200, "{next}");
            view = next;
        }
        last.push((phone, step(&view, "notifications")));
    }
    // Each asks twice, as a phone whose answer got lost.
    let asks =
        last.iter().chain(&last).map(|(phone, path)| phone.ask(Method::PUT, path, Some(json!({"push_token": null}))));
    let answers: Vec<_> = join_all(asks).await.into_iter().map(|answer| answer.unwrap()).collect();
    let active: Vec<usize> = (0..4).filter(|at| answers[*at].0 == 200).map(|at| at % 2).collect();
    assert!(active.len() == 2 && active[0] == active[1], "one of them, twice: {answers:?}");
    let refused = answers.iter().filter(|(status, body)| *status == 409 && body["code"] == "too-many-apps");
    assert_eq!(refused.count(), 2, "{answers:?}");
    let winner = last[active[0]].0;
    let (_, mine) = winner.ask(Method::GET, "/v1/apps", None).await.unwrap();
    assert_eq!(mine["apps"].as_array().unwrap().len(), 1, "{mine}");
}

#[tokio::test]
async fn of_two_activations_at_once_one_takes_the_last_place_with_a_file() {
    two_at_once(Place::new(None)).await;
}

#[tokio::test]
async fn of_two_activations_at_once_one_takes_the_last_place_with_postgresql() {
    two_at_once(Place::new(Some(Postgres::shared().database()))).await;
}

#[tokio::test]
async fn a_copy_ends_when_the_app_that_granted_it_is_deleted_in_the_middle() {
    let place = Place::new(None);
    let service = place.start(0);
    let (old, new, late) =
        (Phone::new(service.address()), Phone::new(service.address()), Phone::new(service.address()));
    let (user, number) = on_file(&old, &place).await;
    let (_, view) = old.begin(&place, &user).await;
    let app = finish(&old, view, &user, &number).await["app"].clone();
    let (status, mut view) = old.copy_to(&new, &app).await;
    assert_eq!(status, 201, "{view}");
    while view["due"] != "biometrics" {
        view = new.step(&view, &user, &number).await.unwrap().1;
    }
    let path = format!("/v1/apps/{}", app.as_str().unwrap());
    assert_eq!(old.ask(Method::DELETE, &path, None).await.unwrap().0, 204);
    for _ in 0..2 {
        let (status, problem) = new.step(&view, &user, &number).await.unwrap();
        assert_eq!((status.as_u16(), problem["code"].as_str()), (410, Some("activation-ended")));
        assert_eq!(problem["ended"], "grantor_gone");
    }
    assert_eq!(code(&old.copy_to(&late, &app).await), (403, "grantor-not-active"));
    service.until_metric("handoff_activation_ends_total{reason=\"grantor_gone\"}", 1.0).await;
}

/// Settings of a gateway at this address.
fn gateway(address: SocketAddr) -> Vec<String> {
    let body = r#"{"to": "{to}", "text": "{text}"}"#;
    vec!["sms.gateway=http".to_owned(), format!("sms.url=http://{address}/"), format!("sms.body={body}")]
}

#[tokio::test]
async fn a_gateway_that_is_down_fails_the_sms_and_not_the_activation() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let place = Place::new(None);
    let service = place.start_with(0, &gateway(address));
    let phone = Phone::new(service.address());
    let (user, _) = on_file(&phone, &place).await;
    let (_, view) = phone.begin(&place, &user).await;
    let (status, view) = phone.ask(Method::POST, &step(&view, "temporary-pin-sms"), Some(json!({}))).await.unwrap();
    assert_eq!((status.as_u16(), view["has_pin"].as_bool()), (200, Some(true)), "the answer waits for no gateway");
    service.until_metric("handoff_sms_sends_total{outcome=\"failed\"}", 1.0).await;
    assert!(
        service.metrics().await.sum("handoff_sms_attempts_total{gateway=\"preferred\",outcome=\"unreachable\"}") > 2.5
    );
    let look = async || {
        let request = phone.client.post(format!("http://{}/v1/admin/users/look", phone.address));
        let request = request.bearer_auth(place.admin_token()).json(&json!({"user_id": user}));
        request.send().await.unwrap().json::<Value>().await.unwrap()["sms"][0]["status"].clone()
    };
    eventually("written down", look, |status| status == "failed").await;
    let path = format!("/v1/activations/{}", view["id"].as_str().unwrap());
    let (status, view) = phone.ask(Method::GET, &path, None).await.unwrap();
    assert_eq!((status.as_u16(), view["due"].as_str()), (200, Some("temporary_pin")));
}

/// It takes every connection and never answers: whatever is answered meanwhile has not waited for it.
#[tokio::test]
async fn a_gateway_that_never_answers_holds_nobody_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = Place::new(None);
    let service = place.start_with(0, &gateway(silent.local_addr().unwrap()));
    let administrator = Phone::new(service.address());
    let mut waiting = Vec::new();
    for _ in 0..30 {
        let phone = Phone::new(service.address());
        let (user, _) = on_file(&administrator, &place).await;
        let (_, view) = phone.begin(&place, &user).await;
        waiting.push((phone, view));
    }
    let asks = waiting.iter().map(|(phone, view)| async move {
        let sms = phone.ask(Method::POST, &step(view, "temporary-pin-sms"), Some(json!({}))).await.unwrap();
        let wrong =
            phone.ask(Method::PUT, &step(view, "temporary-pin"), Some(json!({"pin": "00000000"}))).await.unwrap();
        (sms.0.as_u16(), wrong.1["code"].as_str().unwrap_or_default().to_owned())
    });
    for answer in join_all(asks).await {
        assert_eq!(answer, (200, "wrong-temporary-pin".to_owned()));
    }
    let metrics = service.metrics().await;
    assert!(metrics.sum("handoff_sms_under_way") > 29.5, "none of them was answered by the gateway meanwhile");
    drop(silent);
}

/// How many tries of each kind are measured.
const PROBES: usize = 300;

/// A user ID that is on file is not looked up, so that it is refused like one that is not: same body, same work.
#[tokio::test]
async fn a_user_id_that_is_on_file_is_refused_like_one_that_is_not() {
    let place = Place::new(None);
    let service = place.start(0);
    let old = Phone::new(service.address());
    let (user, number) = on_file(&old, &place).await;
    let (known, _) = on_file(&old, &place).await;
    let (_, view) = old.begin(&place, &user).await;
    let app = finish(&old, view, &user, &number).await["app"].clone();
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..PROBES / 2 {
        let new = Phone::new(service.address());
        let (_, view) = old.copy_to(&new, &app).await;
        let mut bodies = Vec::new();
        for (at, left) in [4, 3, 2, 1].into_iter().enumerate() {
            // Taking turns in who is first, so that a drift of the machine is nobody's.
            let kind = (at + round) % 2;
            let typed = if kind == 0 { known.as_str() } else { "nobody00001" };
            let proof = new.proof("PUT", &step(&view, "user-id"));
            let started = Instant::now();
            let (status, mut problem) = new
                .ask_with(&proof, Method::PUT, &step(&view, "user-id"), Some(json!({"user_id": typed})))
                .await
                .unwrap();
            times[kind].push(started.elapsed());
            assert_eq!((status.as_u16(), problem["tries_left"].as_u64()), (403, Some(left)));
            problem["tries_left"].take();
            bodies.push(problem);
        }
        assert!(bodies.windows(2).all(|two| two[0] == two[1]), "{bodies:?}");
    }
    let quantile = |times: &mut Vec<Duration>, of: usize| {
        times.sort();
        times[times.len() * of / 100]
    };
    let [known, unknown] = times.each_mut().map(|times| [25, 50, 75].map(|of| quantile(times, of)));
    println!("user IDs, quartiles of {PROBES} tries each: on file {known:?}, not on file {unknown:?}");
}
