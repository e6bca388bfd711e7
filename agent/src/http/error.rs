//! Error responses: a status, a stable code and a message.

use crate::committer::CommitError;
use crate::condition::entity_tag;
use crate::error::WriteError;
use crate::readiness::FirstSync;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kvgossip_api::{ApiError, FIRST_SYNC};
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
        Refusal::new(status, "http.body", &error.body_text())
    })
}

/// An error response.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    error: ApiError,
    /// Value of `Retry-After`, in seconds.
    retry_after_s: Option<u32>,
    /// The entry that the key shows, for a precondition that does not hold.
    shown: Option<EntryId>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &str, message: &str) -> Self {
        Self {
            status,
            error: ApiError { code: code.into(), message: message.into() },
            retry_after_s: None,
            shown: None,
        }
    }

    pub(crate) fn bad_request(code: &str, message: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, &message.to_string())
    }

    /// The response when there is no room for the request now.
    pub(crate) fn busy(why: &str) -> Self {
        let message = format!("{why}: try again in a moment");
        let busy = Self::new(StatusCode::SERVICE_UNAVAILABLE, "http.busy", &message);
        Self { retry_after_s: Some(BUSY_RETRY_S), ..busy }
    }

    /// The response to a request that the agent's stop interrupts.
    pub(crate) fn shutdown() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "http.shutdown", "the agent is shutting down")
    }

    /// The response for a fact that was not accepted.
    pub(crate) fn from_verdict(verdict: Verdict) -> Self {
        let code = verdict.code().unwrap_or(Code::Known);
        let status = match (verdict, code) {
            (_, Code::TooLarge | Code::OverAgentLimit) => StatusCode::PAYLOAD_TOO_LARGE,
            (Verdict::NotYet { .. } | Verdict::Moot(_), _) => StatusCode::CONFLICT,
            (Verdict::Misused(_), _) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::FORBIDDEN,
        };
        Self::new(status, code.as_str(), code.help())
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
        let refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, FIRST_SYNC, &error.to_string());
        Self { retry_after_s: Some(BUSY_RETRY_S), ..refusal }
    }
}

impl From<KeyError> for Refusal {
    fn from(error: KeyError) -> Self {
        Self::bad_request("key.malformed", error)
    }
}

impl From<GlobError> for Refusal {
    fn from(error: GlobError) -> Self {
        Self::bad_request("glob.malformed", error)
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
            _ => Self::new(status(&failure), failure.code(), &failure.to_string()),
        }
    }
}

impl From<WriteError> for Refusal {
    fn from(error: WriteError) -> Self {
        if let WriteError::Verdict(verdict) = error {
            return Self::from_verdict(verdict);
        }
        let (status, code) = status_and_code(&error);
        let shown = match &error {
            WriteError::Commit(CommitError::Conflict { shown, .. }) => *shown,
            _ => None,
        };
        Self { shown, ..Self::new(status, code, &error.to_string()) }
    }
}

/// The status of a failure: another try, or another agent, may help, unless the program is at fault.
const fn status(failure: &Failure) -> StatusCode {
    match failure {
        Failure::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The status of a write that failed, and its stable code.
fn status_and_code(error: &WriteError) -> (StatusCode, &'static str) {
    match error {
        WriteError::NoIdentity => (StatusCode::CONFLICT, "agent.no_identity"),
        WriteError::ClockContradicted(_) => (StatusCode::SERVICE_UNAVAILABLE, "clock.contradicted"),
        WriteError::NotAuthorised { code, .. } => (StatusCode::FORBIDDEN, code.as_str()),
        WriteError::Verdict(verdict) => {
            (StatusCode::FORBIDDEN, verdict.code().unwrap_or(Code::Malformed).as_str())
        }
        WriteError::Commit(CommitError::Failure(failure)) => (status(failure), failure.code()),
        WriteError::Commit(CommitError::Conflict { .. }) => (StatusCode::PRECONDITION_FAILED, "key.conflict"),
        WriteError::Commit(CommitError::Unknown { .. }) => {
            (StatusCode::SERVICE_UNAVAILABLE, Code::NotYet.as_str())
        }
        WriteError::FirstSync(_) => (StatusCode::SERVICE_UNAVAILABLE, FIRST_SYNC),
        WriteError::Signing => (StatusCode::INTERNAL_SERVER_ERROR, "agent.signing"),
    }
}
