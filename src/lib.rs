//! Outrigger: a reverse-proxy sidecar that gives an existing HTTP application real-time.
//!
//! # The map
//!
//! Names point down: a module may use those below it, never above. `tests/architecture.rs` holds this page to it.
//!
//! ```text
//!   5  assembly    main ──► cli ──► app ──► config            knows everyone, decides nothing
//!   4  edges       server    routes ──► transport  api  proxy       admin     speak HTTP
//!   3  clients     session ──► webhook ──► auth                     decide who may do what
//!   2  real time   hub ──► engine                                   no HTTP, no sockets, no tokens
//!   1  words       protocol ──► channel       backend   peer   drain   records   depend on nothing of ours
//! ```
//!
//! | module | what it is for |
//! |---|---|
//! | `cli` | one file per command; talks to a running node only through its API |
//! | `app` | builds a node from a configuration, swaps generations, drains |
//! | `config` | the YAML file: sections with their defaults, every problem with its place, watched, compared |
//! | `demo` | the backend of `outrigger demo`: an ordinary HTTP program that knows only public URLs |
//! | `routes` | the two tables: public path → transport or backend; internal path → admin or api |
//! | `server` | sockets in: accept, TLS, HTTP/1.1 and HTTP/2, hand over, let go on drain |
//! | `transport` | carries frames between one client and its session: WebSocket, event stream, long-poll; serves the client |
//! | `api` | REST for the backend, and `Outrigger-Push` on its replies: trusted once its key is |
//! | `admin` | the operator's view: health, metrics, reload, the console |
//! | `proxy` | requests that are not ours, to the backend and back, unchanged |
//! | `session` | one client: who it is, what it follows, what it may do |
//! | `webhook` | asks the backend, signed, and reads its verdict whole; tells it what happened until it takes it |
//! | `auth` | token → identity, API key → scope, tickets, revocations |
//! | `hub` | the channels of this node: who follows what, who is there, fan-out, outboxes, catch-up, the ledger |
//! | `engine` | where publications are kept and numbered, and members known |
//! | `protocol` | bytes ⇄ what clients say and hear, framed once for all |
//! | `backend` | the HTTP client to the application: pool, balance, timeouts |
//! | `channel` | the words: channel name, pattern, draft, publication, position, member, retention |
//! | `peer` | who is at the other end, and how a handler takes the whole connection |
//! | `drain` | the stop signal, and who still holds it |
//! | `records` | small records that outlive the process where there is a `data:` folder |
//!
//! # A publication's way
//!
//! `api::push` or `session::publish` makes a draft → `hub.publish` → the engine stores and numbers it under one lock and
//! calls back through `engine::Deliver` → it goes to every shard's queue → a shard joins what is queued for a channel once
//! per format and offers it to each follower's `hub::Outbox` → the outbox writes at once through `hub::Wire`, which
//! `transport` implements over its socket; only what the kernel does not take waits, bounded in bytes.
//!
//! # Absent on purpose
//!
//! - `hub` and below never see an HTTP request, a socket or a token. `session` never formats a byte.
//! - `transport` never asks whether something is allowed, and never names an engine.
//! - `engine` never knows who subscribes, only that this node follows a channel.
//! - `api` asks no rules; `session` asks always.
//! - `proxy` never touches real-time state.
//! - `config` changes nothing that runs; only `app` does.
//! - No crate-wide error, no crate-wide state, no global but the logger. Errors get their outside face in three places
//!   only: `protocol::close`, `api::problem`, `proxy`.

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
pub mod records;
