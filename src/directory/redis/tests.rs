//! The Redis directory against a real Redis.
