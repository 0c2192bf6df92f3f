//! What the end-to-end channel costs, both sides together, for each cipher suite.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed benchmark")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use handoff_relay::crypto::{
    AwaitingCode, Credential, DeviceInfo, DeviceKey, Invitation, Offer, OfferSettings, OpenedReply, Proximity, Received,
};
use handoff_relay::protocol::ids::SessionId;
use handoff_relay::protocol::qr::{Demands, RelayRef, Suite};

/// From nothing to the check code on new's screen.
fn establish(suite: Suite) -> (AwaitingCode, OpenedReply) {
    let mut rng = rand::rng();
    let settings = OfferSettings {
        suite,
        demands: Demands::default(),
        session: SessionId::from_random([7; 16]),
        relay: RelayRef::Listed(std::num::NonZeroU8::MIN),
        frames: 36,
    };
    let device = DeviceInfo::new("Pixel 9", "4.2.0").unwrap();
    let offer = Offer::new(settings, &mut rng).unwrap();
    black_box(offer.join_hashes());
    let invitation = Invitation::new(offer.qr(0).unwrap(), Proximity::none()).unwrap();
    let key = DeviceKey::generate(&mut rng);
    let (new, hello) = invitation.accept(&offer.public_key().clone(), &device, key, &mut rng).unwrap();
    let old = offer.open_hello(0, &Proximity::none(), &hello, &device, &mut rng).unwrap();
    let new = new.open_reply(&old.reply_frame).unwrap();
    (old.channel, new)
}

/// From the check code to the receipt.
fn transfer(old: AwaitingCode, new: OpenedReply, credential: &[u8]) -> Credential {
    let mut sender = old.confirm(&new.code).unwrap().hand_over(Credential::new(credential.to_vec()));
    let mut receiver = new.channel;
    let complete = loop {
        match receiver.open_chunk(&sender.next_frame().unwrap().unwrap()).unwrap() {
            Received::More(more, _) => receiver = more,
            Received::All(complete) => break complete,
        }
    };
    let (credential, receipt) = complete.finish().unwrap();
    sender.open_receipt(&receipt).unwrap();
    credential
}

fn channel(c: &mut Criterion) {
    let credential = vec![7; 4096];
    for (suite, name) in [(Suite::P256, "p256"), (Suite::MlKem768P256, "mlkem768_p256")] {
        let mut group = c.benchmark_group(name);
        group.bench_function("setup_to_check_code", |b| b.iter(|| establish(black_box(suite))));
        group.bench_function("whole_transfer_of_4_kib", |b| {
            b.iter(|| {
                let (old, new) = establish(black_box(suite));
                transfer(old, new, black_box(&credential))
            });
        });
        group.finish();
    }
}

criterion_group!(benches, channel);
criterion_main!(benches);
