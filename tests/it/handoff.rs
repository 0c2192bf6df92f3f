//! The whole of it: relay, old phone and new phone as three processes that know nothing of each other but what a
//! camera and a person carry over.

pub(crate) mod process;
pub(crate) mod scene;

mod files;
mod network;
mod nginx;
mod person;
mod qr_text;
pub(crate) mod tls;
