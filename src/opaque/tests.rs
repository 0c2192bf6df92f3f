use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::Path;

use opaque_ke::ksf::Identity;
use opaque_ke::{
    ClientLogin, ClientLoginFinishParameters, ClientRegistration, ClientRegistrationFinishParameters,
    CredentialRequest, ServerLogin, ServerLoginParameters, ServerRegistration, ServerSetup,
};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{SeedableRng as _, TryCryptoRng, TryRng};
use serde::{Deserialize, Serialize};

use super::client::{Login, Registration};
use super::server::{Setup, check_upload, finish_login};
use super::*;

const APP: AppName = [7; 16];
const PIN: &[u8] = b"493827";

/// The suite of RFC 9807's vectors: ours, with the PIN as it is instead of Argon2id.
struct RfcSuite;

impl CipherSuite for RfcSuite {
    type OprfCs = <Suite as CipherSuite>::OprfCs;
    type KeyExchange = <Suite as CipherSuite>::KeyExchange;
    type Ksf = Identity;
}

/// Randomness that was written down beforehand. Panics when asked for more.
struct Script(VecDeque<u8>);

impl Script {
    fn new(parts: &[&[u8]]) -> Self {
        Self(parts.concat().into())
    }
}

impl TryRng for Script {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unreachable!("the suite draws bytes")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unreachable!("the suite draws bytes")
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill_with(|| self.0.pop_front().expect("more randomness than was written down"));
        Ok(())
    }
}

impl TryCryptoRng for Script {}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn read(file: &str) -> serde_json::Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// One vector of the RFC.
struct Vector<'a>(&'a serde_json::Value);

impl Vector<'_> {
    fn input(&self, name: &str) -> Vec<u8> {
        unhex(self.0["inputs"][name].as_str().unwrap())
    }

    fn expect(&self, name: &str, bytes: &[u8]) {
        assert_eq!(self.0["outputs"][name], hex(bytes), "{}: {name}", self.0["name"]);
    }

    fn setup(&self, fake_public_key: &[u8]) -> ServerSetup<RfcSuite> {
        let bytes = [self.input("oprf_seed"), self.input("server_private_key"), fake_public_key.to_vec()].concat();
        ServerSetup::deserialize(&bytes).unwrap()
    }
}

#[test]
fn the_suite_gives_the_published_vectors_of_rfc_9807() {
    let vectors = read("rfc9807-p256-sha256.json");
    for vector in vectors["real"].as_array().unwrap() {
        let vector = Vector(vector);
        let optional = |name: &str| vector.0["inputs"][name].as_str().map(unhex);
        let (client, server) = (optional("client_identity"), optional("server_identity"));
        let identifiers = Identifiers { client: client.as_deref(), server: server.as_deref() };
        let (password, context) = (vector.input("password"), vector.input("context"));
        let credential = vector.input("credential_identifier");
        let setup = vector.setup(&vector.input("server_public_key"));
        assert_eq!(setup.keypair().public().serialize().as_slice(), vector.input("server_public_key"));

        let mut rng = Script::new(&[&vector.input("blind_registration"), &vector.input("envelope_nonce")]);
        let started = ClientRegistration::<RfcSuite>::start(&mut Randomness(&mut rng), &password).unwrap();
        vector.expect("registration_request", &started.message.serialize());
        let answer = ServerRegistration::<RfcSuite>::start(&setup, started.message, &credential).unwrap().message;
        vector.expect("registration_response", &answer.serialize());
        let parameters = ClientRegistrationFinishParameters::new(identifiers, None);
        let upload = started.state.finish(&mut Randomness(&mut rng), &password, answer, parameters).unwrap().message;
        vector.expect("registration_upload", &upload.serialize());
        let record = ServerRegistration::<RfcSuite>::finish(upload);
        assert!(rng.0.is_empty());

        let mut rng = Script::new(
            &["blind_login", "client_keyshare_seed", "client_nonce"]
                .map(|n| vector.input(n))
                .each_ref()
                .map(Vec::as_slice),
        );
        let started = ClientLogin::<RfcSuite>::start(&mut Randomness(&mut rng), &password).unwrap();
        vector.expect("ke1", &started.message.serialize());
        // The masking key of a fake record is drawn in any case.
        let unused = [0; 32];
        let names = ["masking_nonce", "server_keyshare_seed", "server_nonce"].map(|name| vector.input(name));
        let mut server_rng = Script::new(&[&unused, &names[0], &names[1], &names[2]]);
        let parameters = || ServerLoginParameters { context: Some(&context), identifiers };
        let begun = ServerLogin::start(
            &mut Randomness(&mut server_rng),
            &setup,
            Some(record),
            started.message,
            &credential,
            parameters(),
        );
        let begun = begun.unwrap();
        vector.expect("ke2", &begun.message.serialize());
        assert!(server_rng.0.is_empty());
        let ours = ClientLoginFinishParameters::new(Some(&context), identifiers, None);
        let finished = started.state.finish(&mut Randomness(&mut rng), &password, begun.message, ours).unwrap();
        vector.expect("ke3", &finished.message.serialize());
        vector.expect("session_key", &finished.session_key);
        let key = begun.state.finish(finished.message, parameters()).unwrap().session_key;
        vector.expect("session_key", &key);
    }
}

#[test]
fn the_answer_for_an_app_that_does_not_exist_is_the_published_fake_one() {
    let vectors = read("rfc9807-p256-sha256.json");
    let vector = Vector(&vectors["fake"][0]);
    let setup = vector.setup(&vector.input("client_public_key"));
    let (client, server) = (vector.input("client_identity"), vector.input("server_identity"));
    let context = vector.input("context");
    let names = ["masking_key", "masking_nonce", "server_keyshare_seed", "server_nonce"].map(|name| vector.input(name));
    let mut rng = Script::new(&[&names[0], &names[1], &names[2], &names[3]]);
    let identifiers = Identifiers { client: Some(&client), server: Some(&server) };
    let begun = ServerLogin::<RfcSuite>::start(
        &mut Randomness(&mut rng),
        &setup,
        None,
        CredentialRequest::deserialize(&vector.input("ke1")).unwrap(),
        &vector.input("credential_identifier"),
        ServerLoginParameters { context: Some(&context), identifiers },
    );
    vector.expect("ke2", &begun.unwrap().message.serialize());
}

/// One exchange of ours, with all randomness fixed.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Frozen {
    app: String,
    pin: String,
    setup: String,
    blind_registration: String,
    envelope_nonce: String,
    blind_login: String,
    client_keyshare_seed: String,
    client_nonce: String,
    unused_masking_key: String,
    masking_nonce: String,
    server_keyshare_seed: String,
    server_nonce: String,
    registration_request: String,
    registration_response: String,
    registration_upload: String,
    ke1: String,
    ke2: String,
    ke3: String,
    session_key: String,
}

/// Bytes that nobody chose: the hash of what they are for.
fn fixed(purpose: &str) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(format!("handoff/1 test vector: {purpose}")).into()
}

fn frozen() -> Frozen {
    let draw =
        |names: &[&str]| Script::new(&names.iter().map(|name| fixed(name)).collect::<Vec<_>>().each_ref_slices());
    let setup = Setup::random(&mut draw(&["pin: server private key", "pin: oprf seed", "pin: fake private key"]));
    let mut rng = draw(&["pin: blind registration", "pin: envelope nonce"]);
    let (registration, request) = Registration::start(PIN, &mut rng).unwrap();
    let response = setup.respond(&APP, &request).unwrap();
    let upload = registration.finish(&APP, &response, &mut rng).unwrap();
    let mut rng = draw(&["pin: blind login", "pin: client keyshare seed", "pin: client nonce"]);
    let (login, ke1) = Login::start(PIN, &mut rng).unwrap();
    let server = ["pin: unused masking key", "pin: masking nonce", "pin: server keyshare seed", "pin: server nonce"];
    let (ke2, state) = setup.begin_login(&APP, Some(&upload), &ke1, &mut draw(&server)).unwrap();
    let (ke3, key) = login.finish(&APP, &ke2, &mut rng).unwrap();
    assert_eq!(finish_login(&APP, &state, &ke3).unwrap(), key);
    let input = |name: &str| hex(&fixed(&format!("pin: {name}")));
    Frozen {
        app: hex(&APP),
        pin: std::str::from_utf8(PIN).unwrap().to_owned(),
        setup: hex(&setup.to_bytes()),
        blind_registration: input("blind registration"),
        envelope_nonce: input("envelope nonce"),
        blind_login: input("blind login"),
        client_keyshare_seed: input("client keyshare seed"),
        client_nonce: input("client nonce"),
        unused_masking_key: input("unused masking key"),
        masking_nonce: input("masking nonce"),
        server_keyshare_seed: input("server keyshare seed"),
        server_nonce: input("server nonce"),
        registration_request: hex(&request),
        registration_response: hex(&response),
        registration_upload: hex(&upload),
        ke1: hex(&ke1),
        ke2: hex(&ke2),
        ke3: hex(&ke3),
        session_key: hex(&*key),
    }
}

/// Slices of a vector of arrays.
trait EachRefSlices {
    fn each_ref_slices(&self) -> Vec<&[u8]>;
}

impl EachRefSlices for Vec<[u8; 32]> {
    fn each_ref_slices(&self) -> Vec<&[u8]> {
        self.iter().map(<[u8; 32]>::as_slice).collect()
    }
}

#[test]
fn our_exchange_is_the_frozen_one_byte_for_byte() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/personal-pin.json");
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&frozen()).unwrap() + "\n").unwrap();
    }
    let kept: Frozen = serde_json::from_value(read("personal-pin.json")).unwrap();
    assert_eq!(frozen(), kept, "run with UPDATE_VECTORS=1, see the diff");
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(1)
}

fn registered(setup: &Setup, pin: &[u8]) -> [u8; REGISTRATION_UPLOAD] {
    let mut rng = rng();
    let (registration, request) = Registration::start(pin, &mut rng).unwrap();
    let response = setup.respond(&APP, &request).unwrap();
    registration.finish(&APP, &response, &mut rng).unwrap()
}

#[test]
fn only_the_registered_pin_opens_and_the_client_knows_at_once() {
    let setup = Setup::random(&mut rng());
    let record = registered(&setup, PIN);
    check_upload(&record).unwrap();
    let (login, ke1) = Login::start(PIN, &mut rng()).unwrap();
    let (ke2, state) = setup.begin_login(&APP, Some(&record), &ke1, &mut rng()).unwrap();
    let (ke3, key) = login.finish(&APP, &ke2, &mut rng()).unwrap();
    assert_eq!(finish_login(&APP, &state, &ke3).unwrap(), key);

    let (login, ke1) = Login::start(b"493828", &mut rng()).unwrap();
    let (ke2, state) = setup.begin_login(&APP, Some(&record), &ke1, &mut rng()).unwrap();
    assert_eq!(login.finish(&APP, &ke2, &mut rng()).unwrap_err(), OpaqueError::Wrong);
    assert_eq!(finish_login(&APP, &state, &ke3).unwrap_err(), OpaqueError::Wrong, "an older KE3 is no proof");
    assert_eq!(finish_login(&APP, &state, &[0; KE3]).unwrap_err(), OpaqueError::Wrong);
}

#[test]
fn a_record_is_worth_nothing_for_another_app_or_under_another_setup() {
    let (setup, other) = (Setup::random(&mut rng()), Setup::random(&mut StdRng::seed_from_u64(2)));
    let record = registered(&setup, PIN);
    for (setup, app) in [(&setup, [8; 16]), (&other, APP)] {
        let (login, ke1) = Login::start(PIN, &mut rng()).unwrap();
        let (ke2, _) = setup.begin_login(&app, Some(&record), &ke1, &mut rng()).unwrap();
        assert_eq!(login.finish(&app, &ke2, &mut rng()).unwrap_err(), OpaqueError::Wrong);
    }
}

#[test]
fn an_app_without_a_record_gets_an_answer_like_any_other_and_never_opens() {
    let setup = Setup::random(&mut rng());
    let (login, ke1) = Login::start(PIN, &mut rng()).unwrap();
    let (ke2, _) = setup.begin_login(&APP, None, &ke1, &mut rng()).unwrap();
    assert_eq!(login.finish(&APP, &ke2, &mut rng()).unwrap_err(), OpaqueError::Wrong);
}

#[test]
fn a_setup_comes_back_from_its_bytes_and_is_not_printed() {
    let setup = Setup::random(&mut rng());
    let again = Setup::from_bytes(&array(&setup.to_bytes()).unwrap()).unwrap();
    assert_eq!(again.to_bytes(), setup.to_bytes());
    assert_eq!(again.public_key(), setup.public_key());
    assert_eq!(Setup::from_bytes(&[0; server::SETUP]).unwrap_err(), OpaqueError::Malformed);
    assert_eq!(format!("{setup:?}"), "Setup { .. }");
}

#[test]
fn a_point_has_one_encoding() {
    const COMPACT: u8 = 5;
    let setup = Setup::random(&mut rng());
    let (_, request) = Registration::start(PIN, &mut rng()).unwrap();
    let (_, ke1) = Login::start(PIN, &mut rng()).unwrap();
    let upload = registered(&setup, PIN);
    let compact = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] = COMPACT;
        bytes
    };
    let malformed = Some(OpaqueError::Malformed);
    assert_eq!(setup.respond(&APP, &array(&compact(&request, 0)).unwrap()).err(), malformed);
    for point in [0, 65] {
        let ke1 = array(&compact(&ke1, point)).unwrap();
        assert_eq!(setup.begin_login(&APP, Some(&upload), &ke1, &mut rng()).err(), malformed);
    }
    assert_eq!(check_upload(&array(&compact(&upload, 0)).unwrap()).err(), malformed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// What anybody can send: no bytes panic, and none pass for a proof.
    #[test]
    fn no_bytes_panic(seed: u64, first in (0..=u8::MAX).prop_filter("a point may be one", |first| !(2..=3).contains(first))) {
        let mut random = StdRng::seed_from_u64(seed);
        let setup = Setup::random(&mut rng());
        let mut bytes = [0; KE2];
        random.fill_bytes(&mut bytes);
        // Every message begins with a point; every 256th number is one.
        bytes[0] = first;
        prop_assert!(setup.respond(&APP, &array(&bytes[..REGISTRATION_REQUEST]).unwrap()).is_err());
        prop_assert!(setup.begin_login(&APP, None, &array(&bytes[..KE1]).unwrap(), &mut random).is_err());
        prop_assert!(check_upload(&array(&bytes[..REGISTRATION_UPLOAD]).unwrap()).is_err());
        let state = array(&bytes[..server::LOGIN]).unwrap();
        prop_assert_eq!(finish_login(&APP, &state, &array(&bytes[..KE3]).unwrap()).unwrap_err(), OpaqueError::Wrong);
        let (login, _) = Login::start(PIN, &mut random).unwrap();
        prop_assert!(login.finish(&APP, &bytes, &mut random).is_err());
        let (registration, _) = Registration::start(PIN, &mut random).unwrap();
        let response = array(&bytes[..REGISTRATION_RESPONSE]).unwrap();
        prop_assert!(registration.finish(&APP, &response, &mut random).is_err());
    }
}
