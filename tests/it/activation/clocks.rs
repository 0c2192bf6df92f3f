//! Clocks that are off: the device's in its proofs, the proofing system's in its tokens, the old app's in its grants. Both
//! ways, inside and outside what is tolerated, with room for a slow machine; the exact edges are unit tests.

use super::story::{TH2, finish, on_file};
use super::*;

impl Phone {
    /// A proof of a clock that is off by so many seconds.
    fn proof_of(&self, method: &str, path: &str, off: i64) -> String {
        let jti: u64 = rand::random();
        let claims = json!({"htm": method, "htu": format!("http://{}{path}", self.address),
                            "iat": seconds().checked_add_signed(off).unwrap(), "jti": jti.to_string()});
        jws(&json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk(&self.key)}), &claims, &self.key)
    }
}

#[tokio::test]
async fn a_proof_of_a_clock_that_is_off_by_less_than_five_minutes_counts() {
    let place = Place::new(None);
    let service = place.start(0);
    let phone = Phone::new(service.address());
    let (user, _) = on_file(&phone, &place).await;
    for (off, is_good) in [(-280, true), (280, true), (-320, false), (320, false), (-86_400, false), (86_400, false)] {
        let phone = Phone::new(service.address());
        let start = json!({"enrolment_token": place.token(&user), "name": "Phone", "model": "Pixel 9"});
        let url = format!("http://{}/v1/activations", service.address());
        let proof = phone.proof_of("POST", "/v1/activations", off);
        let answer = phone.client.post(url).header("DPoP", &proof).json(&start).send().await.unwrap();
        let (status, has_date) = (answer.status().as_u16(), answer.headers().contains_key("date"));
        let body: Value = answer.json().await.unwrap();
        let expected = if is_good { (201, None) } else { (401, Some("proof-time")) };
        assert_eq!((status, body["code"].as_str()), expected, "{off}");
        assert!(has_date, "a device sets its clock by it");
        // One from the future is remembered until its own time is over.
        if is_good {
            let (status, body) = phone.ask_with(&proof, Method::POST, "/v1/activations", Some(start)).await.unwrap();
            assert_eq!((status.as_u16(), body["code"].as_str()), (401, Some("proof-replayed")), "{off}");
        }
    }
}

#[tokio::test]
async fn a_token_of_a_clock_that_is_off_by_half_a_minute_counts_and_a_grant_by_a_minute() {
    let place = Place::new(None);
    let service = place.start(0);
    let old = Phone::new(service.address());
    let (user, number) = on_file(&old, &place).await;
    let at = |off: i64| seconds().checked_add_signed(off).unwrap();
    let token = |not_before: i64, expires: i64| {
        let jti: u64 = rand::random();
        let claims = json!({"sub": user, "aud": "handoff-activation", "nbf": at(not_before), "exp": at(expires),
                            "jti": jti.to_string()});
        jws(&json!({"alg": "ES256"}), &claims, &place.proofing)
    };
    let begin = async |body: Value| {
        let phone = Phone::new(service.address());
        let (status, answer) = phone.ask(Method::POST, "/v1/activations", Some(body)).await.unwrap();
        (status.as_u16(), answer["code"].as_str().unwrap_or_default().to_owned())
    };
    for (not_before, expires, status, code) in
        [(-600, -15, 201, ""), (15, 600, 201, ""), (-600, -45, 403, "grant-expired"), (45, 600, 403, "grant-invalid")]
    {
        let body = json!({"enrolment_token": token(not_before, expires), "name": "Phone", "model": "Pixel 9"});
        assert_eq!(begin(body).await, (status, code.to_owned()), "nbf {not_before}, exp {expires}");
    }
    let start = json!({"enrolment_token": token(0, 600), "name": "Old phone", "model": "Pixel 9"});
    let view = old.ask(Method::POST, "/v1/activations", Some(start)).await.unwrap().1;
    let app = finish(&old, view, &user, &number).await["app"].clone();
    for (issued, expires, status, code) in [
        (-200, -40, 201, ""),
        (40, 200, 201, ""),
        (-200, -80, 403, "grant-expired"),
        (80, 200, 403, "grant-invalid"),
        (0, 301, 403, "grant-invalid"),
    ] {
        let new = Phone::new(service.address());
        let jti: u64 = rand::random();
        let claims = json!({"cnf": {"jkt": new.thumbprint()}, "th2": TH2, "iat": at(issued), "exp": at(expires),
                            "jti": jti.to_string()});
        let grant = jws(&json!({"alg": "ES256", "typ": "handoff-copy+jwt", "kid": app}), &claims, &old.key);
        let start = json!({"copy_grant": grant, "th2": TH2, "name": "New phone", "model": "Pixel 9"});
        let (found, answer) = new.ask(Method::POST, "/v1/activations", Some(start)).await.unwrap();
        let found = (found.as_u16(), answer["code"].as_str().unwrap_or_default());
        assert_eq!(found, (status, code), "iat {issued}, exp {expires}");
    }
}
