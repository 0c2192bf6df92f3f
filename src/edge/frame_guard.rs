//! Checks the framing of incoming WebSocket bytes before the codec sees them (RFC 6455 section 5.2).
//!
//! The codec below looks at a frame's length only once the whole frame is in memory, so that a peer could announce
//! gigabytes and send them; and after an error it reports the same bytes again for ever. The guard reads headers as
//! they pass, forwards what is sound, and ends the stream at the first byte that is not.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_web::error::PayloadError;
use bytes::Bytes;
use futures_util::Stream;

use crate::protocol::close::CloseReason;
use crate::protocol::limits;

/// Longest frame header that a client may send: two bytes, a 64-bit length and the mask.
const MAX_HEADER_BYTES: usize = 14;

/// Largest payload of a ping, pong or close frame (RFC 6455 section 5.5).
const MAX_HEARTBEAT_BYTES: u64 = 125;

/// Where in the stream of frames the next byte belongs.
#[derive(Debug)]
pub(super) struct FrameGuard {
    header: Vec<u8>,
    payload_left: u64,
    /// Frames that have passed whole since somebody asked.
    passed: usize,
}

impl FrameGuard {
    pub(super) fn new() -> Self {
        Self { header: Vec::with_capacity(MAX_HEADER_BYTES), payload_left: 0, passed: 0 }
    }

    /// Takes the next bytes; says how many belong to sound frames, and what is wrong with the rest, if anything.
    pub(super) fn accept(&mut self, bytes: &[u8]) -> (usize, Option<CloseReason>) {
        let mut accepted = 0_usize;
        while let Some(rest) = bytes.get(accepted..).filter(|rest| !rest.is_empty()) {
            if self.payload_left > 0 {
                let skipped = rest.len().min(usize::try_from(self.payload_left).unwrap_or(usize::MAX));
                self.payload_left = self.payload_left.saturating_sub(u64::try_from(skipped).unwrap_or(u64::MAX));
                accepted = accepted.saturating_add(skipped);
                self.note_end();
                continue;
            }
            self.header.extend(rest.first());
            match payload_length(&self.header) {
                Ok(Some(length)) => {
                    self.payload_left = length;
                    self.header.clear();
                    self.note_end();
                }
                Ok(None) => {}
                Err(reason) => return (accepted, Some(reason)),
            }
            accepted = accepted.saturating_add(1);
        }
        (accepted, None)
    }

    fn note_end(&mut self) {
        if self.payload_left == 0 {
            self.passed = self.passed.saturating_add(1);
        }
    }
}

/// The payload length of a sound header; `None` while the header is incomplete.
fn payload_length(header: &[u8]) -> Result<Option<u64>, CloseReason> {
    let Some(&first) = header.first() else { return Ok(None) };
    let most = check_first_byte(first)?;
    let Some(&second) = header.get(1) else { return Ok(None) };
    if second & 0x80 == 0 {
        return Err(CloseReason::ProtocolError);
    }
    let (length, header_bytes) = match second & 0x7f {
        126 => match header.get(2..4).and_then(|bytes| bytes.try_into().ok()) {
            Some(bytes) => (u64::from(u16::from_be_bytes(bytes)), 8),
            None => return Ok(None),
        },
        127 => match header.get(2..10).and_then(|bytes| bytes.try_into().ok()) {
            Some(bytes) => (u64::from_be_bytes(bytes), 14),
            None => return Ok(None),
        },
        short => (u64::from(short), 6),
    };
    let is_minimal = match second & 0x7f {
        126 => length > MAX_HEARTBEAT_BYTES,
        127 => length > u64::from(u16::MAX),
        _ => true,
    };
    if !is_minimal {
        return Err(CloseReason::ProtocolError);
    }
    if length > most {
        let is_heartbeat = most == MAX_HEARTBEAT_BYTES;
        return Err(if is_heartbeat { CloseReason::ProtocolError } else { CloseReason::TooLarge });
    }
    Ok((header.len() == header_bytes).then_some(length))
}

/// Checks the FIN bit, the reserved bits and the opcode; answers with the largest payload of such a frame.
fn check_first_byte(first: u8) -> Result<u64, CloseReason> {
    let is_final = first & 0x80 != 0;
    if first & 0x70 != 0 {
        return Err(CloseReason::ProtocolError);
    }
    let most = match first & 0x0f {
        0x0 => return Err(CloseReason::Fragmented),
        0x1 => u64::try_from(limits::MAX_CONTROL_BYTES).unwrap_or(0),
        0x2 => u64::try_from(limits::MAX_FRAME_BYTES).unwrap_or(0),
        0x8..=0xa if is_final => MAX_HEARTBEAT_BYTES,
        _ => return Err(CloseReason::ProtocolError),
    };
    if is_final { Ok(most) } else { Err(CloseReason::Fragmented) }
}

/// A broken rule, and the bytes from there on.
pub(super) struct Violation<S> {
    pub(super) reason: CloseReason,
    pub(super) rest: S,
}

/// What the guard of a stream and whoever takes its frames tell each other.
pub(super) struct Inbox<S> {
    /// Frames that passed the guard, and that nobody has taken yet.
    waiting: Cell<usize>,
    /// Why the stream was ended before its time, and what is left of it.
    violation: Cell<Option<Violation<S>>>,
}

impl<S> Inbox<S> {
    /// To be called with each frame that the codec gives out: while one waits there, nothing more is read.
    pub(super) fn take_frame(&self) {
        self.waiting.set(self.waiting.get().saturating_sub(1));
    }

    /// Why the stream ended, unless the peer ended it.
    pub(super) fn take_violation(&self) -> Option<Violation<S>> {
        self.violation.take()
    }
}

impl<S> Default for Inbox<S> {
    fn default() -> Self {
        Self { waiting: Cell::new(0), violation: Cell::new(None) }
    }
}

/// Incoming bytes behind a [`FrameGuard`]. Ends at the first unsound frame, and leaves what remains in its [`Inbox`].
///
/// The codec above takes all bytes that it can get before it looks at them. So it gets no more while it holds a whole
/// frame: it asks again after each, and a peer that sends faster than its frames are taken fills its own buffers.
pub(super) struct Guarded<S> {
    bytes: Option<S>,
    guard: FrameGuard,
    inbox: Rc<Inbox<S>>,
}

impl<S> Guarded<S> {
    pub(super) fn new(bytes: S, inbox: Rc<Inbox<S>>) -> Self {
        Self { bytes: Some(bytes), guard: FrameGuard::new(), inbox }
    }
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Stream for Guarded<S> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.inbox.waiting.get() > 0 {
            // Wakes nobody: whoever takes the frame asks again.
            return Poll::Pending;
        }
        let Some(bytes) = self.bytes.as_mut() else { return Poll::Ready(None) };
        // A broken connection reads like its end: either way nothing more comes.
        let Some(Ok(mut chunk)) = ready!(Pin::new(bytes).poll_next(cx)) else { return Poll::Ready(None) };
        let (accepted, broken) = self.guard.accept(&chunk);
        chunk.truncate(accepted);
        let passed = std::mem::take(&mut self.guard.passed);
        self.inbox.waiting.set(passed);
        if let Some((reason, rest)) = broken.zip(self.bytes.take_if(|_| broken.is_some())) {
            self.inbox.violation.set(Some(Violation { reason, rest }));
        }
        Poll::Ready(Some(Ok(chunk)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    fn frame(first: u8, length: u64) -> Vec<u8> {
        let mut bytes = vec![first];
        match length {
            0..=125 => bytes.push(0x80 | u8::try_from(length).unwrap()),
            126..=0xffff => {
                bytes.push(0xfe);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(0xff);
                bytes.extend(length.to_be_bytes());
            }
        }
        bytes.extend(MASK);
        bytes
    }

    fn verdict(bytes: &[u8]) -> Option<CloseReason> {
        FrameGuard::new().accept(bytes).1
    }

    #[test]
    fn sound_frames_pass_whole() {
        for (first, length) in
            [(0x82, 0), (0x82, 125), (0x82, 126), (0x82, 65_536), (0x81, 16_384), (0x88, 2), (0x89, 125)]
        {
            let mut bytes = frame(first, length);
            bytes.extend(vec![0; usize::try_from(length).unwrap()]);
            assert_eq!(FrameGuard::new().accept(&bytes), (bytes.len(), None), "{first:#x} {length}");
        }
    }

    #[test]
    fn a_frame_that_is_too_large_is_refused_by_its_header_alone() {
        assert_eq!(verdict(&frame(0x82, 65_537)), Some(CloseReason::TooLarge));
        assert_eq!(verdict(&frame(0x82, u64::MAX)), Some(CloseReason::TooLarge));
        assert_eq!(verdict(&frame(0x81, 16_385)), Some(CloseReason::TooLarge));
    }

    #[test]
    fn each_broken_rule_has_its_reason() {
        assert_eq!(verdict(&[0x82, 0x05]), Some(CloseReason::ProtocolError), "unmasked");
        assert_eq!(verdict(&[0xc2]), Some(CloseReason::ProtocolError), "reserved bit");
        assert_eq!(verdict(&[0x83]), Some(CloseReason::ProtocolError), "unknown opcode");
        assert_eq!(verdict(&[0x09]), Some(CloseReason::ProtocolError), "fragmented ping");
        assert_eq!(verdict(&frame(0x89, 126)), Some(CloseReason::ProtocolError), "long ping");
        assert_eq!(verdict(&[0x82, 0xfe, 0, 5]), Some(CloseReason::ProtocolError), "long form of a short length");
        assert_eq!(verdict(&[0x02]), Some(CloseReason::Fragmented), "first fragment");
        assert_eq!(verdict(&[0x80]), Some(CloseReason::Fragmented), "continuation");
    }

    #[test]
    fn what_came_before_the_violation_is_passed_on() {
        let mut bytes = frame(0x82, 3);
        bytes.extend([9, 9, 9]);
        let sound = bytes.len();
        bytes.extend([0x82, 0x00]);
        let (accepted, reason) = FrameGuard::new().accept(&bytes);
        assert_eq!(reason, Some(CloseReason::ProtocolError));
        assert!((sound..bytes.len()).contains(&accepted));
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_does_not_matter(
            bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 0_usize..400,
        ) {
            let (whole, reason) = FrameGuard::new().accept(&bytes);
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            let mut guard = FrameGuard::new();
            let (first, early) = guard.accept(head);
            let (second, late) = if early.is_some() { (0, early) } else { guard.accept(tail) };
            prop_assert_eq!((whole, reason), (first + second, late));
        }
    }
}
