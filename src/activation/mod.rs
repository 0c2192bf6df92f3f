//! Activation: from a new app to an active one, and the registry of users and apps.
//!
//! A bounded context of its own. The relay works without it, and it knows nothing of sessions, nodes or sockets; the
//! wiring mounts it beside the relay.

pub mod device_proof;
pub mod flow;
pub mod grant;
pub mod http;
pub mod https;
pub mod ids;
pub mod keys;
pub mod notify;
pub mod personal_pin;
pub mod registry;
pub mod service;
pub mod signature;
pub mod sms;
pub mod streams;
pub mod temporary_pin;

#[cfg(test)]
pub(crate) mod test_server;
