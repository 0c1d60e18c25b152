//! Outrigger: a reverse-proxy sidecar that gives an existing HTTP application real-time.
//!
//! # The map
//!
//! Names point down: a module may use those below it, never above. `tests/architecture.rs` holds this page to it.
//!
//! ```text
//!   5  assembly    main ──► app ──► config            knows everyone, decides nothing
//!   4  edges       server    routes ──► transport  api  proxy       admin     speak HTTP
//!   3  clients     session ──► webhook ──► auth                     decide who may do what
//!   2  real time   hub ──► engine                                   no HTTP, no sockets, no tokens
//!   1  words       protocol ──► channel       backend       peer       drain   depend on nothing of ours
//! ```

#![forbid(unsafe_code)]

pub mod app;
pub mod cli;
pub mod config;
pub mod demo;

pub mod admin;
pub mod api;
pub mod proxy;
pub mod routes;
pub mod server;
pub mod transport;

pub mod auth;
pub mod session;
pub mod webhook;

pub mod engine;
pub mod hub;

pub mod backend;
pub mod channel;
pub mod drain;
pub mod peer;
pub mod protocol;
