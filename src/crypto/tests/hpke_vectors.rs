//! HPKE against the official vectors of RFC 9180 (DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM), in exactly the
//! instantiation of suite 1, and both suites against keys and encapsulations that are no such thing.

use hpke::aead::{AeadCtxR, AeadCtxS, AesGcm256};
use hpke::kdf::HkdfSha256;
use hpke::kem::DhP256HkdfSha256;
use hpke::{Kem as _, OpModeR, OpModeS, Serializable as _};
use zeroize::Zeroizing;

use super::super::suite::{self, Psk, SecretKey, Setup};
use super::*;
use crate::protocol::ids::PublishedKey;

#[derive(Deserialize)]
struct Vector {
    mode: u8,
    kem_id: u16,
    kdf_id: u16,
    aead_id: u16,
    info: Hex,
    #[serde(rename = "ikmR")]
    ikm_r: Hex,
    #[serde(rename = "ikmE")]
    ikm_e: Hex,
    #[serde(rename = "skRm")]
    sk_r: Hex,
    #[serde(rename = "skEm")]
    sk_e: Hex,
    #[serde(rename = "pkRm")]
    pk_r: Hex,
    #[serde(rename = "pkEm")]
    pk_e: Hex,
    enc: Hex,
    shared_secret: Hex,
    #[serde(default)]
    psk: Hex,
    #[serde(default)]
    psk_id: Hex,
    encryptions: Vec<Encryption>,
    exports: Vec<Export>,
}

#[derive(Deserialize)]
struct Encryption {
    aad: Hex,
    ct: Hex,
    pt: Hex,
}

#[derive(Deserialize)]
struct Export {
    exporter_context: Hex,
    #[serde(rename = "L")]
    length: usize,
    exported_value: Hex,
}

fn official(mode: u8) -> Vector {
    let file = include_str!("../../../tests/vectors/rfc9180-p256-sha256-aes256gcm.json");
    let vectors: Vec<Vector> = serde_json::from_str(file).unwrap();
    let vector = vectors.into_iter().find(|vector| vector.mode == mode).unwrap();
    assert_eq!((vector.kem_id, vector.kdf_id, vector.aead_id), (0x0010, 0x0001, 0x0002));
    vector
}

#[test]
fn keys_encapsulations_and_shared_secrets_are_those_of_rfc_9180() {
    for vector in [official(0), official(1)] {
        let (secret, public) = DhP256HkdfSha256::derive_keypair(&vector.ikm_r);
        assert_eq!((Hex::from(secret.to_bytes()), Hex::from(public.to_bytes())), (vector.sk_r, vector.pk_r));
        let (ephemeral, public_ephemeral) = DhP256HkdfSha256::derive_keypair(&vector.ikm_e);
        assert_eq!(Hex::from(ephemeral.to_bytes()), vector.sk_e);
        assert_eq!(Hex::from(public_ephemeral.to_bytes()), vector.pk_e);

        let mut script = Script::new(&[&vector.ikm_e]);
        let (sent, enc) = DhP256HkdfSha256::encap_with_rng(&public, None, &mut script).unwrap();
        let received = DhP256HkdfSha256::decap(&secret, None, &enc).unwrap();
        assert_eq!(Hex::from(enc.to_bytes()), vector.enc);
        assert_eq!(Hex::from(sent.0), vector.shared_secret);
        assert_eq!(Hex::from(received.0), vector.shared_secret);
    }
}

#[test]
fn mode_base_is_that_of_rfc_9180() {
    let vector = official(0);
    let (secret, public) = DhP256HkdfSha256::derive_keypair(&vector.ikm_r);
    let mut script = Script::new(&[&vector.ikm_e]);
    let (enc, mut sender): (_, AeadCtxS<AesGcm256, HkdfSha256, DhP256HkdfSha256>) =
        hpke::setup_sender_with_rng(&OpModeS::Base, &public, &vector.info, &mut script).unwrap();
    let mut receiver: AeadCtxR<AesGcm256, HkdfSha256, DhP256HkdfSha256> =
        hpke::setup_receiver(&OpModeR::Base, &secret, &enc, &vector.info).unwrap();
    for message in first_in_sequence(&vector) {
        assert_eq!(Hex(sender.seal(&message.pt, &message.aad).unwrap()), message.ct);
        assert_eq!(Hex(receiver.open(&message.ct, &message.aad).unwrap()), message.pt);
    }
    for export in &vector.exports {
        let mut value = vec![0; export.length];
        receiver.export(&export.exporter_context, &mut value).unwrap();
        assert_eq!(Hex(value), export.exported_value);
    }
}

#[test]
fn mode_psk_through_our_own_glue_is_that_of_rfc_9180() {
    let vector = official(1);
    let setup = || Setup {
        info: vector.info.to_vec(),
        psk: Psk::new(Zeroizing::new(vector.psk.array())),
        psk_id: vector.psk_id.to_vec(),
    };
    let (secret, public) = SecretKey::generate(Suite::P256, &mut Script::new(&[&vector.ikm_r])).unwrap();
    assert_eq!(Hex::from(public.as_bytes()), vector.pk_r);
    let (enc, mut sender) = suite::send(Suite::P256, &public, setup(), &mut Script::new(&[&vector.ikm_e])).unwrap();
    assert_eq!(Hex::from(&enc), vector.enc);
    let mut receiver = secret.receive(&enc, setup()).unwrap();
    for message in first_in_sequence(&vector) {
        assert_eq!(Hex(sender.seal(&message.aad, &message.pt).unwrap()), message.ct);
        assert_eq!(Hex::from(&*receiver.open(&message.aad, &message.ct).unwrap()), message.pt);
    }
    for export in &vector.exports {
        assert_eq!(export.length, 32);
        assert_eq!(Hex::from(&*sender.export::<32>(&export.exporter_context).unwrap()), export.exported_value);
        assert_eq!(Hex::from(&*receiver.export::<32>(&export.exporter_context).unwrap()), export.exported_value);
    }
}

/// The vectors' messages number 0 and up, as far as they follow each other.
fn first_in_sequence(vector: &Vector) -> impl Iterator<Item = &Encryption> {
    let in_sequence = |(index, message): &(usize, &Encryption)| *message.aad == *format!("Count-{index}").into_bytes();
    let messages: Vec<_> = vector.encryptions.iter().enumerate().take_while(in_sequence).map(|(_, m)| m).collect();
    assert!(messages.len() >= 4);
    messages.into_iter()
}

/// Encodings that must never be taken for a P-256 public key.
pub(super) fn bad_points() -> Vec<(&'static str, Vec<u8>)> {
    let (_, good) = DhP256HkdfSha256::derive_keypair(b"a key pair for bad points");
    let good = good.to_bytes().to_vec();
    let with = |index: usize, value: u8| [&good[..index], &[value], &good[index + 1..]].concat();
    let field = |byte: u8| [[4].as_slice(), &[byte; 64]].concat();
    // The order of the field: the smallest x that is no field element.
    let prime = "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff";
    let prime: Hex = serde_json::from_value(prime.into()).unwrap();
    vec![
        ("empty", vec![]),
        ("point_at_infinity", vec![0]),
        ("point_at_infinity_padded", vec![0; 65]),
        ("coordinates_zero", field(0)),
        ("off_curve", with(64, good[64] ^ 1)),
        ("x_is_the_field_prime", [[4].as_slice(), &prime, &good[33..]].concat()),
        ("y_is_the_field_prime", [[4].as_slice(), &good[1..33], &prime].concat()),
        ("all_ff", vec![0xff; 65]),
        ("coordinates_ff", field(0xff)),
        ("prefix_of_compressed_even", with(0, 2)),
        ("prefix_of_compressed_odd", with(0, 3)),
        ("prefix_of_hybrid_even", with(0, 6)),
        ("prefix_of_hybrid_odd", with(0, 7)),
        ("prefix_of_compact", with(0, 5)),
        ("compressed", [[2 | (good[64] & 1)].as_slice(), &good[1..33]].concat()),
        ("without_prefix", good[1..].to_vec()),
        ("one_byte_short", good[..64].to_vec()),
        ("one_byte_long", [good.as_slice(), &[0]].concat()),
    ]
}

/// Encodings that must never be taken for a key of `good`'s suite: each part bad, missing or too long.
fn bad_hybrids(good: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let (lattice, point) = good.split_at(good.len() - 65);
    let mut bad: Vec<_> = bad_points().into_iter().map(|(name, bytes)| (name, [lattice, &bytes].concat())).collect();
    bad.push(("lattice_part_missing", point.to_vec()));
    bad.push(("point_first", [point, lattice].concat()));
    bad.push(("all_zero", vec![0; good.len()]));
    bad.push(("all_ff", vec![0xff; good.len()]));
    bad
}

fn setup() -> Setup {
    Setup { info: b"info".to_vec(), psk: Psk::new(Zeroizing::new([1; 32])), psk_id: b"id".to_vec() }
}

#[test]
fn bad_public_keys_are_refused_before_anything_is_encapsulated() {
    let (_, hybrid) = SecretKey::generate(Suite::MlKem768P256, &mut rand::rng()).unwrap();
    let out_of_range = [[0xff; 1184].as_slice(), &hybrid.as_bytes()[1184..]].concat();
    let hybrids = bad_hybrids(hybrid.as_bytes());
    let points = bad_points().into_iter().map(|(name, bytes)| (Suite::P256, name, bytes));
    let hybrids = hybrids.into_iter().map(|(name, bytes)| (Suite::MlKem768P256, name, bytes));
    let coefficients = [(Suite::MlKem768P256, "coefficients_out_of_range", out_of_range)];
    for (suite, name, bytes) in points.chain(hybrids).chain(coefficients) {
        let Some(key) = PublishedKey::new(bytes) else { continue };
        let refused = suite::send(suite, &key, setup(), &mut Script::new(&[])).map(|_| ()).unwrap_err();
        assert_eq!(refused, ChannelError::BadKey, "{suite:?} {name}");
    }
}

#[test]
fn bad_encapsulated_keys_do_not_open() {
    for suite in Suite::ALL {
        let (_, public) = SecretKey::generate(suite, &mut rand::rng()).unwrap();
        let (enc, _) = suite::send(suite, &public, setup(), &mut rand::rng()).unwrap();
        let bad = if suite == Suite::P256 { bad_points() } else { bad_hybrids(&enc) };
        for (name, enc) in bad {
            let (secret, _) = SecretKey::generate(suite, &mut rand::rng()).unwrap();
            let refused = secret.receive(&enc, setup()).map(|_| ()).unwrap_err();
            assert_eq!(refused, ChannelError::DoesNotOpen, "{suite:?} {name}");
        }
    }
}

#[test]
fn a_garbled_lattice_ciphertext_decapsulates_to_another_secret() {
    // ML-KEM rejects implicitly: nothing fails before the ciphertext is opened.
    let (secret, public) = SecretKey::generate(Suite::MlKem768P256, &mut rand::rng()).unwrap();
    let (mut enc, mut sender) = suite::send(Suite::MlKem768P256, &public, setup(), &mut rand::rng()).unwrap();
    enc[500] ^= 1;
    let ciphertext = sender.seal(b"", b"hello").unwrap();
    let mut receiver = secret.receive(&enc, setup()).unwrap();
    assert_eq!(receiver.open(b"", &ciphertext).unwrap_err(), ChannelError::DoesNotOpen);
}
