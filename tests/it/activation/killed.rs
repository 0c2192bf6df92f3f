//! A service that is killed at random moments while people activate apps: nothing that was answered is lost, and nothing
//! is half done.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::future::join_all;
use rand::RngExt as _;
use sqlx::Row as _;

use super::postgres::Postgres;
use super::*;

/// Kills, unless `HANDOFF_TEST_KILLS` says another number.
const KILLS: u32 = 15;

/// People who activate at the same time.
const PEOPLE: usize = 6;

/// The order of the steps.
const STEPS: [&str; 5] = ["temporary_pin", "personal_pin", "biometrics", "notifications", "active"];

fn place_of(due: &Value) -> usize {
    STEPS.iter().position(|step| *step == due.as_str().unwrap()).unwrap_or_else(|| panic!("{due}"))
}

/// Repeats a request until it is answered, like a phone that the network fails.
async fn answered<T>(mut ask: impl AsyncFnMut() -> Result<T, reqwest::Error>) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            // The service is down, and comes back.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// One person after the other, until it is over. Returns how many apps were active in the end.
async fn activate_again_and_again(place: &Place, address: SocketAddr, over: &AtomicBool) -> usize {
    let mut active = 0;
    while !over.load(Ordering::Relaxed) {
        let (user, number) = place.person();
        let phone = Phone::new(address);
        let on_file = json!({"users": [{"user_id": user, "name": "Maria Hansen", "phone": number}]});
        let token = place.admin_token();
        let (status, answer) =
            answered(async || phone.administer(&token, "/v1/admin/users", on_file.clone()).await).await;
        assert_eq!(status, 200, "{answer}");
        let start = json!({"enrolment_token": place.token(&user), "name": "Phone", "model": "Pixel 9"});
        let ask = async || phone.ask(Method::POST, "/v1/activations", Some(start.clone())).await;
        let (status, mut view) = answered(ask).await;
        assert_eq!(status, 201, "{view}");
        let path = format!("/v1/activations/{}", view["id"].as_str().unwrap());
        while view["due"] != "active" {
            let acknowledged = place_of(&view["due"]);
            match phone.step(&view, &user, &number).await {
                Ok((StatusCode::OK, next)) => view = next,
                // The SMS was lost with the outbox too often: this person gives up.
                Ok((StatusCode::TOO_MANY_REQUESTS, _)) => break,
                Ok(_) | Err(_) => {
                    let (status, now) = answered(async || phone.ask(Method::GET, &path, None).await).await;
                    assert_eq!(status, 200, "{now}");
                    view = now;
                }
            }
            assert!(place_of(&view["due"]) >= acknowledged, "what was answered is lost: {view}");
        }
        if view["due"] == "active" {
            let (status, mine) = answered(async || phone.ask(Method::GET, "/v1/apps", None).await).await;
            assert_eq!((status, mine["apps"].as_array().map(Vec::len)), (StatusCode::OK, Some(1)), "{mine}");
            active += 1;
        }
    }
    active
}

/// Activations without their app, apps without their activation, apps without exactly one entry in the trail.
const HALF_DONE: [&str; 3] = [
    "SELECT COUNT(*) AS n FROM activations LEFT JOIN apps ON apps.app_id = activations.app_id \
     WHERE (activations.due = 'active') <> (apps.app_id IS NOT NULL)",
    "SELECT COUNT(*) AS n FROM apps WHERE app_id NOT IN (SELECT app_id FROM activations WHERE due = 'active')",
    "SELECT COUNT(*) AS n FROM apps WHERE 1 <> (SELECT COUNT(*) FROM audit \
     WHERE what = 'app_activated' AND subject = 'app ' || app_id)",
];

async fn killed_again_and_again(place: Place) {
    let kills = std::env::var("HANDOFF_TEST_KILLS").ok().map_or(KILLS, |kills| kills.parse().unwrap());
    let place = Arc::new(place);
    let mut service = place.start(0);
    let address = service.address();
    let over = AtomicBool::new(false);
    let people = join_all((0..PEOPLE).map(|_| activate_again_and_again(&place, address, &over)));
    let killing = async {
        for _ in 0..kills {
            let alive = Duration::from_millis(rand::rng().random_range(50..600));
            tokio::time::sleep(alive).await;
            // SIGKILL.
            drop(service);
            let place = Arc::clone(&place);
            service = tokio::task::spawn_blocking(move || place.start(address.port())).await.unwrap();
        }
        over.store(true, Ordering::Relaxed);
        service
    };
    let (active, service) = tokio::join!(people, killing);
    let active: usize = active.into_iter().sum();
    drop(service);
    sqlx::any::install_default_drivers();
    let database = sqlx::AnyPool::connect(&place.database_url()).await.unwrap();
    for query in HALF_DONE {
        let row = sqlx::query(query).fetch_one(&database).await.unwrap();
        assert_eq!(row.get::<i64, _>("n"), 0, "{query}");
    }
    let apps = sqlx::query("SELECT COUNT(*) AS n FROM apps").fetch_one(&database).await.unwrap().get::<i64, _>("n");
    println!("{kills} kills, {apps} apps active, {active} of them seen to be so");
    assert_eq!(usize::try_from(apps).unwrap(), active, "none lost, none doubled");
    assert!(active > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_half_done_with_a_file() {
    killed_again_and_again(Place::new(None)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_half_done_with_postgresql() {
    killed_again_and_again(Place::new(Some(Postgres::shared().database()))).await;
}
