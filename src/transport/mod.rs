//! Carries frames between one client and its session.
mod websocket;
mod wire;
