//! What an app is told when its first message was accepted, and what its `cancel` means.

use super::connection::Request;
use super::millis;
use super::route::Attachment;
use crate::protocol::Role;
use crate::protocol::close::CloseReason;
use crate::protocol::message::{CancelReason, ServerMessage};

pub(super) fn answer(role: Role, request: Request, attachment: &Attachment) -> ServerMessage {
    let expires_in_ms = millis(attachment.expires_in);
    let peer_online = attachment.peer_online;
    let public_key = attachment.public_key.clone();
    match request {
        Request::Open => ServerMessage::Opened { expires_in_ms },
        Request::Join => ServerMessage::Joined { expires_in_ms, public_key, peer_online },
        Request::Resume => ServerMessage::Resumed {
            expires_in_ms,
            peer_online,
            joined: attachment.joined.filter(|_| role == Role::Old),
            public_key: (role == Role::New).then_some(public_key),
        },
    }
}

pub(super) fn cancelled(by: Role, reason: CancelReason) -> CloseReason {
    match (reason, by) {
        (CancelReason::User, Role::Old) => CloseReason::CancelledByOld,
        (CancelReason::User, Role::New) => CloseReason::CancelledByNew,
        (CancelReason::WrongCode, _) => CloseReason::WrongCode,
        (CancelReason::CodeTimeout, _) => CloseReason::CodeTimeout,
        (CancelReason::VerificationFailed, _) => CloseReason::VerificationFailed,
    }
}
