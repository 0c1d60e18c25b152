//! The HTTP client to the application behind us: a pool of connections per address, balancing, timeouts. It answers with
//! a response or an [`Error`] that says how far it got; what that means to a client is decided by who asked.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};

/// The application, as one or several addresses. An immutable part of a generation.
#[derive(Debug)]
pub struct Backend {}

/// How far a request got before it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the answer is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the connection broke: {0}")]
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

impl Backend {
    /// A whole small exchange: a bounded body out, a bounded body in (webhooks, key sets). A URI that is only a path goes
    /// to the backend, an absolute one (`http` or `https`) to its own host. `timeout` covers everything.
    pub async fn exchange(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
        max_reply: usize,
    ) -> Result<Response<Bytes>, Error> {
        let _ = (request, timeout, max_reply);
        Err(Error::Timeout(timeout))
    }
}
