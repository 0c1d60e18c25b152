//! What the programs of the fan-out benchmark share: a non-blocking stream with or without TLS, the few bytes of
//! WebSocket, SSE and HTTP they speak, a crowd of subscribers with a publisher, and the reading of `/proc`.
//! Everything runs on one thread over epoll, so that the client costs less than the server it measures.

pub mod books;
pub mod crowd;
pub mod follower;
pub mod probe;
pub mod process;
pub mod publisher;
pub mod stream;
pub mod subscriber;
pub mod target;
pub mod tls;
pub mod wire;
