//! What an app decides before a transfer starts. Checked where it is used; nothing here is a secret except the opening
//! token and the keys, which print as redacted.

use std::time::Duration;

use super::DEFAULT_PATIENCE;
use super::outcome::TransferError;
use super::policy::VerdictPolicy;
use crate::crypto::{DeviceInfo, DeviceKey, Proximity};
use crate::protocol::ids::OpenToken;
use crate::protocol::limits;
use crate::protocol::qr::{Demands, RelayRef, Suite};

/// What the old app decides about a transfer.
#[derive(Clone, Debug)]
pub struct OldSettings {
    /// The relay that the QR code names.
    pub relay: RelayRef,
    /// What the new app hears about this device.
    pub device: DeviceInfo,
    /// The cipher suite.
    pub suite: Suite,
    /// What the QR code demands of the new app.
    pub demands: Demands,
    /// The proximity nonce, where there is one.
    pub proximity: Proximity,
    /// How long each QR frame is shown.
    pub interval: Duration,
    /// The session's lifetime; the relay refuses another than its own.
    pub lifetime: Duration,
    /// What the app's backend issued for opening one session, where the relay asks for it.
    pub token: Option<OpenToken>,
    /// Which network verdicts this app refuses.
    pub policy: VerdictPolicy,
    /// How long to try until a relay answers for the first time.
    pub patience: Duration,
}

impl OldSettings {
    /// The protocol's defaults: suite 1, a new frame every 5 s, three minutes, no demands, no refusals.
    #[must_use]
    pub fn new(relay: RelayRef, device: DeviceInfo) -> Self {
        Self {
            relay,
            device,
            suite: Suite::P256,
            demands: Demands::default(),
            proximity: Proximity::none(),
            interval: limits::FRAME_INTERVAL,
            lifetime: limits::SESSION_LIFETIME,
            token: None,
            policy: VerdictPolicy::default(),
            patience: DEFAULT_PATIENCE,
        }
    }

    /// How many frames the session has; the relay computes the same.
    pub(super) fn frames(&self) -> Result<u8, TransferError> {
        if !(Duration::from_secs(1)..=limits::SESSION_LIFETIME).contains(&self.lifetime) {
            return Err(TransferError::BadLifetime);
        }
        if !(limits::MIN_FRAME_INTERVAL..=self.lifetime).contains(&self.interval) {
            return Err(TransferError::BadInterval);
        }
        let frames = self.lifetime.as_millis().div_ceil(self.interval.as_millis().max(1));
        u8::try_from(frames).map_err(|_| TransferError::BadInterval)
    }
}

/// What the new app decides about a transfer.
#[derive(Debug)]
pub struct NewSettings {
    /// What the old app hears about this device.
    pub device: DeviceInfo,
    /// Signs the receipt.
    pub device_key: DeviceKey,
    /// The proximity nonce, where there is one.
    pub proximity: Proximity,
    /// How long to try until a relay answers for the first time.
    pub patience: Duration,
}

impl NewSettings {
    /// No proximity nonce, and the default patience.
    #[must_use]
    pub fn new(device: DeviceInfo, device_key: DeviceKey) -> Self {
        Self { device, device_key, proximity: Proximity::none(), patience: DEFAULT_PATIENCE }
    }
}
