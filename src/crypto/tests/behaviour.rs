//! What the channel does, and what it never does, through its public interface.

use proptest::prelude::*;
use zeroize::ZeroizeOnDrop;

use super::inputs::Inputs;
use super::*;
use crate::protocol::frame::Header;
use crate::protocol::ids::JoinHash;
use crate::protocol::limits;

#[test]
fn a_credential_of_any_size_arrives_with_a_receipt() {
    for suite in Suite::ALL {
        for size in [0, 1, 4083, 4084, 4085, 8168, limits::MAX_CREDENTIAL_BYTES] {
            let credential: Vec<u8> = (0..size).map(|index| index.to_le_bytes()[0]).collect();
            let (sender, complete) = transferred(suite, &credential);
            assert_eq!(sender.progress(), Progress { sent: size, total: size });
            let (arrived, receipt) = complete.finish().unwrap();
            assert_eq!(*arrived, credential);
            assert_eq!(sender.open_receipt(&receipt), Ok(()), "{suite:?} {size}");
        }
    }
}

#[test]
fn both_apps_learn_what_the_other_says_about_itself() {
    let (offer, new, hello) = greeted(Suite::P256);
    let said = DeviceInfo::new("Älteres Gerät", "").unwrap();
    let old = offer.open_hello(7, &Proximity::none(), &hello, &said, &mut rand::rng()).unwrap();
    assert_eq!(old.peer, device());
    assert_eq!(new.open_reply(&old.reply_frame).unwrap().peer, said);
}

#[test]
fn every_frame_has_its_own_secret_and_a_registered_proof() {
    let (offer, _) = offer(Suite::P256);
    let hashes = offer.join_hashes();
    assert_eq!(hashes.len(), 36);
    for frame in 0..36 {
        let payload = offer.qr(frame).unwrap();
        let invitation = Invitation::new(payload.clone(), Proximity::none()).unwrap();
        assert_eq!((invitation.session(), invitation.frame()), (payload.session, frame));
        assert_eq!(JoinHash::of(&invitation.join_proof()), hashes[usize::from(frame)]);
        assert!((0..frame).all(|earlier| offer.qr(earlier).unwrap().frame_secret != payload.frame_secret));
    }
    assert_eq!(offer.qr(36), None);
}

#[test]
fn a_wrong_code_is_the_end_of_the_channel() {
    let (offer, new, hello) = greeted(Suite::P256);
    let old = open_hello(offer, &hello).unwrap();
    let shown: u16 = new.open_reply(&old.reply_frame).unwrap().code.to_string().parse().unwrap();
    let other: CheckCode = (if shown == 9999 { 1000 } else { shown + 1 }).to_string().parse().unwrap();
    assert_eq!(old.channel.confirm(&other).unwrap_err(), WrongCode);
}

#[test]
fn a_relay_cannot_put_a_key_of_its_own_in_place_of_olds() {
    let (_, scanned) = offer(Suite::P256);
    let (relays, _) = offer(Suite::P256);
    let invitation = Invitation::new(scanned, Proximity::none()).unwrap();
    let refused =
        invitation.accept(relays.public_key(), &device(), DeviceKey::generate(&mut rand::rng()), &mut rand::rng());
    assert_eq!(refused.unwrap_err(), ChannelError::KeyMismatch);
}

#[test]
fn demands_that_cannot_be_met_are_refused_on_both_sides() {
    let mutual = Demands { mutual_scan: true, ..Demands::default() };
    let settings = OfferSettings { demands: mutual, ..settings(Suite::P256) };
    assert_eq!(Offer::new(settings, &mut rand::rng()).unwrap_err(), ChannelError::MutualScanUnsupported);
    let (_, mut scanned) = offer(Suite::P256);
    scanned.demands = mutual;
    assert_eq!(Invitation::new(scanned, Proximity::none()).unwrap_err(), ChannelError::MutualScanUnsupported);
}

#[test]
fn a_demanded_proximity_nonce_must_be_there_and_the_same_on_both_sides() {
    let mut rng = rand::rng();
    let nonce = |byte| Proximity::new(vec![byte; 16]).unwrap();
    let greet = |rng: &mut rand::rngs::ThreadRng| {
        let demands = Demands { proximity: true, ..Demands::default() };
        let offer = Offer::new(OfferSettings { demands, ..settings(Suite::P256) }, rng).unwrap();
        let scanned = offer.qr(7).unwrap();
        assert_eq!(Invitation::new(scanned.clone(), Proximity::none()).unwrap_err(), ChannelError::ProximityMissing);
        let invitation = Invitation::new(scanned, nonce(1)).unwrap();
        let key = DeviceKey::generate(rng);
        let (_, hello) = invitation.accept(offer.public_key(), &device(), key, rng).unwrap();
        (offer, hello)
    };
    for (olds, expected) in [
        (nonce(1), None),
        (nonce(2), Some(ChannelError::DoesNotOpen)),
        (Proximity::none(), Some(ChannelError::ProximityMissing)),
    ] {
        let (offer, hello) = greet(&mut rng);
        assert_eq!(offer.open_hello(7, &olds, &hello, &device(), &mut rng).err(), expected);
    }
}

#[test]
fn an_offer_has_1_to_180_frames() {
    for (frames, fits) in [(0, false), (1, true), (180, true), (181, false), (255, false)] {
        let made = Offer::new(OfferSettings { frames, ..settings(Suite::P256) }, &mut rand::rng());
        assert_eq!(made.map(|offer| offer.frames()).ok(), fits.then_some(frames));
    }
}

#[test]
fn a_credential_beyond_the_limit_is_never_sealed() {
    let (mut sender, _) = confirmed(Suite::P256, &vec![0; limits::MAX_CREDENTIAL_BYTES + 1]);
    assert_eq!(sender.next_frame(), Err(ChannelError::CredentialTooLarge));
    assert_eq!(sender.progress().sent, 0);
}

#[test]
fn a_receipt_before_the_last_piece_is_refused() {
    let (inputs, credential) = (Inputs::of(Suite::P256), [7; 5000]);
    let (receipt, _) = inputs.transfer(&credential);
    for (sealed, expected) in [(0, Err(ChannelError::DoesNotOpen)), (1, Err(ChannelError::DoesNotOpen)), (2, Ok(()))] {
        let mut sender = inputs.confirm(&credential);
        (0..sealed).for_each(|_| assert!(sender.next_frame().unwrap().is_some()));
        assert_eq!(sender.open_receipt(&receipt), expected, "{sealed}");
    }
}

#[test]
fn no_state_and_no_secret_can_be_printed() {
    let (offer, new, hello) = greeted(Suite::P256);
    let settings = format!("{offer:?} {new:?} {:?}", Proximity::new(vec![1; 16]).unwrap());
    assert_eq!(settings, "Offer { .. } AwaitingReply { .. } Proximity([redacted])");
    let invitation = Invitation::new(offer.qr(0).unwrap(), Proximity::none()).unwrap();
    assert_eq!(format!("{invitation:?}"), "Invitation { .. }");
    assert_eq!(format!("{:?}", DeviceKey::generate(&mut rand::rng())), "DeviceKey([redacted])");

    let old = open_hello(offer, &hello).unwrap();
    let printed = format!("{:?}", OpenedHello { reply_frame: vec![], ..old });
    let peer = r#"peer: DeviceInfo { model: "Pixel 9", version: "4.2.0" }"#;
    assert_eq!(printed, format!("OpenedHello {{ channel: AwaitingCode {{ .. }}, {peer}, reply_frame: [] }}"));

    let (offer, new, hello) = greeted(Suite::P256);
    let new = new.open_reply(&open_hello(offer, &hello).unwrap().reply_frame).unwrap();
    assert_eq!(
        format!("{new:?}"),
        format!("OpenedReply {{ channel: Receiver {{ .. }}, code: CheckCode([redacted]), {peer} }}")
    );
    let (sender, complete) = transferred(Suite::P256, b"secret");
    assert_eq!(format!("{sender:?} {:?}", Received::All(complete)), "Sender { .. } All(Complete { .. })");
}

#[test]
fn secrets_clear_themselves_when_dropped() {
    fn clears<T: ZeroizeOnDrop>() {}
    clears::<Credential>();
    clears::<CheckCode>();
    clears::<DeviceKey>();
    clears::<crate::protocol::qr::FrameSecret>();
    clears::<crate::protocol::ids::JoinProof>();
    clears::<Zeroizing<[u8; 32]>>();
    // Inside HPKE and the ciphers.
    clears::<p256::ecdsa::SigningKey>();
    clears::<p256::SecretKey>();
    clears::<<hpke::kem::MlKem768P256 as hpke::Kem>::PrivateKey>();
    clears::<aes_gcm::Aes256Gcm>();
}

/// States cannot be cloned: `refuse` must hand each changed frame to a fresh one, made with the same randomness.
fn flip_every_byte(frame: &[u8], mut refuse: impl FnMut(&[u8]) -> Option<ChannelError>) {
    for index in 0..frame.len() {
        let mut changed = frame.to_vec();
        changed[index] ^= 1 << (index % 8);
        assert_eq!(refuse(&changed), Some(ChannelError::DoesNotOpen), "byte {index}");
    }
}

#[test]
fn a_changed_byte_anywhere_in_the_hello_does_not_open() {
    for suite in Suite::ALL {
        let inputs = Inputs::of(suite);
        let hello = inputs.accept().1;
        flip_every_byte(&hello, |changed| inputs.open_hello(changed).err());
    }
}

#[test]
fn a_changed_byte_anywhere_in_the_reply_does_not_open() {
    for suite in Suite::ALL {
        let inputs = Inputs::of(suite);
        let reply = inputs.open_hello(&inputs.accept().1).unwrap().reply_frame;
        flip_every_byte(&reply, |changed| inputs.accept().0.open_reply(changed).err());
    }
}

#[test]
fn a_changed_byte_anywhere_in_a_credential_frame_does_not_open() {
    let inputs = Inputs::of(Suite::P256);
    let frame = inputs.confirm(b"the credential").next_frame().unwrap().unwrap();
    flip_every_byte(&frame, |changed| inputs.receiver().open_chunk(changed).err());
}

#[test]
fn a_changed_byte_anywhere_in_the_receipt_does_not_open() {
    let inputs = Inputs::of(Suite::P256);
    let (receipt, _) = inputs.transfer(b"the credential");
    flip_every_byte(&receipt, |changed| {
        let mut sender = inputs.confirm(b"the credential");
        sender.next_frame().unwrap();
        sender.open_receipt(changed).err()
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn arbitrary_credentials_arrive_equal(credential in proptest::collection::vec(any::<u8>(), 0..20_000)) {
        let (sender, complete) = transferred(Suite::P256, &credential);
        let (arrived, receipt) = complete.finish().unwrap();
        prop_assert_eq!(&*arrived, &credential);
        prop_assert_eq!(sender.open_receipt(&receipt), Ok(()));
    }

    #[test]
    fn mangled_frames_do_not_open(
        kind in 0..4_usize,
        suite in proptest::sample::select(Suite::ALL.as_slice()),
        cut in any::<proptest::sample::Index>(),
        tail in proptest::collection::vec(any::<u8>(), 0..2000),
    ) {
        let inputs = Inputs::of(suite);
        let hello = inputs.accept().1;
        let mut sender = inputs.confirm(b"the credential");
        let chunk = sender.next_frame().unwrap().unwrap();
        let reply = inputs.open_hello(&hello).unwrap().reply_frame;
        let (receipt, _) = inputs.transfer(b"the credential");
        let good = [&hello, &reply, &chunk, &receipt][kind];
        let mangled = [&good[..cut.index(good.len())], &tail].concat();
        prop_assume!(&mangled != good);
        let refused = match kind {
            0 => inputs.open_hello(&mangled).err(),
            1 => inputs.accept().0.open_reply(&mangled).err(),
            2 => inputs.receiver().open_chunk(&mangled).err(),
            _ => sender.open_receipt(&mangled).err(),
        };
        prop_assert_eq!(refused, Some(ChannelError::DoesNotOpen));
    }

    #[test]
    fn arbitrary_bodies_behind_the_right_header_do_not_open(body in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let inputs = Inputs::of(Suite::P256);
        let hello = Header { from: crate::protocol::Role::New, kind: crate::protocol::frame::FrameKind::Hello, seq: 0 };
        prop_assert_eq!(inputs.open_hello(&hello.frame(&body)).err(), Some(ChannelError::DoesNotOpen));
    }
}
