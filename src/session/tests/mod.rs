//! The session's behaviour, as a specification.

mod connections;
mod ends;
mod every_order;
mod joining;
mod rig;
