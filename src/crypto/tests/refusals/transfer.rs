//! Credential frames and receipts that must not open.

use super::super::inputs::fixed;
use super::super::model::{Transfer, piece, receipt_statement, sign};
use super::*;

pub(super) fn credentials(list: &mut List) {
    let (inputs, good) = (list.inputs.clone(), list.good.clone());
    let chunk = |seq, total, offset, data: &[u8]| good.chunk(&inputs, seq, &piece(total, offset, data)).frame;
    let first = chunk(1, 5000, 0, &[1; 4084]);
    let second = chunk(2, 5000, 4084, &[1; 916]);
    let padded = pad(&piece(1, 0, &[1]));
    let seal = |header: Vec<u8>, seq, session: &[u8], transcript: &[u8], padded: &[u8]| {
        list.seal_response(header, seq, session, transcript, padded)
    };
    let (session, th1, th2) = (&*inputs.session_id, &*good.transcript_hash_1, &*good.transcript_hash_2);
    let other_session = *SessionId::from_random([1; 16]).as_bytes();
    let not_minimal = [padded.as_slice(), &[0; 1024]].concat();
    let alone = [
        ("credential_that_is_the_reply", "the reply once more", good.reply.frame.to_vec()),
        ("credential_skipping_a_frame", "seq 2 where 1 is expected", second.to_vec()),
        ("credential_in_the_other_direction", "direction 2", seal(header(2, 3, 1), 1, session, th2, &padded)),
        ("credential_of_another_type", "type 2", seal(header(1, 2, 1), 1, session, th2, &padded)),
        ("credential_under_nonce_0", "the reply's nonce used again", seal(header(1, 3, 1), 0, session, th2, &padded)),
        ("credential_of_another_session", "session id", seal(header(1, 3, 1), 1, &other_session, th2, &padded)),
        ("credential_before_the_reply", "transcript_hash_1", seal(header(1, 3, 1), 1, session, th1, &padded)),
        ("credential_padded_too_far", "a kilobyte more", seal(header(1, 3, 1), 1, session, th2, &not_minimal)),
        ("credential_too_large", "total is 262145", chunk(1, 262_145, 0, &[1; 4084]).0),
        ("credential_starting_late", "the first offset is 1", chunk(1, 5000, 1, &[1; 4084]).0),
        ("credential_frame_too_large", "4085 bytes of data", chunk(1, 5000, 0, &[1; 4085]).0),
        ("credential_frame_beyond_total", "more data than total", chunk(1, 1, 0, &[1; 2]).0),
        ("credential_frame_without_data", "only an empty credential has an empty frame", chunk(1, 1, 0, &[]).0),
        ("credential_of_nothing_with_data", "total is 0, and there is a byte", chunk(1, 0, 0, &[1]).0),
        ("credential_of_nothing_with_offset", "total is 0, and the offset 1", chunk(1, 0, 1, &[]).0),
        ("credential_frame_without_offset", "the message is cut", good.chunk(&inputs, 1, &[0; 7]).frame.0),
    ];
    let after_first = [
        ("credential_frame_replayed", "the first frame once more", first.to_vec()),
        ("credential_frame_resealed", "the first piece under seq 2", chunk(2, 5000, 0, &[1; 4084]).0),
        ("credential_changing_its_total", "total is 5001 in the second frame", chunk(2, 5001, 4084, &[1; 917]).0),
        ("credential_with_a_gap", "an offset too high", chunk(2, 5000, 4085, &[1; 915]).0),
        ("credential_with_an_overlap", "an offset too low", chunk(2, 5000, 4083, &[1; 917]).0),
        ("credential_longer_than_total", "one byte too many", chunk(2, 5000, 4084, &[1; 917]).0),
        ("credential_offset_overflowing", "offset is 2^32 - 1", chunk(2, 5000, u32::MAX, &[1; 1]).0),
    ];
    let transfer = list.transfer.to_owned();
    let good = Step::OpenCredentialFrame { transfer, frames_before: vec![first.clone()], frame: second };
    assert_eq!(good.run(), None);
    for (name, description, frame) in alone {
        list.chunk(name, description, &[], frame);
    }
    for (name, description, frame) in after_first {
        list.chunk(name, description, &[&first], frame);
    }
}

pub(super) fn receipts(list: &mut List) {
    let (inputs, good) = (list.inputs.clone(), list.good.clone());
    let right = Transfer::of("", &inputs, &good, CREDENTIAL);
    let (th1, th2) = (&*good.transcript_hash_1, &*good.transcript_hash_2);
    let key = &inputs.device_private_key;
    let (digest, other) = (sha256(&[CREDENTIAL]), sha256(&[b"another credential"]));
    let message = |digest: &[u8], signature: &[u8]| [digest, signature].concat();
    let signed = |private: &[u8], transcript: &[u8], digest: &[u8]| {
        message(digest, &sign(private, &receipt_statement(transcript, digest)))
    };
    let seal = |plaintext: Vec<u8>| good.receipt(&inputs, header(2, 4, 1), th2, plaintext).frame.0;
    let genuine = signed(key, th2, &digest);
    assert_eq!(Hex(seal(genuine.clone())), right.receipt.frame);
    let flipped = [&genuine[..95], &[genuine[95] ^ 1]].concat();
    let der = p256::ecdsa::Signature::from_slice(&genuine[32..]).unwrap().to_der().as_bytes().to_vec();
    let another_key = fixed("another device");
    let sealed_as =
        |header: Vec<u8>, transcript: &[u8]| good.receipt(&inputs, header, transcript, genuine.clone()).frame.0;
    let frames = [
        ("receipt_for_another_credential", "rightly signed", seal(signed(key, th2, &other))),
        ("receipt_with_a_wrong_signature", "the last bit flipped", seal(flipped)),
        ("receipt_signed_by_another_key", "not the hello's", seal(signed(&another_key, th2, &digest))),
        ("receipt_signed_too_early", "over transcript_hash_1", seal(signed(key, th1, &digest))),
        ("receipt_signed_over_the_digest", "no label, no hash", seal(message(&digest, &sign(key, &digest)))),
        ("receipt_with_a_der_signature", "r and s are not fixed", seal(message(&digest, &der))),
        ("receipt_with_a_zero_signature", "r and s are 0", seal(message(&digest, &[0; 64]))),
        ("receipt_without_signature", "the digest alone", seal(digest.to_vec())),
        ("receipt_with_more_behind_it", "one byte more", seal([&genuine[..], &[0]].concat())),
        ("receipt_in_the_other_direction", "direction 1", sealed_as(header(1, 4, 1), th2)),
        ("receipt_of_another_type", "type 1", sealed_as(header(2, 1, 1), th2)),
        ("receipt_with_number_0", "seq 0", sealed_as(header(2, 4, 0), th2)),
        ("receipt_with_number_2", "seq 2", sealed_as(header(2, 4, 2), th2)),
        ("receipt_before_the_reply", "transcript_hash_1", sealed_as(header(2, 4, 1), th1)),
        ("receipt_that_is_the_hello", "the hello once more", good.hello.frame.to_vec()),
        ("receipt_under_the_hellos_nonce", "the first message of the context", first_of_the_context(list)),
        ("receipt_cut_short", "one byte less", right.receipt.frame[..right.receipt.frame.len() - 1].to_vec()),
        ("receipt_without_body", "the header alone", right.receipt.frame[..12].to_vec()),
    ];
    for (name, description, frame) in frames {
        list.receipt(name, description, frame);
    }
}

/// A receipt sealed as if there had been no hello.
fn first_of_the_context(list: &List) -> Vec<u8> {
    let right = Transfer::of("", &list.inputs, &list.good, CREDENTIAL).receipt;
    let (_, mut context) = upstream(&list.inputs, list.good.derived.setup());
    [&*right.header, &context.seal(&right.aad, &right.padded_plaintext).unwrap()].concat()
}
