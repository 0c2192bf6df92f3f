//! A database that is locked, away, silent, and back: every answer has a name, and nothing is lost that was answered with
//! success.

use sqlx::{Connection as _, Executor as _};

use super::postgres::Postgres;
use super::story::{finish, on_file};
use super::*;
use crate::support::eventually;
use crate::support::fault_proxy::FaultProxy;

/// A person whose new app has typed its temporary PIN.
async fn halfway(place: &Place, phone: &Phone) -> (Value, String, String) {
    let (user, number) = on_file(phone, place).await;
    let start = json!({"enrolment_token": place.token(&user), "name": "Phone", "model": "Pixel 9"});
    let (status, mut view) = phone.ask(Method::POST, "/v1/activations", Some(start)).await.unwrap();
    assert_eq!(status, 201, "{view}");
    while view["due"] != "personal_pin" {
        view = phone.step(&view, &user, &number).await.unwrap().1;
    }
    (view, user, number)
}

/// What a request is answered while there is no database.
async fn expect_unavailable(phone: &Phone, view: &Value) {
    let path = format!("/v1/activations/{}", view["id"].as_str().unwrap());
    let url = format!("http://{}{path}", phone.address);
    let answer = phone.client.get(url).header("DPoP", phone.proof("GET", &path)).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "2");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["code"], "registry-unavailable", "{problem}");
}

/// After the trouble everything is as it was answered, and the activation goes on.
async fn expect_nothing_lost(service: &Relay, phone: &Phone, (view, user, number): (Value, String, String)) {
    let path = format!("/v1/activations/{}", view["id"].as_str().unwrap());
    let look = async || phone.ask(Method::GET, &path, None).await.unwrap();
    let (_, found) = eventually("it is back", look, |(status, _)| *status == 200).await;
    assert_eq!(found["due"], "personal_pin", "{found}");
    assert_eq!(finish(phone, found, &user, &number).await["due"], "active");
    assert!(service.metrics().await.sum("handoff_registry_errors_total") >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_somebody_else_has_locked_is_waited_for_and_then_named() {
    let place = Place::new(None);
    let service = place.start(0);
    let phone = Phone::new(service.address());
    let person = halfway(&place, &phone).await;
    sqlx::any::install_default_drivers();
    let mut other = sqlx::AnyConnection::connect(&place.database_url()).await.unwrap();
    other.execute("BEGIN EXCLUSIVE").await.unwrap();
    expect_unavailable(&phone, &person.0).await;
    // Several at once: each is answered, although there is one connection.
    let several = (0..3).map(|_| expect_unavailable(&phone, &person.0));
    futures_util::future::join_all(several).await;
    other.execute("ROLLBACK").await.unwrap();
    expect_nothing_lost(&service, &phone, person).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_postgresql_that_somebody_else_has_locked_are_waited_for_and_then_named() {
    let server = Postgres::shared();
    let place = Place::new(Some(server.database()));
    let service = place.start(0);
    let phone = Phone::new(service.address());
    let person = halfway(&place, &phone).await;
    sqlx::any::install_default_drivers();
    let mut other = sqlx::AnyConnection::connect(&place.database_url()).await.unwrap();
    other.execute("BEGIN; LOCK TABLE activations IN ACCESS EXCLUSIVE MODE").await.unwrap();
    expect_unavailable(&phone, &person.0).await;
    other.execute("ROLLBACK").await.unwrap();
    expect_nothing_lost(&service, &phone, person).await;
}

/// PostgreSQL ends all connections and takes none, as while it restarts.
#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_that_goes_away_is_named_and_found_again() {
    let server = Postgres::shared();
    let place = Place::new(Some(server.database()));
    let service = place.start(0);
    let phone = Phone::new(service.address());
    let person = halfway(&place, &phone).await;
    sqlx::any::install_default_drivers();
    let (root, name) = place.database_url().rsplit_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let mut administrator = sqlx::AnyConnection::connect(&format!("{root}/postgres")).await.unwrap();
    let mut order = async |sql: String| administrator.execute(sqlx::AssertSqlSafe(sql)).await.map(drop).unwrap();
    order(format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")).await;
    order(format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")).await;
    expect_unavailable(&phone, &person.0).await;
    order(format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")).await;
    expect_nothing_lost(&service, &phone, person).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_behind_a_network_that_is_cut_or_swallows_everything_is_named_and_found_again() {
    let server = Postgres::shared();
    let direct = server.database();
    let address: SocketAddr = direct.split('@').nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
    let network = FaultProxy::start(address, 1).await;
    let place = Place::new(Some(direct.replace(&address.to_string(), &network.address().to_string())));
    let service = place.start(0);
    let phone = Phone::new(service.address());
    let person = halfway(&place, &phone).await;
    network.cut_off();
    expect_unavailable(&phone, &person.0).await;
    network.heal();
    let path = format!("/v1/activations/{}", person.0["id"].as_str().unwrap());
    let look = async || phone.ask(Method::GET, &path, None).await.unwrap();
    eventually("it is back", look, |(status, _)| *status == 200).await;
    network.stall(true);
    expect_unavailable(&phone, &person.0).await;
    network.stall(false);
    expect_nothing_lost(&service, &phone, person).await;
}
