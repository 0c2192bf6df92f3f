//! What one party may still send in a session.

use crate::protocol::limits;

/// Frames and bytes that one direction has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Quota {
    frames: u32,
    bytes: u64,
}

impl Quota {
    /// Counts one data frame; `false` once the session's allowance is used up.
    pub(super) fn spend(&mut self, bytes: usize) -> bool {
        self.frames = self.frames.saturating_add(1);
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.frames <= limits::MAX_DIRECTION_FRAMES && self.bytes <= limits::MAX_DIRECTION_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allowance_is_exact() {
        let mut by_frames = Quota::default();
        assert!((0..limits::MAX_DIRECTION_FRAMES).all(|_| by_frames.spend(0)));
        assert!(!by_frames.spend(0));

        let mut by_bytes = Quota::default();
        assert!((0..16).all(|_| by_bytes.spend(64 * 1024)));
        assert!(!by_bytes.spend(1));
    }
}
