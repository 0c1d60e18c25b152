use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;

use super::{BoxError, Problem};

/// A code and a reason, or a time, fit many times; in bytes.
pub(super) const SMALL: usize = 4096;
/// For the whole body to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// A JSON object of at most so many bytes; without a body it is the usual one.
pub(super) async fn read_json<B, T>(request: Request<B>, most: usize) -> Result<T, Problem>
where
    B: http_body::Body<Error: Into<BoxError>> + Send,
    T: DeserializeOwned + Default,
{
    let body = Limited::new(request.into_body(), most).collect();
    let body = tokio::time::timeout(BODY_WITHIN, body).await;
    let Ok(Ok(body)) = body else { return Err(Problem::bad_request("the body is too large or did not arrive")) };
    let body = body.to_bytes();
    match body.trim_ascii() {
        b"" => Ok(T::default()),
        json => serde_json::from_slice(json).map_err(|error| Problem::bad_request(error.to_string())),
    }
}
