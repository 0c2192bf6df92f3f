//! Both ways with the commands that a person types, against the real service: slips, refusals, and commands that are
//! killed between any two steps and run again.

use std::num::NonZeroU8;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use handoff_relay::client::activation::EnrolledPhone;
use handoff_relay::client::{Connector, OldApp, OldEvent, OldOutcome, OldSettings, RelayList, RelayUrl};
use handoff_relay::crypto::DeviceInfo;
use handoff_relay::protocol::qr::RelayRef;
use rand::RngExt as _;
use rustix::process::Signal;

use super::commands::development;
use super::postgres::Postgres;
use super::story::on_file;
use super::*;
use crate::handoff::process::{End, Process};
use crate::handoff::scene::{check_code, qr};

const PIN: &str = "493827";

/// People whose phones are killed again and again.
const PEOPLE: usize = 12;

/// What a person is asked on this phone, in order.
const QUESTIONS: [&str; 5] = ["temporary_pin", "personal_pin", "personal_pin_again", "biometrics", "notifications"];

/// A service, and the people whose phones talk to it.
struct Scene {
    place: Place,
    service: Relay,
}

impl Scene {
    fn new(settings: &[&str]) -> Self {
        Self::at(Place::new(None), settings)
    }

    fn at(place: Place, settings: &[&str]) -> Self {
        let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let service = place.start_with(0, &settings);
        Self { place, service }
    }

    async fn person(&self) -> String {
        on_file(&Phone::new(self.service.address()), &self.place).await.0
    }

    fn url(&self) -> String {
        format!("http://{}", self.service.address())
    }

    fn state(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.folder.path().join(name)
    }

    fn activate(&self, state: &str, token: &str) -> Process {
        let (url, state) = (self.url(), self.state(state));
        Process::start(&["activate", "--json", "--server", &url, "--enrolment-token", token, "--state", &state])
    }

    /// An active app of this person.
    fn active(&self, state: &str, user: &str) {
        let end = answer_all(self.activate(state, &self.place.token(user)), &[]);
        assert_eq!(end.code, Some(0), "{end:?}");
    }

    fn apps(&self, state: &str, more: &[&str]) -> End {
        let state = self.state(state);
        Process::start(&[&["apps"], more, &["--json", "--state", &state]].concat()).end()
    }

    /// The names that this app sees.
    fn names(&self, state: &str) -> Vec<String> {
        let end = self.apps(state, &["list"]);
        assert_eq!(end.code, Some(0), "{end:?}");
        let apps = end.events.iter().filter(|event| event["event"] == "app");
        apps.map(|event| event["name"].as_str().unwrap().to_owned()).collect()
    }

    /// An active app's copy, as far as the new phone is asked for the user ID.
    fn copied(&self, old: &str, new: &str, relay: &str) -> (Process, Process) {
        let mut old = Process::start(&["old", "--json", "--state", &self.state(old), "--relay", relay]);
        let qr = qr(&mut old);
        let mut new = Process::start(&self.scan(new, relay, &qr).iter().map(String::as_str).collect::<Vec<_>>());
        let code = check_code(&mut old, &mut new);
        old.type_line(&code);
        (old, new)
    }

    /// The new phone of whoever this one helps, after the handoff.
    async fn helped(&self, phone: &EnrolledPhone, new: &str) -> Process {
        let relay = RelayUrl::parse(&self.service.url()).unwrap();
        let app = OldApp::new(RelayList::new().with(NonZeroU8::MIN, relay), Connector::new().unwrap());
        let settings = OldSettings::new(RelayRef::Listed(NonZeroU8::MIN), DeviceInfo::new("old", "1").unwrap());
        let mut old = app.start(settings, phone.grant_copy()).unwrap();
        let shown = old.next_event_where(|event| matches!(event, OldEvent::QrShown { .. })).await;
        let Some(OldEvent::QrShown { payload, .. }) = shown else { panic!("no QR code is shown") };
        let arguments = self.scan(new, &self.service.url(), &payload.to_text());
        let mut new = Process::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let code = new.until("show_code")["code"].as_str().unwrap().parse().unwrap();
        old.next_event_where(|event| matches!(event, OldEvent::AskCode { .. })).await.unwrap();
        old.enter_code(code).await;
        assert!(matches!(old.join().await, OldOutcome::Delivered));
        new
    }

    fn scan(&self, new: &str, relay: &str, qr: &str) -> Vec<String> {
        let (url, state) = (self.url(), self.state(new));
        ["new", "--json", "--qr", qr, "--relay", relay, "--server", &url, "--state", &state].map(str::to_owned).into()
    }
}

fn asked(process: &mut Process, what: &str) -> Value {
    process.until_where("ask", |event| event["what"] == what)
}

/// The last answer was refused, and the same is asked again.
fn again(process: &mut Process, why: &str) {
    let event = process.until("again");
    assert!(event["detail"].as_str().unwrap().contains(why), "{event}");
}

fn answer(process: &mut Process, what: &str, line: &str) -> Value {
    let question = asked(process, what);
    process.type_line(line);
    question
}

/// What a person who makes no mistakes says.
fn right(what: &str) -> &'static str {
    match what {
        "temporary_pin" => "",
        "personal_pin" | "personal_pin_again" => PIN,
        "biometrics" => "yes",
        "notifications" => "no",
        _ => panic!("nobody was to be asked for {what}"),
    }
}

/// Answers until this is asked; `false` if the app is active before.
fn reach(process: &mut Process, what: &str) -> bool {
    loop {
        let event = process.until_any(&["ask", "activated"]);
        if event["event"] == "activated" || event["what"] == what {
            return event["event"] == "ask";
        }
        process.type_line(right(event["what"].as_str().unwrap()));
    }
}

/// Answers all questions of this phone, and some before.
fn answer_all(mut process: Process, first: &[(&str, &str)]) -> End {
    for (what, line) in first {
        answer(&mut process, what, line);
    }
    for what in QUESTIONS {
        answer(&mut process, what, right(what));
    }
    process.end()
}

#[tokio::test(flavor = "multi_thread")]
async fn this_phone_is_activated_step_by_step_and_slips_are_asked_again() {
    let scene = Scene::new(&[]);
    let user = scene.person().await;
    let mut phone = scene.activate("phone", &scene.place.token(&user));
    assert_eq!(phone.until("activating")["holder"], "M*** H***");
    phone.until("sms_sent");
    assert_eq!(answer(&mut phone, "temporary_pin", "1234567")["offered"], true);
    again(&mut phone, "This was no try");
    answer(&mut phone, "temporary_pin", "0000 0000");
    again(&mut phone, "Wrong temporary PIN");
    answer(&mut phone, "temporary_pin", "again");
    phone.until("sms_sent");
    answer(&mut phone, "temporary_pin", "");
    for (weak, why) in [("12345", "six digits"), ("123456", "sequence"), ("111111", "repeats"), ("240180", "date")] {
        answer(&mut phone, "personal_pin", weak);
        again(&mut phone, why);
    }
    answer(&mut phone, "personal_pin", PIN);
    answer(&mut phone, "personal_pin_again", "493828");
    again(&mut phone, "the two PINs are not the same");
    answer(&mut phone, "personal_pin", PIN);
    answer(&mut phone, "personal_pin_again", PIN);
    answer(&mut phone, "biometrics", "perhaps");
    again(&mut phone, "yes or no");
    answer(&mut phone, "biometrics", "y");
    answer(&mut phone, "notifications", "N");
    let end = phone.end();
    assert_eq!(end.code, Some(0), "{end:?}");
    assert_eq!(scene.path("phone").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let listed = scene.apps("phone", &["list"]);
    let app = listed.event("app");
    assert_eq!(app["app"], end.event("activated")["app"]);
    assert_eq!(
        (&app["name"], &app["is_this"], &app["biometrics"], &app["notifications"]),
        (&json!("This phone"), &json!(true), &json!(true), &json!(false))
    );
    let again = scene.activate("phone", "no token").end();
    assert_eq!((again.code, again.event("activated")["app"].clone()), (Some(0), app["app"].clone()), "{again:?}");
    assert!(!scene.service.log().contains(&user) && !scene.service.log().contains(PIN));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_opened_with_its_pin_and_waits_after_five_wrong_ones() {
    let scene = Scene::new(&[]);
    let user = scene.person().await;
    scene.active("phone", &user);
    let unlock = || Process::start(&["unlock", "--json", "--state", &scene.state("phone")]);
    let mut phone = unlock();
    answer(&mut phone, "personal_pin", "12345");
    again(&mut phone, "this was no try");
    answer(&mut phone, "personal_pin", "135790");
    again(&mut phone, "the PIN is wrong");
    answer(&mut phone, "personal_pin", PIN);
    let end = phone.end();
    assert!(end.code == Some(0) && end.has("unlocked"), "{end:?}");
    let mut phone = unlock();
    for _ in 0..5 {
        answer(&mut phone, "personal_pin", "135790");
        again(&mut phone, "the PIN is wrong");
    }
    answer(&mut phone, "personal_pin", PIN);
    let end = phone.end();
    assert!(end.code == Some(1) && end.errors.contains("Too many wrong personal PINs"), "{end:?}");
    assert!(end.errors.contains("Try again in "), "{end:?}");
    let mut phone = unlock();
    phone.close_stdin();
    let end = phone.end();
    assert!(end.code == Some(1) && end.errors.contains("nobody can answer"), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_is_replaced_also_when_it_is_forgotten() {
    let scene = Scene::new(&[]);
    let user = scene.person().await;
    scene.active("phone", &user);
    let unlock = |more: &[&str]| {
        let state = scene.state("phone");
        Process::start(&[&["unlock", "--json", "--state", &state], more].concat())
    };
    let mut phone = unlock(&["--new-pin"]);
    answer(&mut phone, "personal_pin", PIN);
    phone.until("unlocked");
    answer(&mut phone, "personal_pin", "123123");
    again(&mut phone, "repeats");
    answer(&mut phone, "personal_pin", "738291");
    answer(&mut phone, "personal_pin_again", "738291");
    let end = phone.end();
    assert!(end.code == Some(0) && end.has("pin_replaced"), "{end:?}");
    let mut phone = unlock(&["--forgotten"]);
    answer(&mut phone, "temporary_pin", "00000000");
    again(&mut phone, "Wrong temporary PIN");
    assert_eq!(answer(&mut phone, "temporary_pin", "")["offered"], true);
    answer(&mut phone, "personal_pin", "602759");
    answer(&mut phone, "personal_pin_again", "602759");
    let end = phone.end();
    assert!(end.code == Some(0) && end.has("pin_replaced") && !end.has("unlocked"), "{end:?}");
    let mut phone = unlock(&[]);
    for old in [PIN, "738291"] {
        answer(&mut phone, "personal_pin", old);
        again(&mut phone, "the PIN is wrong");
    }
    answer(&mut phone, "personal_pin", "602759");
    assert_eq!(phone.end().code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_killed_at_any_question_goes_on_where_it_was() {
    let scene = Scene::new(&[]);
    let user = scene.person().await;
    let token = scene.place.token(&user);
    let run = || scene.activate("phone", &token);
    for what in QUESTIONS {
        // Before the answer, and in the middle of the step that the answer begins.
        for line in [None, Some(right(what))] {
            let mut phone = run();
            assert!(reach(&mut phone, what), "{what} is not asked again");
            if let Some(line) = line {
                phone.type_line(line);
            }
            phone.signal(Signal::KILL);
            assert!(phone.end().code.is_none_or(|code| code == 0));
        }
    }
    let mut last = run();
    assert!(!reach(&mut last, "nothing more"));
    assert_eq!(last.end().code, Some(0));
    assert_eq!(scene.names("phone"), ["This phone"], "one app, not two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_killed_at_random_moments_ends_with_one_active_app() {
    let scene = Scene::new(&[]);
    let mut kills = 0;
    for number in 0..PEOPLE {
        let user = scene.person().await;
        let (token, state) = (scene.place.token(&user), format!("phone{number}"));
        // Later each time, so that a slow machine comes to an end, too.
        for patience in (80..).step_by(5) {
            let mut phone = scene.activate(&state, &token);
            let killer = phone.kill_after(Duration::from_millis(rand::rng().random_range(2..patience)));
            while let Some(event) = phone.find_any(&["ask"]) {
                phone.offer_line(right(event["what"].as_str().unwrap()));
            }
            killer.join().unwrap();
            let end = phone.end();
            match end.code {
                None => kills += 1,
                code => {
                    assert_eq!(code, Some(0), "{end:?}");
                    break;
                }
            }
        }
        assert_eq!(scene.names(&state), ["This phone"]);
    }
    println!("{kills} kills, {PEOPLE} apps");
    assert!(kills > 0);
}

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

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_begin_says_what_to_do() {
    let scene = Scene::new(&[]);
    let user = scene.person().await;
    let token = scene.place.token(&user);
    let state = scene.state("none");
    let run = |words: &[&str]| Process::start(&[&["activate", "--json", "--state", &state], words].concat()).end();
    run(&[]).expect_refusal(2, "say --enrolment-token");
    run(&["--enrolment-token", " "]).expect_refusal(2, "the enrolment token is empty");
    run(&["--enrolment-token", "a", "--server", "http://192.0.2.1"]).expect_refusal(2, "use https://");
    run(&["--enrolment-token-file", "/no/such/file"]).expect_refusal(66, "cannot read /no/such/file");
    run(&["--enrolment-token", "a", "--server", &scene.url()]).expect_refusal(1, "copy grant not valid");
    assert!(!scene.path("none").exists());
    scene.apps("none", &["list"]).expect_refusal(66, "does not exist");
    let away = format!("http://127.0.0.1:{}", crate::handoff::scene::unused_port());
    run(&["--enrolment-token", &token, "--server", &away]).expect_refusal(69, "no connection can be made");
    assert!(scene.path("none").exists(), "the token is kept with the key that it may be used with");
    scene.apps("none", &["list"]).expect_refusal(1, "is not active yet");
    std::fs::write(scene.path("none"), "{}").unwrap();
    run(&["--enrolment-token", &token]).expect_refusal(66, "this is not the state of an app");
    scene.active("phone", &user);
    scene.activate("thief", &scene.place.token("stranger")).end().expect_refusal(1, "The user is not on file");
    let old = Process::start(&["old", "--state", &scene.state("phone"), "--credential", "x"]).end();
    assert!(old.code == Some(2) && old.errors.contains("cannot be used with"), "{old:?}");
}
