//! How the API says no.

use serde::{Deserialize, Serialize};

/// The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ApiError {
    /// A stable code, listed in `docs/errors.md`.
    pub code: String,
    /// What happened, to what, and what to do.
    pub message: String,
}
