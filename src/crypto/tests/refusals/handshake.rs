//! Hellos and replies that must not open.

use hpke::aead::{AeadCtxS, AesGcm256};
use hpke::kdf::HkdfSha256;
use hpke::{Deserializable as _, OpModeS};

use super::super::inputs::Device;
use super::super::model::Derived;
use super::*;

pub(super) fn hellos(list: &mut List) {
    let other_frame = Derived::of(&list.inputs, list.inputs.frame - 1);
    let with_nonce = Inputs { proximity_nonce: vec![1; 16].into(), ..list.inputs.clone() };
    let with_nonce = Derived::of(&with_nonce, list.inputs.frame);
    let of = |change: fn(&mut Setup)| {
        let mut setup = list.good.derived.setup();
        change(&mut setup);
        list.seal_good_hello(setup)
    };
    let sealed = |header: Vec<u8>| {
        let padded = &list.good.hello.padded_plaintext;
        list.seal_hello(list.good.derived.setup(), &header, &list.inputs.session_id, padded)
    };
    let other_session = SessionId::from_random([1; 16]);
    let padded = list.good.hello.padded_plaintext.clone();
    let good = list.good.hello.frame.clone();
    let seal =
        |session: &[u8], padded: &[u8]| list.seal_hello(list.good.derived.setup(), &header(2, 1, 0), session, padded);
    assert_eq!(Hex(list.seal_good_hello(list.good.derived.setup())), good);
    let not_zero = [&padded[..1023], &[1]].concat();
    let not_minimal = [&*padded, &[0; 1024]].concat();
    let frames: Vec<(&str, &str, Vec<u8>)> = vec![
        ("hello_for_another_suite", "info names suite 2", of(|setup| setup.info[18] = 2)),
        ("hello_for_another_qr_code", "info has another qr_hash", of(|setup| setup.info[19] ^= 1)),
        ("hello_with_another_psk_id", "psk_id names another frame", of(|setup| setup.psk_id[16] ^= 1)),
        ("hello_from_an_earlier_frame", "sealed from the frame before", list.seal_good_hello(other_frame.setup())),
        ("hello_with_a_proximity_nonce", "old has none", list.seal_good_hello(with_nonce.setup())),
        ("hello_without_psk", "HPKE in mode base", hello_in_mode_base(list)),
        ("hello_of_another_session", "the AAD has another session id", seal(other_session.as_bytes(), &padded)),
        ("hello_without_session_id", "the AAD is the header alone", seal(&[], &padded)),
        ("hello_in_the_other_direction", "sealed with direction 1", sealed(header(1, 1, 0))),
        ("hello_of_another_type", "sealed with type 4", sealed(header(2, 4, 0))),
        ("hello_with_number_1", "sealed with seq 1", sealed(header(2, 1, 1))),
        ("hello_of_another_version", "sealed with version 2", sealed([&[2], &header(2, 1, 0)[1..]].concat())),
        ("hello_with_a_flag", "sealed with flags 1", sealed([&[1, 2, 1, 1], &header(2, 1, 0)[4..]].concat())),
        ("hello_padded_with_ones", "the last byte is not zero", seal(&list.inputs.session_id, &not_zero)),
        ("hello_padded_too_far", "a kilobyte more than needed", seal(&list.inputs.session_id, &not_minimal)),
        ("hello_not_padded", "the message alone", seal(&list.inputs.session_id, &list.good.hello.plaintext)),
        ("hello_cut_short", "one byte less", good[..good.len() - 1].to_vec()),
        ("hello_with_a_byte_more", "one byte more", [&*good, &[0]].concat()),
        ("hello_without_ciphertext", "the encapsulated key alone", good[..12 + 2 + 65].to_vec()),
        ("hello_without_body", "the header alone", good[..12].to_vec()),
    ];
    for (name, description, frame) in frames {
        list.hello(name, description, frame);
    }
    let transfer = list.transfer.to_owned();
    let step = Step::OpenHello { transfer: transfer.clone(), joined_frame: list.inputs.frame + 1, frame: good.clone() };
    list.add("does_not_open", "hello_after_a_join_with_another_frame", "the relay said another frame", step);
    let step = Step::OpenHello { transfer, joined_frame: list.inputs.frames, frame: good };
    list.add("does_not_open", "hello_after_a_join_with_no_frame", "the relay said a frame that there is not", step);
}

fn hello_in_mode_base(list: &List) -> Vec<u8> {
    let public = <DhP256HkdfSha256 as hpke::Kem>::PublicKey::from_bytes(&list.inputs.recipient_public_key).unwrap();
    let mut script = Script::new(&[&list.inputs.encapsulation_randomness]);
    let info = &list.good.derived.info;
    let (enc, mut context): (_, AeadCtxS<AesGcm256, HkdfSha256, DhP256HkdfSha256>) =
        hpke::setup_sender_with_rng(&OpModeS::Base, &public, info, &mut script).unwrap();
    let ciphertext = context.seal(&list.good.hello.padded_plaintext, &list.good.hello.aad).unwrap();
    hello_frame(&header(2, 1, 0), &enc.to_bytes(), &ciphertext)
}

pub(super) fn hello_messages(list: &mut List) {
    let key = list.inputs.device_public_key.clone();
    let device = list.inputs.new_device.encode();
    let hello = |key: &[u8], device: &[u8], nonce: &[u8]| {
        [&u16::try_from(key.len()).unwrap().to_be_bytes(), key, device, nonce].concat()
    };
    let named = |model: &str| Device { model: model.to_owned(), version: String::new() }.encode();
    assert_eq!(Hex(list.seal_hello_of(&hello(&key, &device, &list.inputs.hello_nonce))), list.good.hello.frame);
    let messages = [
        ("hello_with_a_short_nonce", "31 bytes", hello(&key, &device, &[1; 31])),
        ("hello_with_a_long_nonce", "33 bytes", hello(&key, &device, &[1; 33])),
        ("hello_with_a_long_model", "65 bytes", hello(&key, &named(&"x".repeat(65)), &[1; 32])),
        ("hello_with_a_line_break", "a control character", hello(&key, &named("a\nb"), &[1; 32])),
        ("hello_with_a_c1_control", "U+0085 in the model", hello(&key, &named("a\u{85}b"), &[1; 32])),
        ("hello_not_utf_8", "the model is not UTF-8", hello(&key, &[1, 0xff, 0], &[1; 32])),
        ("hello_empty", "no message", vec![]),
    ];
    for (name, description, message) in messages {
        let frame = list.seal_hello_of(&message);
        list.hello(name, description, frame);
    }
    for (kind, point) in bad_points() {
        let frame = list.seal_hello_of(&hello(&point, &device, &[1; 32]));
        list.hello(&format!("hello_with_signing_key_{kind}"), "the signing key is no uncompressed P-256 point", frame);
    }
}

pub(super) fn encapsulated_keys(list: &mut List) {
    let ciphertext = list.good.hello.ciphertext.clone();
    for (kind, point) in bad_points() {
        let frame = hello_frame(&header(2, 1, 0), &point, &ciphertext);
        list.hello(&format!("hello_with_encapsulated_key_{kind}"), "enc is no uncompressed P-256 point", frame);
    }
    let public = list.inputs.recipient_public_key.clone();
    let frame = hello_frame(&header(2, 1, 0), &public, &ciphertext);
    list.hello("hello_with_the_recipients_own_key", "enc is old's public key", frame);
}

pub(super) fn replies(list: &mut List) {
    let (good, session) = (list.good.reply.clone(), list.inputs.session_id.clone());
    let (th1, th2) = (list.good.transcript_hash_1.clone(), list.good.transcript_hash_2.clone());
    let nonce = list.inputs.response_nonce.clone();
    let reply = |header: Vec<u8>, seq: u64, session: &[u8], transcript: &[u8], padded: &[u8]| {
        let sealed = list.seal_response(header, seq, session, transcript, padded);
        [&sealed[..12], &nonce, &sealed[12..]].concat()
    };
    let padded = &good.padded_plaintext;
    assert_eq!(Hex(reply(header(1, 2, 0), 0, &session, &th1, padded)), good.frame);
    let other_session = *SessionId::from_random([1; 16]).as_bytes();
    let longer = pad(&[&*good.plaintext, &[0]].concat());
    let short = pad(&good.plaintext[..good.plaintext.len() - 1]);
    let other_nonce = [&good.frame[..12], &[0; 32], &good.frame[44..]].concat();
    let frames = [
        ("reply_that_is_the_hello", "new's own frame, sent back", list.good.hello.frame.to_vec()),
        ("reply_in_the_other_direction", "sealed with direction 2", reply(header(2, 2, 0), 0, &session, &th1, padded)),
        ("reply_of_another_type", "sealed with type 3", reply(header(1, 3, 0), 0, &session, &th1, padded)),
        ("reply_with_number_1", "sealed with seq 1 and nonce 1", reply(header(1, 2, 1), 1, &session, &th1, padded)),
        ("reply_under_nonce_1", "seq 0 in the header only", reply(header(1, 2, 0), 1, &session, &th1, padded)),
        ("reply_of_another_session", "another session id", reply(header(1, 2, 0), 0, &other_session, &th1, padded)),
        ("reply_to_another_hello", "another transcript hash", reply(header(1, 2, 0), 0, &session, &th2, padded)),
        ("reply_without_transcript", "no transcript hash", reply(header(1, 2, 0), 0, &session, &[], padded)),
        ("reply_with_another_nonce", "the response nonce exchanged", other_nonce),
        ("reply_with_more_behind_it", "a byte behind the version", reply(header(1, 2, 0), 0, &session, &th1, &longer)),
        ("reply_cut_inside", "the version is cut", reply(header(1, 2, 0), 0, &session, &th1, &short)),
        ("reply_cut_short", "one byte less", good.frame[..good.frame.len() - 1].to_vec()),
        ("reply_without_ciphertext", "header and nonce alone", good.frame[..44].to_vec()),
        ("reply_without_body", "the header alone", good.frame[..12].to_vec()),
    ];
    for (name, description, frame) in frames {
        list.reply(name, description, frame);
    }
}

pub(super) fn hybrids(list: &mut List) {
    let (enc, ciphertext) = (list.good.encapsulated_key.clone(), list.good.hello.ciphertext.clone());
    let (lattice, point) = enc.split_at(enc.len() - 65);
    let garbled = [&enc[..500], &[enc[500] ^ 1], &enc[501..]].concat();
    for (name, description, enc) in [
        ("hybrid_enc_garbled", "a bit of the ML-KEM ciphertext, which rejects implicitly", garbled),
        ("hybrid_enc_cut_short", "one byte less", enc[..enc.len() - 1].to_vec()),
        ("hybrid_enc_with_a_byte_more", "one byte more", [&*enc, &[0]].concat()),
        ("hybrid_enc_without_point", "the ML-KEM ciphertext alone", lattice.to_vec()),
        ("hybrid_enc_without_lattice", "the point alone", point.to_vec()),
        ("hybrid_enc_with_point_at_infinity", "zeros for a point", [lattice, &[0; 65]].concat()),
        ("hybrid_enc_off_curve", "a point off the curve", [&enc[..enc.len() - 1], &[enc[enc.len() - 1] ^ 1]].concat()),
    ] {
        let frame = hello_frame(&header(2, 1, 0), &enc, &ciphertext);
        list.hello(name, description, frame);
    }
    let without = Inputs { proximity_nonce: Hex::default(), ..list.inputs.clone() };
    let frame = list.seal_good_hello(Derived::of(&without, 0).setup());
    list.hello("hybrid_hello_without_proximity_nonce", "the pre-shared key lacks the nonce", frame);
    let other = Inputs { proximity_nonce: vec![1; 16].into(), ..list.inputs.clone() };
    let frame = list.seal_good_hello(Derived::of(&other, 0).setup());
    list.hello("hybrid_hello_with_another_proximity_nonce", "the nonce of another device", frame);

    let payload = [&list.good.derived.qr_payload[..2], &[0], &list.good.derived.qr_payload[3..]].concat();
    let public = list.inputs.recipient_public_key.clone();
    let (lattice, point) = public.split_at(public.len() - 65);
    for (name, description, key) in [
        ("hybrid_key_with_large_coefficients", "not below q", [&vec![0xff; lattice.len()], point].concat()),
        ("hybrid_key_with_point_at_infinity", "zeros for a point", [lattice, &[0; 65]].concat()),
        ("hybrid_key_without_lattice", "the point alone", point.to_vec()),
        ("hybrid_key_cut_short", "one byte less", public[..public.len() - 1].to_vec()),
    ] {
        let step = accept_under_its_own_hash(&payload, &key);
        list.add("bad_key", name, description, step);
    }
}
