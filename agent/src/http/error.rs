//! Error responses: a status, a stable code and a message.

use crate::committer::CommitError;
use crate::condition::entity_tag;
use crate::error::{WriteError, advised};
use crate::readiness::FirstSync;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kvgossip_api::{ApiError, FIRST_SYNC, codes};
use kvgossip_engine::{Failure, StorageError};
use kvgossip_grants::{Code, EntryId, GlobError, KeyError, Verdict};

/// `Retry-After` of `http.busy`, in seconds.
const BUSY_RETRY_S: u32 = 1;

/// Unwraps a JSON body, or returns a rejection as an error response.
pub(crate) fn body<T>(json: Result<Json<T>, JsonRejection>) -> Result<T, Refusal> {
    json.map(|Json(body)| body).map_err(|error| {
        // JSON of the wrong shape gets the same status as malformed JSON.
        let status = match &error {
            JsonRejection::JsonDataError(_) => StatusCode::BAD_REQUEST,
            error => error.status(),
        };
        Refusal::new("http.body", error.body_text()).with_status(status)
    })
}

/// An error response of the HTTP API.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    error: ApiError,
    /// Value of the header `Retry-After`, in seconds; `None`: no such header.
    retry_after_s: Option<u32>,
    /// Id of the entry that the key shows, for the error of a precondition that does not hold; otherwise `None`.
    shown: Option<EntryId>,
}

impl Refusal {
    /// Creates an error response with the status that the catalogue of codes has for `code`.
    pub(crate) fn new(code: &str, message: impl ToString) -> Self {
        let status = codes::find(code).and_then(|info| StatusCode::from_u16(info.status?).ok());
        debug_assert!(status.is_some(), "{code} is no code of a refusal");
        Self {
            status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            error: ApiError { code: code.into(), message: message.to_string() },
            retry_after_s: None,
            shown: None,
        }
    }

    /// Creates a 502 response with the error by which a peer, or the connection to it, ended a session.
    pub(crate) fn passed_on(error: ApiError) -> Self {
        Self { status: StatusCode::BAD_GATEWAY, error, retry_after_s: None, shown: None }
    }

    /// Replaces the status, which is that of the code in the catalogue, by another one.
    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Creates the response to a request for which there is no room now; `why` says room for what.
    pub(crate) fn busy(why: &str) -> Self {
        let busy = Self::new("http.busy", format!("{why}: try again in a moment"));
        Self { retry_after_s: Some(BUSY_RETRY_S), ..busy }
    }

    /// Creates the response to a request that the agent's stop interrupts.
    pub(crate) fn shutdown() -> Self {
        Self::new("http.shutdown", "the agent is shutting down")
    }

    /// Creates the response for a fact that was not accepted, from the code of its verdict.
    pub(crate) fn from_verdict(verdict: Verdict) -> Self {
        let code = verdict.code().unwrap_or(Code::Known);
        Self::new(code.as_str(), code.help())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.error)).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        let tag = self.shown.and_then(|entry| HeaderValue::from_str(&entity_tag(&entry)).ok());
        if let Some(tag) = tag {
            response.headers_mut().insert(header::ETAG, tag);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<FirstSync> for Refusal {
    fn from(error: FirstSync) -> Self {
        let refusal = Self::new(FIRST_SYNC, error);
        Self { retry_after_s: Some(BUSY_RETRY_S), ..refusal }
    }
}

impl From<KeyError> for Refusal {
    fn from(error: KeyError) -> Self {
        Self::new("key.malformed", error)
    }
}

impl From<GlobError> for Refusal {
    fn from(error: GlobError) -> Self {
        Self::new("glob.malformed", error)
    }
}

impl From<StorageError> for Refusal {
    fn from(error: StorageError) -> Self {
        Failure::from(error).into()
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            // Shutdown has one code everywhere in this API.
            Failure::ShuttingDown => Self::shutdown(),
            _ => Self::new(failure.code(), advised(&failure)),
        }
    }
}

impl From<WriteError> for Refusal {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Verdict(verdict) => Self::from_verdict(verdict),
            WriteError::Commit(CommitError::Failure(failure)) => failure.into(),
            WriteError::Commit(CommitError::Conflict { shown, .. }) => {
                Self { shown, ..Self::new(error.code(), error) }
            }
            // Not the fact is early, but an entry that decides what the key shows: another agent may know.
            WriteError::Commit(CommitError::Unknown { .. }) => {
                Self::new(error.code(), error).with_status(StatusCode::SERVICE_UNAVAILABLE)
            }
            WriteError::NotAuthorised { .. } => {
                Self::new(error.code(), error).with_status(StatusCode::FORBIDDEN)
            }
            error => Self::new(error.code(), error),
        }
    }
}
