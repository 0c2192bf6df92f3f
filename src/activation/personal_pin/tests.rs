use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use crate::opaque::client::{Login, Registration};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;
const PIN: &[u8] = b"493827";

fn app(number: u8) -> AppId {
    AppId::from_random([number; 16])
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(1)
}

/// What an app does to register: the upload.
fn upload(server: &PinServer, id: AppId, pin: &[u8]) -> Vec<u8> {
    let mut rng = rng();
    let (registration, request) = Registration::start(pin, &mut rng).unwrap();
    let response = server.respond(id, &request).unwrap();
    assert_eq!(response.len(), NAMED_RESPONSE);
    let (name, response) = response.split_at(SetupName::LEN);
    let upload = registration.finish(id.as_bytes(), response.try_into().unwrap(), &mut rng).unwrap();
    [name, &upload].concat()
}

fn registered(server: &PinServer, id: AppId, pin: &[u8]) -> PinRecord {
    server.record(&upload(server, id, pin)).unwrap()
}

/// KE3 if the app believes that the PIN was right, and what the server keeps.
fn halfway(server: &PinServer, id: AppId, record: Option<&PinRecord>, pin: &[u8]) -> (Option<[u8; KE3]>, Vec<u8>) {
    let mut rng = rng();
    let (login, ke1) = Login::start(pin, &mut rng).unwrap();
    let begun = server.begin_login(id, record, &ke1, NOW, &mut rng).unwrap();
    (login.finish(id.as_bytes(), &begun.ke2, &mut rng).ok().map(|(ke3, _)| ke3), begun.sealed)
}

fn server_of(lines: &[&str]) -> PinServer {
    PinServer::from_file(&lines.join("\n")).unwrap()
}

#[test]
fn a_registered_pin_opens_the_app() {
    let server = PinServer::random(&mut rng());
    let record = PinRecord::from_bytes(registered(&server, app(1), PIN).as_bytes()).unwrap();
    let (ke3, sealed) = halfway(&server, app(1), Some(&record), PIN);
    let logged_in = server.finish_login(app(1), &sealed, &ke3.unwrap(), NOW).unwrap();
    assert!(!logged_in.must_renew);
}

#[test]
fn a_wrong_pin_gives_the_app_nothing_to_send_and_a_guess_is_not_taken() {
    let server = PinServer::random(&mut rng());
    let record = registered(&server, app(1), PIN);
    let (ke3, sealed) = halfway(&server, app(1), Some(&record), b"493828");
    assert_eq!(ke3, None);
    assert_eq!(server.finish_login(app(1), &sealed, &[7; KE3], NOW).unwrap_err(), PinError::NotProven);
}

#[test]
fn a_proof_counts_for_its_own_login_and_app_and_in_time_only() {
    let server = PinServer::random(&mut rng());
    let record = registered(&server, app(1), PIN);
    let (ke3, sealed) = halfway(&server, app(1), Some(&record), PIN);
    let ke3 = ke3.unwrap();
    let finish = |id, sealed: &[u8], now| server.finish_login(id, sealed, &ke3, now).map(drop);
    assert_eq!(finish(app(2), &sealed, NOW), Err(PinError::NotProven));
    assert_eq!(finish(app(1), &sealed, NOW + LOGIN_LIFETIME), Err(PinError::NotProven));
    let mut other = StdRng::seed_from_u64(9);
    let (_, ke1) = Login::start(PIN, &mut other).unwrap();
    let second = server.begin_login(app(1), Some(&record), &ke1, NOW, &mut other).unwrap();
    assert_eq!(finish(app(1), &second.sealed, NOW), Err(PinError::NotProven), "the proof of another login");
    assert_eq!(finish(app(1), &sealed, NOW + LOGIN_LIFETIME - Duration::from_millis(1)), Ok(()));
}

#[test]
fn what_the_server_keeps_between_the_steps_cannot_be_changed_or_read() {
    let server = PinServer::random(&mut rng());
    let record = registered(&server, app(1), PIN);
    let (ke3, sealed) = halfway(&server, app(1), Some(&record), PIN);
    for at in SetupName::LEN..sealed.len() {
        let mut bad = sealed.clone();
        bad[at] ^= 1;
        assert_eq!(server.finish_login(app(1), &bad, &ke3.unwrap(), NOW).unwrap_err(), PinError::NotProven, "{at}");
    }
    for length in 0..sealed.len() {
        assert!(server.finish_login(app(1), &sealed[..length], &ke3.unwrap(), NOW).is_err());
    }
    // KE3 is in it: whoever could read it could finish the login.
    assert!(!sealed.windows(KE3).any(|window| window == ke3.unwrap()));
}

#[test]
fn an_app_that_does_not_exist_gets_an_answer_of_the_same_shape_that_never_opens() {
    let server = PinServer::random(&mut rng());
    let record = registered(&server, app(1), PIN);
    let (_, known) = halfway(&server, app(1), Some(&record), PIN);
    let (ke3, unknown) = halfway(&server, app(1), None, PIN);
    assert_eq!((ke3, unknown.len()), (None, known.len()));
}

#[test]
fn a_setup_is_replaced_without_losing_an_app() {
    let (old, new) = (PinServer::generate_line(&mut rng()), PinServer::generate_line(&mut StdRng::seed_from_u64(2)));
    let before = server_of(&["# made in spring", "", &old]);
    let record = registered(&before, app(1), PIN);

    let during = server_of(&[&new, &old]);
    let (ke3, sealed) = halfway(&during, app(1), Some(&record), PIN);
    assert!(during.finish_login(app(1), &sealed, &ke3.unwrap(), NOW).unwrap().must_renew);
    let record_again = registered(&during, app(1), PIN);
    let (ke3, sealed) = halfway(&during, app(1), Some(&record_again), PIN);
    assert!(!during.finish_login(app(1), &sealed, &ke3.unwrap(), NOW).unwrap().must_renew);

    let after = server_of(&[&new]);
    let (ke3, sealed) = halfway(&after, app(1), Some(&record_again), PIN);
    assert!(after.finish_login(app(1), &sealed, &ke3.unwrap(), NOW).is_ok());
    let (_, ke1) = Login::start(PIN, &mut rng()).unwrap();
    let gone = after.begin_login(app(1), Some(&record), &ke1, NOW, &mut rng());
    assert_eq!(gone.unwrap_err(), PinError::SetupGone);
}

#[test]
fn a_registration_that_was_begun_before_the_setup_changed_is_finished_under_the_old_one() {
    let (old, new) = (PinServer::generate_line(&mut rng()), PinServer::generate_line(&mut StdRng::seed_from_u64(2)));
    let upload = upload(&server_of(&[&old]), app(1), PIN);
    let during = server_of(&[&new, &old]);
    let record = during.record(&upload).unwrap();
    let (ke3, sealed) = halfway(&during, app(1), Some(&record), PIN);
    assert!(during.finish_login(app(1), &sealed, &ke3.unwrap(), NOW).is_ok());
    assert_eq!(server_of(&[&new]).record(&upload).unwrap_err(), PinError::SetupGone);
}

#[test]
fn messages_that_are_none_are_refused() {
    let server = PinServer::random(&mut rng());
    for bytes in [&[][..], &[0; 33], &[9; 98], &[9; 137], &[0; 300]] {
        assert_eq!(server.respond(app(1), bytes).unwrap_err(), PinError::Malformed);
        assert!(server.record(bytes).is_err());
        assert_eq!(server.begin_login(app(1), None, bytes, NOW, &mut rng()).unwrap_err(), PinError::Malformed);
        assert!(server.finish_login(app(1), bytes, bytes, NOW).is_err());
    }
}

#[test]
fn a_file_that_is_not_right_is_refused_with_its_line() {
    let line = PinServer::generate_line(&mut rng());
    let bad = |text: &str| PinServer::from_file(text).unwrap_err();
    assert_eq!(bad("# nothing\n\n"), BadSetups::Empty);
    assert_eq!(bad(&format!("{}\nnonsense", line.as_str())), BadSetups::Line(2));
    assert_eq!(bad(&line[..line.len() - 4]), BadSetups::Line(1));
    assert_eq!(bad(&format!("{0}\n\n{0}", line.as_str())), BadSetups::Twice(3));
}

#[test]
fn no_secret_shows_in_debug_output() {
    let line = PinServer::generate_line(&mut rng());
    let server = server_of(&[&line]);
    let record = registered(&server, app(1), PIN);
    let shown = format!("{server:?} {record:?}");
    assert!(shown.contains("PinRecord([redacted])") && shown.len() < 200, "{shown}");
}
