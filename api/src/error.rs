//! The body of error responses.

use serde::{Deserialize, Serialize};

/// Body of every response that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ApiError {
    /// Stable error code, listed in `docs/errors.md`.
    pub code: String,
    /// What happened, to which object, and what to do.
    pub message: String,
}
