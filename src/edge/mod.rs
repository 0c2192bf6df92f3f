//! HTTP and WebSocket: admission, addresses, errors and certificates.

pub mod admission;
pub mod client_addr;
pub mod network;
pub mod problem;
