
pub mod client_addr;
pub mod network;
