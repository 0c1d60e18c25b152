//! Errors as HTTP says them (RFC 9457): the one face of everything that goes wrong in the API.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::Body;
use crate::auth::Denied;

/// An `application/problem+json` answer.
#[derive(Debug, Serialize)]
pub struct Problem {
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    /// Each thing that is wrong, with its place in what was sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Fault>,
    #[serde(skip)]
    header: Option<(&'static str, Box<str>)>,
}

#[derive(Debug, Serialize)]
pub(super) struct Fault {
    pub(super) field: String,
    pub(super) detail: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self { title, status: status.as_u16(), detail: detail.into(), errors: Vec::new(), header: None }
    }

    /// What was sent cannot be used, and nothing of it was.
    pub(super) fn invalid(errors: Vec<Fault>) -> Self {
        let detail = "nothing was published".to_owned();
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "The request is not valid", detail) }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "The request cannot be read", detail)
    }

    pub(super) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "Too large", detail)
    }

    pub(super) fn data_too_large(errors: Vec<Fault>, most: usize) -> Self {
        Self { errors, ..Self::too_large(format!("a publication may have {most} bytes; nothing was published")) }
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found", detail)
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "The engine is out of reach", detail)
    }

    pub(super) fn method_not_allowed(allowed: String) -> Self {
        let header = Some(("allow", allowed.into()));
        Self { header, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "This method is not for this path", "") }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Scope { .. } => {
                Self::new(StatusCode::FORBIDDEN, "The key's scope does not cover this", denied.to_string())
            }
            _ => Self {
                header: Some(("www-authenticate", "Bearer".into())),
                ..Self::new(StatusCode::UNAUTHORIZED, "A key is needed", denied.to_string())
            },
        }
    }
}

impl From<Problem> for Response<Body> {
    fn from(problem: Problem) -> Self {
        let json = serde_json::to_vec(&problem).expect("a problem is text and numbers");
        let mut response = Self::new(Body::whole(Bytes::from(json)));
        *response.status_mut() = StatusCode::from_u16(problem.status).expect("it was made from a status");
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some((name, value)) = problem.header
            && let Ok(value) = value.parse()
        {
            headers.insert(http::HeaderName::from_static(name), value);
        }
        response
    }
}
