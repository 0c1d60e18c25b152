//! Every promise that needs sockets. One target, so that it links once; files are flat, names are promises.

mod proxy;
mod support;
mod tls;
