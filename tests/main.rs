//! Every promise that needs sockets. One target, so that it links once; files are flat, names are promises.

mod architecture;
mod cli;
mod client_js;
mod doctor;
mod drain;
mod explain;
mod notices;
mod openapi;
mod operate;
mod poll;
mod presence;
mod proxy;
mod proxy_failures;
mod push;
mod recovery;
mod restart;
mod server;
mod session;
mod sse;
mod storms;
mod support;
mod tls;
mod upgrades;
mod users;
mod websocket;
