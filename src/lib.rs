//! A relay that hands an app's credential over to a new phone, and the client library for both phones.
//!
//! Reading order, bottom up; a lower module never imports a higher one: [`protocol`] (what travels), [`session`] (one
//! transfer as a state machine), [`directory`] (where sessions are), [`relay`] (the actors that run them).

pub mod directory;
pub mod protocol;
//pub mod relay;
pub mod session;
