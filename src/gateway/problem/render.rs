//! From a problem to its answer.

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::Problem;
use crate::gateway::record_patch::MERGE_PATCH;

const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// Why a request was refused, or could not be answered.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(in crate::gateway) struct Body<'a> {
    /// Stable: what programs look at.
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fence: Option<&'a str>,
    /// The token that was shown, as epoch-sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    presented: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<&'a str>,
    /// Whether the same request may succeed later without any change.
    retryable: bool,
    request_id: &'a str,
}

impl Problem {
    /// The answer itself. `fence` is the one that the path names.
    pub(in crate::gateway) fn render(
        &self,
        fence: Option<&str>,
        request_id: &str,
        mut headers: HeaderMap,
    ) -> Response {
        let body = Body {
            r#type: format!("urn:fencegate:problem:{}", self.0.kind.name),
            title: self.0.kind.title,
            status: self.0.kind.status.as_u16(),
            detail: &self.0.detail,
            fence: self.0.fence.as_deref().or(fence),
            presented: self.0.presented.as_deref(),
            mark: self.0.mark.as_deref(),
            retryable: self.0.retryable,
            request_id,
        };
        // Plain fields always have a JSON form; were it otherwise, the status would say enough.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.0.accept_patch {
            headers.insert(ACCEPT_PATCH, HeaderValue::from_static(MERGE_PATCH));
        }
        if let Some(challenge) = self.0.challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(pause) = self.0.retry_after {
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(pause.as_secs_f64().ceil() as u64),
            );
        }
        (self.0.kind.status, headers, body).into_response()
    }
}

/// The status, with the problem behind it for [`exchange`](super::exchange) to render.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.0.kind.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
