//! Routes that would tell ignorance as absence wait for the first comparison with a peer.

use super::Shared;
use super::error::Refusal;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;

/// Proof that what this replica lacks says something: it was compared with a peer, or there is none.
///
/// Every route that answers by what the replica holds takes it.
pub(crate) struct Complete;

impl FromRequestParts<Shared> for Complete {
    type Rejection = Refusal;

    async fn from_request_parts(_: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        shared.agent.check_complete()?;
        Ok(Self)
    }
}
