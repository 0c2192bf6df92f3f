//! The session's behaviour, as a specification.

mod cluster;
mod connections;
mod ends;
mod every_order;
mod joining;
mod many_nodes;
mod model;
mod rig;
