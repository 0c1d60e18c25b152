//! Outrigger: a reverse-proxy sidecar that gives an existing HTTP application real-time.

#![forbid(unsafe_code)]

pub mod auth;
pub mod backend;
pub mod channel;
pub mod drain;
pub mod engine;
pub mod hub;
pub mod peer;
pub mod protocol;
