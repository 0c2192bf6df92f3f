//! HTTP and WebSocket: who may come in, what the handshake needs, and the pages for operators. actix-web.
//!
//! Decides nothing about sessions: a connection that was let in is handed to [`crate::relay`]. To exchange the
//! WebSocket crate, rewrite `socket.rs`; nothing above it knows.

pub mod admission;
pub mod client_addr;
mod frame_guard;
pub mod network;
pub mod problem;
pub mod routes;
pub mod server;
mod socket;
pub mod spans;
pub mod tls;
mod upgrade;
