//! Handoffs without cryptography: what both apps would send is prepared before the run, so that the generator's CPU
//! time goes into connections. The relay sees frames of the same kinds, sizes and order.

mod party;
mod phones;

use bytes::Bytes;
use handoff_relay::crypto::{Credential, DeviceInfo, DeviceKey, Invitation, Offer, OfferSettings, Proximity, Received};
use handoff_relay::protocol::ids::{JoinHash, JoinProof, PublishedKey, SessionId};
use handoff_relay::protocol::qr::{Demands, RelayRef, Suite};
use rand::Rng as _;
use rand::rngs::StdRng;

pub(super) use phones::run;

use super::session::RELAY;
use crate::num::length;
use crate::scenario::RelaySettings;

/// One channel, recorded: all sessions of a group send its frames. Nobody opens them, so it does not matter that they
/// were sealed for another session.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) public_key: PublishedKey,
    pub(super) join_hashes: Vec<JoinHash>,
    /// One for each QR frame.
    pub(super) proofs: Vec<JoinProof>,
    /// The reply, and the pieces of the credential.
    old_frames: Vec<Bytes>,
    /// The hello, and the receipt.
    new_frames: Vec<Bytes>,
}

impl Template {
    /// Runs both sides of a channel in memory.
    pub(super) fn record(relay: RelaySettings, credential: usize, rng: &mut StdRng) -> anyhow::Result<Self> {
        let frames = relay.lifetime.0.as_millis().div_ceil(relay.frame_interval.0.as_millis().max(1));
        let mut id = [0; 16];
        rng.fill_bytes(&mut id);
        let settings = OfferSettings {
            suite: Suite::P256,
            demands: Demands::default(),
            session: SessionId::from_random(id),
            relay: RelayRef::Listed(RELAY),
            frames: u8::try_from(frames)?,
        };
        let offer = Offer::new(settings, rng)?;
        let invite = |frame| Some(Invitation::new(offer.qr(frame)?, Proximity::none()));
        let invitations = (0..offer.frames()).filter_map(invite).collect::<Result<Vec<_>, _>>()?;
        let proofs = invitations.iter().map(Invitation::join_proof).collect();
        let (public_key, join_hashes) = (offer.public_key().clone(), offer.join_hashes());
        let first = invitations.into_iter().next().ok_or_else(|| anyhow::anyhow!("an offer without a frame"))?;

        let (new, hello) = first.accept(&public_key, &DeviceInfo::new("new", "1")?, DeviceKey::generate(rng), rng)?;
        let opened = offer.open_hello(0, &Proximity::none(), &hello, &DeviceInfo::new("old", "1")?, rng)?;
        let reply = new.open_reply(&opened.reply_frame)?;
        let mut old_frames = vec![Bytes::from(opened.reply_frame)];
        let mut bytes = vec![0; credential];
        rng.fill_bytes(&mut bytes);
        let mut sender = opened.channel.confirm(&reply.code)?.hand_over(Credential::new(bytes));
        let mut receiver = reply.channel;
        let complete = loop {
            let frame = sender.next_frame()?.ok_or_else(|| anyhow::anyhow!("a credential without an end"))?;
            let opened = receiver.open_chunk(&frame)?;
            old_frames.push(frame.into());
            match opened {
                Received::More(more, _) => receiver = more,
                Received::All(complete) => break complete,
            }
        };
        let (_, receipt) = complete.finish()?;
        Ok(Self { public_key, join_hashes, proofs, old_frames, new_frames: vec![hello.into(), receipt.into()] })
    }

    /// How many sealed frames old sends in all.
    fn old_count(&self) -> u64 {
        length(self.old_frames.len())
    }
}

#[cfg(test)]
mod tests {
    use handoff_relay::protocol::frame::{FrameKind, Header};
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn a_recording_has_every_frame_of_a_handoff_in_order() {
        let mut rng = StdRng::seed_from_u64(1);
        let template = Template::record(RelaySettings::default(), 10_000, &mut rng).unwrap();
        let kinds = |frames: &[Bytes]| -> Vec<(FrameKind, u64)> {
            let header = |frame: &Bytes| Header::decode(frame).unwrap().0;
            frames.iter().map(|frame| (header(frame).kind, header(frame).seq)).collect()
        };
        use FrameKind::{Credential, Hello, Receipt, Reply};
        assert_eq!(kinds(&template.old_frames), [(Reply, 0), (Credential, 1), (Credential, 2), (Credential, 3)]);
        assert_eq!(kinds(&template.new_frames), [(Hello, 0), (Receipt, 1)]);
        assert_eq!(template.proofs.len(), 36);
        assert_eq!(JoinHash::of(&template.proofs[35]), template.join_hashes[35]);
    }
}
