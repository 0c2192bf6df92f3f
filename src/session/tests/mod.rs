//! The session's behaviour, as a specification.

mod every_order;
mod rig;
mod rules;
