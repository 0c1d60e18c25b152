//! Outrigger: a reverse-proxy sidecar that gives an existing HTTP application real-time.

#![forbid(unsafe_code)]

pub mod backend;
pub mod channel;
pub mod drain;
pub mod peer;
pub mod proxy;
pub mod server;
