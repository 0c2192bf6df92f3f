//! Every bound of the protocol, with its unit and its reason.
//!
//! A deployment may tighten what the relay's configuration offers; nothing here may be exceeded.

use std::time::Duration;

/// Longest life of a session, counted from `opened` on the relay's clock. Three minutes is what a person needs to
/// fetch the other phone, and short enough that a forgotten screen is worth nothing.
pub const SESSION_LIFETIME: Duration = Duration::from_mins(3);

/// How long one QR frame is shown. Together with [`FRAMES_ACCEPTED`] a photographed frame is dead after ten seconds.
pub const FRAME_INTERVAL: Duration = Duration::from_secs(5);

/// The shortest frame interval that a camera and a person can follow.
pub const MIN_FRAME_INTERVAL: Duration = Duration::from_secs(1);

/// The current frame and the one before it: somebody may be scanning while the picture changes.
pub const FRAMES_ACCEPTED: u8 = 2;

/// Most frames of one session: `SESSION_LIFETIME / MIN_FRAME_INTERVAL`, and it fits the `u8` in the QR payload.
pub const MAX_FRAMES: usize = 180;

/// Largest data frame, header included (64 KiB): twelve frames in flight fit the smallest phone's socket buffers.
pub const MAX_FRAME_BYTES: usize = 64 * 1024;

/// Largest control message (16 KiB): an `open` with 180 join hashes (180 * 25 bytes), a post-quantum key (1.7 KiB in
/// base64url) and a 4 KiB token needs 11 KiB.
pub const MAX_CONTROL_BYTES: usize = 16 * 1024;

/// Bytes of data frames a party may send in one session (1 MiB): the largest credential, plus one window sent again
/// after each of [`MAX_RESUMES`] lost connections (256 KiB + 30 * 16 KiB, with headers and padding).
pub const MAX_DIRECTION_BYTES: u64 = 1024 * 1024;

/// Data frames a party may send in one session: 65 for the largest credential, 120 sent again, the rest for receipts
/// and acknowledgements.
pub const MAX_DIRECTION_FRAMES: u32 = 512;

/// Lost connections that a session survives, both parties together.
pub const MAX_RESUMES: u32 = 30;

/// Largest credential in bytes (256 KiB).
pub const MAX_CREDENTIAL_BYTES: usize = 256 * 1024;

/// Largest published public key in bytes; the post-quantum hybrid's has 1,249.
pub const MAX_PUBLIC_KEY_BYTES: usize = 2048;

/// Largest opening token (a JWT) in bytes.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// Time from the handshake to the first message.
pub const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Time between WebSocket pings to a connected party.
pub const PING_INTERVAL: Duration = Duration::from_secs(15);

/// Silence after which a connection is dead: two missed pings and the time the second needs to come back.
/// Below the 40 s that the other phone may be left without news.
pub const SILENCE_TIMEOUT: Duration = Duration::from_secs(38);

/// Time between `tick` messages: some load balancers do not count pings as traffic.
pub const TICK_INTERVAL: Duration = Duration::from_secs(25);

/// Time a connection has for the closing handshake before its socket is cut. What was written before is still
/// delivered; the value keeps every end of a session within 250 ms, also with a peer that stopped reading.
pub const CLOSE_GRACE: Duration = Duration::from_millis(150);

/// Time an ended session is remembered past its deadline, so that a phone that comes back late hears why.
pub const TOMBSTONE_GRACE: Duration = Duration::from_secs(30);

/// Pings, pongs, text and empty binary messages that one connection may send: a ping a second for a whole session,
/// and room to spare.
pub const MAX_CONTROL_FRAMES: u32 = 256;

/// Connections of one session that have not sent a valid first message yet.
pub const MAX_UNIDENTIFIED: usize = 8;

/// Time the person has to type the check code, counted from when the old app asks for it.
pub const CHECK_CODE_TIMEOUT: Duration = Duration::from_mins(1);

/// Longest literal `host[:port]` in a QR payload in bytes; a DNS name has at most 253.
pub const MAX_RELAY_LITERAL_BYTES: usize = 253 + 6;
