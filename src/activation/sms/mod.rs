//! Text messages with temporary PINs: what they say, and the ways they go out.

pub mod breaker;
pub mod text;
