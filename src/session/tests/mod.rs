//! The session's behaviour, as a specification.

mod cluster;
mod every_order;
mod many_nodes;
mod model;
mod rig;
mod rules;
