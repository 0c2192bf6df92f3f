//! A message from node to node: length of the head in two bytes, the head as JSON, and a data frame's bytes as they are.
//!
//! Nodes of two versions talk to each other during a rolling update: a head with unknown fields is read, one that
//! cannot be read is dropped.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::protocol::Role;
use crate::protocol::close::CloseReason;
use crate::protocol::ids::SessionId;
use crate::protocol::message::JoinedPeer;
use crate::session::node::{NodeId, PeerEvent};

/// What a node may say to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// About a session.
    Event(PeerEvent),
    /// To itself: whether its inbox works.
    Echo(u64),
}

/// A message with its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) from: NodeId,
    pub(super) session: SessionId,
    pub(super) content: Content,
}

#[derive(Serialize, Deserialize)]
struct Head {
    from: NodeId,
    session: Uuid,
    #[serde(flatten)]
    kind: Kind,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Kind {
    Attached { role: Role, epoch: u64, joined: Option<JoinedPeer> },
    Left { role: Role, epoch: u64 },
    Data { role: Role, epoch: u64 },
    Ended { reason: CloseReason },
    Echo { number: u64 },
}

impl Envelope {
    pub(super) fn encode(self) -> Vec<u8> {
        let (kind, frame) = match self.content {
            Content::Event(PeerEvent::Attached { role, epoch, joined }) => {
                (Kind::Attached { role, epoch, joined }, Bytes::new())
            }
            Content::Event(PeerEvent::Left { role, epoch }) => (Kind::Left { role, epoch }, Bytes::new()),
            Content::Event(PeerEvent::Data { role, epoch, frame }) => (Kind::Data { role, epoch }, frame),
            Content::Event(PeerEvent::Ended { reason }) => (Kind::Ended { reason }, Bytes::new()),
            Content::Echo(number) => (Kind::Echo { number }, Bytes::new()),
        };
        let head = Head { from: self.from, session: Uuid::from_bytes(*self.session.as_bytes()), kind };
        // No map with keys that are not texts, and nothing that fails: a head can always be written.
        let head = serde_json::to_vec(&head).unwrap_or_default();
        let len = u16::try_from(head.len()).unwrap_or_default();
        [&len.to_be_bytes()[..], &head, &frame].concat()
    }

    pub(super) fn decode(message: &[u8]) -> Option<Self> {
        let (len, rest) = message.split_first_chunk()?;
        let (head, frame) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        let Head { from, session, kind } = serde_json::from_slice(head).ok()?;
        let content = match kind {
            Kind::Attached { role, epoch, joined } => Content::Event(PeerEvent::Attached { role, epoch, joined }),
            Kind::Left { role, epoch } => Content::Event(PeerEvent::Left { role, epoch }),
            Kind::Data { role, epoch } => {
                Content::Event(PeerEvent::Data { role, epoch, frame: Bytes::copy_from_slice(frame) })
            }
            Kind::Ended { reason } => Content::Event(PeerEvent::Ended { reason }),
            Kind::Echo { number } => Content::Echo(number),
        };
        Some(Self { from, session: SessionId::from_bytes(session.into_bytes()).ok()?, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::network::{Country, Network};

    fn envelope(content: Content) -> Envelope {
        Envelope { from: NodeId::from_random([1; 16]), session: SessionId::from_random([2; 16]), content }
    }

    #[test]
    fn every_message_survives_the_way() {
        let joined = JoinedPeer { frame: 3, network: Network::SameNetwork, country: Country::Same };
        let (role, epoch) = (Role::New, u64::MAX);
        let contents = [
            Content::Event(PeerEvent::Attached { role, epoch, joined: Some(joined) }),
            Content::Event(PeerEvent::Attached { role, epoch, joined: None }),
            Content::Event(PeerEvent::Left { role, epoch }),
            Content::Event(PeerEvent::Data { role, epoch, frame: Bytes::from(vec![0; 64 * 1024]) }),
            Content::Event(PeerEvent::Data { role, epoch, frame: Bytes::new() }),
            Content::Event(PeerEvent::Ended { reason: CloseReason::ScannedTwice }),
            Content::Echo(7),
        ];
        for content in contents {
            let sent = envelope(content);
            assert_eq!(Envelope::decode(&sent.clone().encode()), Some(sent));
        }
    }

    #[test]
    fn what_is_cut_or_foreign_is_dropped() {
        let message = envelope(Content::Echo(7)).encode();
        for end in 0..message.len() {
            assert_eq!(Envelope::decode(&message[..end]), None);
        }
        assert_eq!(Envelope::decode(b"\x00\x02{}"), None);
        assert_eq!(Envelope::decode(&[0xff; 40]), None);
    }

    #[test]
    fn a_newer_version_may_add_fields() {
        let text = String::from_utf8(envelope(Content::Echo(7)).encode()[2..].to_vec()).unwrap();
        let newer = text.replacen('{', "{\"hue\":\"blue\",", 1).into_bytes();
        let message = [&u16::try_from(newer.len()).unwrap().to_be_bytes()[..], &newer].concat();
        assert_eq!(Envelope::decode(&message), Some(envelope(Content::Echo(7))));
    }
}
