//! HTTP and WebSocket: admission, addresses, errors and certificates.

pub mod network;
