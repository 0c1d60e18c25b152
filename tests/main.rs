//! Every promise that needs sockets. One target, so that it links once; files are flat, names are promises.

mod architecture;
mod cli;
mod drain;
mod engine_contract;
mod engine_nodes;
mod explain;
mod notices;
mod operate;
mod poll;
mod presence;
mod proxy;
mod proxy_failures;
mod push;
mod redis_faults;
mod redis_moves;
mod redis_nodes;
mod restart;
mod server;
mod session;
mod sse;
mod support;
mod tls;
mod upgrades;
mod websocket;
