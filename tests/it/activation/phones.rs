//! Activation with the commands that a person types, against the real service: slips, refusals, and commands that are
//! killed between any two steps and run again.

mod copies;

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
