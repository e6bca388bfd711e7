//! The guard of routes that must not report missing knowledge as absence.

use super::Shared;
use super::error::Refusal;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;

/// Proof that what this replica lacks may be reported as absent: it was compared with a peer, or has none.
///
/// Every route that answers from the replica's state takes it as an argument.
pub(crate) struct Complete;

impl FromRequestParts<Shared> for Complete {
    type Rejection = Refusal;

    async fn from_request_parts(_: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        shared.agent.check_complete()?;
        Ok(Self)
    }
}
