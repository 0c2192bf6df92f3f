//! Apps that are copied from another phone, a relative's among them, and apps that are too many.

use super::*;
use crate::activation::commands::development;
use crate::activation::postgres::Postgres;

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_copied_and_both_are_active_and_the_old_one_hears_of_it() {
    both_ways(&Scene::new(&[])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_copied_and_both_are_active_with_postgresql() {
    let server = Postgres::shared();
    both_ways(&Scene::at(Place::new(Some(server.database())), &[])).await;
}

async fn both_ways(scene: &Scene) {
    let user = scene.person().await;
    scene.active("old", &user);
    let relay = scene.service.url();
    let (mut old, mut new) = scene.copied("old", "new", &relay);
    answer(&mut new, "user_id", "somebody");
    again(&mut new, "Wrong user ID");
    answer(&mut new, "user_id", "a b");
    again(&mut new, "without spaces");
    asked(&mut new, "user_id");
    new.signal(Signal::KILL);
    drop(new);
    old.until("waiting_for_app");
    // Whatever QR code the command is given again: it goes on.
    let arguments = scene.scan("new", &relay, "HO:GONE");
    let again = || Process::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let mut killed = again();
    answer(&mut killed, "user_id", &user.to_uppercase());
    asked(&mut killed, "temporary_pin");
    killed.signal(Signal::KILL);
    drop(killed);
    let mut new = again();
    answer(&mut new, "temporary_pin", "");
    answer(&mut new, "personal_pin", PIN);
    answer(&mut new, "personal_pin_again", PIN);
    answer(&mut new, "biometrics", "no");
    answer(&mut new, "notifications", "yes");
    let (new, old) = (new.end(), old.end());
    assert_eq!((new.code, old.code), (Some(0), Some(0)), "{new:?} {old:?}");
    assert_eq!(old.event("app_activated")["app"], new.event("activated")["app"]);
    assert_eq!(scene.names("old"), ["This phone", "New phone"]);
    let renamed = scene.apps("new", &["rename", "This phone", "Backup"]);
    assert_eq!(renamed.code, Some(0), "{renamed:?}");
    assert_eq!(scene.names("old"), ["Backup", "New phone"]);
    scene.apps("new", &["delete", "nobody"]).expect_refusal(2, "there is no app \"nobody\"");
    assert_eq!(scene.apps("new", &["delete", "Backup"]).code, Some(0));
    assert_eq!(scene.names("new"), ["New phone"]);
    scene.apps("old", &["list"]).expect_refusal(1, "Not an active app");
    // It is found out before a QR code is shown.
    let old = Process::start(&["old", "--json", "--state", &scene.state("old"), "--relay", &relay]);
    old.end().expect_refusal(1, "Not an active app");
}

/// All of it with the commands, the proofing system's part included.
#[tokio::test(flavor = "multi_thread")]
async fn a_relatives_app_is_made_with_a_token_for_the_helpers_phone_which_keeps_nothing() {
    let place = Place::new(None);
    let service = development(&place, &[]);
    let scene = Scene { place, service };
    let (url, relay) = (scene.url(), scene.service.url());
    let setting = format!("activation.data_directory={}", scene.place.data().display());
    let admin = scene.place.data().join("admin.token").display().to_string();
    let on_file = ["--phone", "+4512345678", "--service", &url, "--token-file", &admin];
    let token = |device: &str, more: &[&str]| {
        let fixed = ["enrolment-token", "--json", "--set", &setting, "--user", "maria82", "--device", device];
        Process::start(&[&fixed[..], more].concat()).end().event("enrolment_token")["token"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let folder = tempfile::tempdir().unwrap();
    let mut command = crate::handoff::process::handoff(&["old", "--json", "--for-relative", "--relay", &relay]);
    command.current_dir(folder.path());
    let mut old = Process::start_as(command);
    let device = old.until("device")["thumbprint"].as_str().unwrap().to_owned();
    answer(&mut old, "enrolment_token", "a.b");
    again(&mut old, "not an enrolment token");
    let other = Phone::new(scene.service.address()).thumbprint();
    answer(&mut old, "enrolment_token", &token(&other, &on_file));
    again(&mut old, "not for this phone");
    let bound = token(&device, &[]);
    // The token alone is worth nothing.
    scene.activate("thief", &bound).end().expect_refusal(1, "of another device");
    answer(&mut old, "enrolment_token", &bound);
    let shown = qr(&mut old);
    let arguments = scene.scan("new", &relay, &shown);
    let mut new = Process::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let code = check_code(&mut old, &mut new);
    old.type_line(&code);
    let new = answer_all(new, &[("user_id", "maria82")]);
    let old = old.end();
    assert_eq!((old.code, new.code), (Some(0), Some(0)), "{old:?} {new:?}");
    assert_eq!(scene.names("new"), ["New phone"], "the helper's phone is no app");
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    for secret in [bound.as_str(), &device, "maria82"] {
        assert!(!scene.service.log().contains(secret), "{secret}");
    }
}

/// The command makes a key for each handoff; an app that is broken might use its key again.
#[tokio::test(flavor = "multi_thread")]
async fn an_enrolment_token_makes_one_relatives_app_and_one_of_nobody_none() {
    let scene = Scene::new(&[]);
    let user = scene.person().await;
    let key = key();
    let device = thumbprint(&key.public());
    let bound = |user: &str| EnrolledPhone::new(key.clone(), &scene.place.token_for(user, Some(&device))).unwrap();
    let known = bound(&user);
    let end = answer_all(scene.helped(&known, "one").await, &[("user_id", &user)]);
    assert_eq!(end.code, Some(0), "{end:?}");
    let (second, stranger) = (scene.helped(&known, "two").await, scene.helped(&bound("stranger"), "three").await);
    for (phone, why) in [(second, "used before"), (stranger, "not on file")] {
        let end = phone.end();
        assert!(end.code == Some(1) && end.errors.contains(why), "{end:?}");
    }
    assert_eq!(scene.names("one"), ["New phone"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_app_is_refused_until_one_is_deleted() {
    let scene = Scene::new(&[]);
    let user = scene.person().await;
    ["one", "two", "three"].iter().for_each(|state| scene.active(state, &user));
    let token = scene.place.token(&user);
    scene.activate("four", &token).end().expect_refusal(1, "Too many active apps");
    let id = scene.apps("three", &["list"]).events[0]["app"].as_str().unwrap().to_owned();
    assert_eq!(scene.apps("three", &["delete", &id[..8]]).code, Some(0));
    // Three SMS went to this number; the fourth waits for a quarter of an hour.
    let end = scene.activate("four", &token).end();
    assert!(end.code == Some(1) && end.has("activating") && end.errors.contains("Too many SMS"), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_of_an_app_that_was_deleted_meanwhile_is_worth_nothing() {
    let mut scene = Scene::new(&[]);
    let relay = Relay::start(&[]);
    let user = scene.person().await;
    scene.active("old", &user);
    scene.active("other", &user);
    let mut old = Process::start(&["old", "--json", "--state", &scene.state("old"), "--relay", &relay.url()]);
    let qr = qr(&mut old);
    // The handoff needs the relay alone; the activation is away for now.
    let address = scene.service.address();
    drop(std::mem::replace(&mut scene.service, Relay::start(&[])));
    let arguments: Vec<String> = {
        let state = scene.state("new");
        let words = ["new", "--json", "--qr", &qr, "--relay", &relay.url(), "--server"];
        let words = words.into_iter().map(str::to_owned);
        words.chain([format!("http://{address}"), "--state".to_owned(), state]).collect()
    };
    let start = || Process::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let mut new = start();
    let code = check_code(&mut old, &mut new);
    old.type_line(&code);
    let end = new.end();
    assert!(end.code == Some(69) && end.errors.contains("Run the same command again"), "{end:?}");
    assert!(scene.path("new").exists(), "the grant is kept");
    scene.service = scene.place.start(address.port());
    let apps = scene.apps("other", &["list"]);
    let id = apps.events.iter().find(|event| event["is_this"] == false).unwrap()["app"].as_str().unwrap().to_owned();
    assert_eq!(scene.apps("other", &["delete", &id]).code, Some(0));
    let end = start().end();
    assert!(end.code == Some(1) && end.errors.contains("The granting app is not active"), "{end:?}");
    assert!(!scene.path("new").exists(), "nothing is left that could be of use");
    let old = old.end();
    assert!(old.code == Some(1) && old.errors.contains("Not an active app"), "{old:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_has_to_wait_can_be_cancelled_from_the_old_app() {
    let scene = Scene::new(&["activation.copy_wait=1h"]);
    let user = scene.person().await;
    scene.active("old", &user);
    let (mut old, mut new) = scene.copied("old", "new", &scene.service.url());
    assert!(new.until("copy_waits")["starts_in_ms"].as_u64().unwrap() > 3_500_000);
    let waiting = old.until("copy_waiting")["activation"].as_str().unwrap().to_owned();
    let cancelled = scene.apps("old", &["cancel", &waiting]);
    assert_eq!(cancelled.event("cancelled")["activation"], waiting);
    let end = new.end();
    assert!(end.code == Some(1) && end.errors.contains("it was cancelled"), "{end:?}");
    old.signal(Signal::INT);
    assert_eq!(old.end().code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_has_to_wait_starts_when_its_time_has_come() {
    let scene = Scene::new(&["activation.copy_wait=2s"]);
    let user = scene.person().await;
    scene.active("old", &user);
    let (old, mut new) = scene.copied("old", "new", &scene.service.url());
    new.until("copy_waits");
    let end = answer_all(new, &[("user_id", &user)]);
    assert_eq!((end.code, old.end().code), (Some(0), Some(0)), "{end:?}");
}
