//! The operator's commands against a running service: tables, users, enrolment tokens for development, the outbox.

use std::path::Path;

use sqlx::Row as _;

use super::postgres::Postgres;
use super::story::finish;
use super::*;
use crate::cli::stdout;
use crate::handoff::process::{Process, handoff};
use crate::support::eventually;

/// A command that fails: its exit code, and what it says.
fn refusal(arguments: &[&str]) -> (Option<i32>, String) {
    let output = handoff(arguments).output().unwrap();
    assert!(output.stdout.is_empty(), "{output:?}");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn event(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// What migrates the registry of this place.
fn migration(place: &Place) -> Vec<String> {
    let mut arguments = vec!["migrate".to_owned(), "--json".to_owned(), "--log".to_owned(), "off".to_owned()];
    let folder = format!("activation.data_directory={}", place.data().display());
    let database = place.database.iter().map(|url| format!("activation.database_url={url}"));
    arguments.extend([folder].into_iter().chain(database).flat_map(|setting| ["--set".to_owned(), setting]));
    arguments
}

async fn tables_are_made_once(place: Place) {
    let arguments = migration(&place);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let first = event(&stdout(&arguments));
    let done: Vec<_> = first["migrations"].as_array().unwrap().iter().map(|one| one["version"].as_u64()).collect();
    assert!(first["event"] == "migrated" && done.len() >= 3 && done[0] == Some(1), "{first}");
    assert_eq!(event(&stdout(&arguments))["migrations"], json!([]));
    let text = stdout(&arguments.iter().copied().filter(|word| *word != "--json").collect::<Vec<_>>());
    assert!(text.contains("nothing was done"), "{text}");
    drop(place.start(0));

    sqlx::any::install_default_drivers();
    let database = sqlx::AnyPool::connect(&place.database_url()).await.unwrap();
    let latest = "SELECT MAX(version) AS v FROM _sqlx_migrations";
    let latest = sqlx::query(latest).fetch_one(&database).await.unwrap().get::<i64, _>("v");
    assert_eq!(latest, i64::try_from(done.len()).unwrap());
    let copied = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                  SELECT 9999, description, success, checksum, 0 FROM _sqlx_migrations WHERE version = 1";
    sqlx::query(copied).execute(&database).await.unwrap();
    let (code, text) = refusal(&arguments);
    assert!(code == Some(71) && text.contains("of a later version (migration 9999 is unknown)"), "{code:?} {text}");

    sqlx::query("DELETE FROM _sqlx_migrations WHERE version = 9999").execute(&database).await.unwrap();
    std::fs::write(place.data().join("registry.key"), URL_SAFE_NO_PAD.encode([1; 32])).unwrap();
    let (code, text) = refusal(&arguments);
    assert!(code == Some(71) && text.contains("another registry.key"), "{code:?} {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_made_once_in_a_file() {
    tables_are_made_once(Place::new(None)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_made_once_in_postgresql() {
    tables_are_made_once(Place::new(Some(Postgres::shared().database()))).await;
}

#[test]
fn without_a_registry_there_is_nothing_to_migrate() {
    let (code, text) = refusal(&["migrate", "--set", "activation.enabled=false"]);
    assert!(code == Some(78) && text.contains("there is no registry"), "{code:?} {text}");
}

fn import(file: &Path, url: &str, token: &Path, more: &[&str]) -> Vec<String> {
    let (file, token) = (file.to_str().unwrap(), token.to_str().unwrap());
    let arguments = ["users", "import", file, "--service", url, "--token-file", token];
    arguments.iter().chain(more).map(|word| (*word).to_owned()).collect()
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_a_file_are_put_on_file_and_the_same_file_again_changes_nothing() {
    let place = Place::new(None);
    let service = place.start(0);
    let (url, token) = (format!("http://{}", service.address()), place.data().join("admin.token"));
    let file = place.folder.path().join("people.csv");
    let people = |last: u32| {
        let line = |number: u32| format!("person{number},Maria Hansen,+45{}\n", 20_000_000 + number);
        let last = format!("person1200,Maria Hansen,+45{last}\n");
        std::fs::write(&file, format!("user_id,name,phone\n{}{last}", (0..1200).map(line).collect::<String>()))
            .unwrap();
    };
    people(29_999_999);
    let arguments = import(&file, &url, &token, &["--json"]);
    let run = || event(&stdout(&words(&arguments)));
    let counts = |created: u32, changed: u32, unchanged: u32| json!({"event": "imported", "created": created, "changed": changed, "unchanged": unchanged});
    assert_eq!(run(), counts(1201, 0, 0));
    assert_eq!(run(), counts(0, 0, 1201));
    people(29_999_998);
    assert_eq!(run(), counts(0, 1, 1200));
    let text = stdout(&words(&import(&file, &url, &token, &[])));
    assert_eq!(text, "1201 users are on file: 0 created, 0 changed, 1201 unchanged.\n");

    let wrong = place.folder.path().join("wrong.token");
    std::fs::write(&wrong, "wrong").unwrap();
    let refused = |file: &Path, url: &str, token: &Path| {
        let (code, text) = refusal(&words(&import(file, url, token, &[])));
        assert!(!text.contains("2999999") && !text.contains("Maria"), "{text}");
        (code.unwrap(), text)
    };
    let (code, text) = refused(&file, &url, &wrong);
    assert!(
        code == 2 && text.contains("nobody was put on file of 1201 users") && text.contains("Admin token"),
        "{text}"
    );
    let (code, text) = refused(&file, "http://192.0.2.1", &token);
    assert!(code == 2 && text.contains("https://"), "a token is not sent over plain HTTP: {text}");
    let (code, text) = refused(&file, &url, &place.folder.path().join("none"));
    assert!(code == 66 && text.contains("cannot read"), "{text}");
    let bad = place.folder.path().join("bad.csv");
    std::fs::write(&bad, "user_id,name,phone\nsomebody,Maria Hansen,+4529999990\nmaria82,Maria Hansen,29999999\n")
        .unwrap();
    let (code, text) = refused(&bad, &url, &token);
    assert!(code == 66 && text.contains("line 3: phone: ") && !text.contains("line 2"), "{text}");
    let somebody = service_knows(&service, &place, "somebody").await;
    assert!(!somebody, "nobody of a file with a problem is put on file");
    assert!(service_knows(&service, &place, "person1200").await);
    drop(service);
    let (code, text) = refused(&file, &url, &token);
    assert!(code == 69 && text.contains("Connection refused"), "{text}");
}

async fn service_knows(service: &Relay, place: &Place, user: &str) -> bool {
    let phone = Phone::new(service.address());
    let request = phone.client.post(format!("http://{}/v1/admin/users/look", service.address()));
    let request = request.bearer_auth(place.admin_token()).json(&json!({"user_id": user}));
    request.send().await.unwrap().status() == 200
}

/// A service with the embedded defaults but for its port and folder.
pub(super) fn development(place: &Place, more: &[&str]) -> Relay {
    let folder = format!("activation.data_directory={}", place.data().display());
    Relay::start(&[&["activation.enabled=true", folder.as_str()], more].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_embedded_defaults_a_token_and_the_outbox_are_enough_to_activate_an_app() {
    let place = Place::new(None);
    let service = development(&place, &[]);
    let log = eventually("served", async || service.log(), |log| log.contains("activation is served")).await;
    assert!(log.contains("enrolment tokens of the development key are taken"), "{log}");
    let (url, folder) = (format!("http://{}", service.address()), place.data());
    let (setting, admin) = (format!("activation.data_directory={}", folder.display()), folder.join("admin.token"));
    let token = |more: &[&str]| {
        let fixed = ["enrolment-token", "--json", "--set", &setting, "--user", "maria82"];
        event(&stdout(&[&fixed[..], more].concat()))["token"].as_str().unwrap().to_owned()
    };
    let (phone, other) = (Phone::new(service.address()), Phone::new(service.address()));
    let start = |token: String| Some(json!({"enrolment_token": token, "name": "Phone", "model": "Pixel 9"}));
    let begin = async |phone: &Phone, token| phone.ask(Method::POST, "/v1/activations", start(token)).await.unwrap();
    let (status, problem) = begin(&phone, token(&[])).await;
    assert_eq!((status.as_u16(), problem["code"].as_str()), (403, Some("not-on-file")));
    let on_file = ["--phone", "+4512345678", "--service", &url, "--token-file", admin.to_str().unwrap()];
    let bound = token(&[&on_file[..], &["--device", &phone.thumbprint()]].concat());
    let (status, problem) = begin(&other, bound.clone()).await;
    assert_eq!((status.as_u16(), problem["code"].as_str()), (403, Some("grant-bound-elsewhere")));
    let (status, view) = begin(&phone, bound.clone()).await;
    assert_eq!(status, 201, "{view}");

    assert_eq!(stdout(&["outbox", &url]), "No SMS yet.\n");
    let mut following = Process::start(&["outbox", "--follow", "--json", &url]);
    let view = finish(&phone, view, "maria82", "+4512345678").await;
    assert_eq!(view["due"], "active");
    let sms = following.until("sms");
    assert_eq!(
        (sms["to"].as_str(), sms["text"].as_str().unwrap().contains("@localhost #")),
        (Some("+4512345678"), true)
    );
    let shown: Value = event(&stdout(&["outbox", "--json", &url]));
    assert_eq!(shown, sms, "the same, to whoever comes later");
    let text = stdout(&["outbox", &url]);
    assert!(text.starts_with("+4512345678, ") && text.contains(" er din kode til "), "{text}");
    for secret in [bound.as_str(), "+4512345678", "maria82", &sms["text"].as_str().unwrap()[..9]] {
        assert!(!service.log().contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_development_key_is_worth_nothing_where_sms_are_sent_or_a_proofing_system_is_named() {
    let place = Place::new(None);
    let setting = format!("activation.data_directory={}", place.data().display());
    let command = ["enrolment-token", "--set", &setting, "--user", "maria82"];
    let token = stdout(&command).trim().to_owned();
    let start = json!({"enrolment_token": token, "name": "Phone", "model": "Pixel 9"});
    let body = r#"{"to": "{to}", "text": "{text}"}"#;
    let http = ["sms.gateway=http".to_owned(), "sms.url=http://127.0.0.1:9/".to_owned(), format!("sms.body={body}")];
    let jwks = format!("activation.enrolment_jwks_file={}", place.folder.path().join("jwks.json").display());
    for (settings, code) in [(&http[..], "no-enrolment"), (&[jwks][..], "grant-invalid")] {
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let service = development(&place, &settings);
        let log = eventually("served", async || service.log(), |log| log.contains("activation is served")).await;
        assert!(!log.contains("development key"), "{log}");
        let phone = Phone::new(service.address());
        let (status, problem) = phone.ask(Method::POST, "/v1/activations", Some(start.clone())).await.unwrap();
        assert_eq!((status.as_u16(), problem["code"].as_str()), (403, Some(code)));
        let flags = settings.iter().flat_map(|setting| ["--set", setting]);
        let (exit, text) = refusal(&command.into_iter().chain(flags).collect::<Vec<_>>());
        assert!(exit == Some(78) && text.contains("the identity-proofing system signs"), "{exit:?} {text}");
        let url = format!("http://{}", service.address());
        if code == "no-enrolment" {
            let (exit, text) = refusal(&["outbox", &url]);
            assert!(exit == Some(69) && text.contains("no outbox is shown"), "{exit:?} {text}");
        }
    }
    let (exit, text) = refusal(&["enrolment-token", "--user", "maria82", "--valid-for", "2days"]);
    assert!(exit == Some(2) && text.contains("from 1s to 1day"), "{exit:?} {text}");
}
