//! Offering facts to an agent whose store is near its limit (`--max-store`): facts that do not fit together are
//! offered in parts.

use crate::answer::unexpected;
use crate::error::Result;
use kvgossip_api::VerdictRow;
use kvgossip_client::ClientError;
use kvgossip_grants::{Fact, Verdict};

/// Code of an agent that has no room for all facts of a request. It has merged none of them.
pub(crate) const NO_ROOM: &str = "store.quota";

/// Offers facts; returns one verdict per fact, in order. A request without room is halved, down to single facts, so
/// that the store fills up to its limit, and facts that free room are merged as well. A single fact without room is
/// refused with that code.
///
/// # Errors
/// Those of `post`, except [`NO_ROOM`].
pub(crate) async fn offer(
    facts: &[Fact],
    post: impl AsyncFn(&[Fact]) -> Result<Vec<VerdictRow>, ClientError>,
) -> Result<Vec<VerdictRow>> {
    let mut rows = Vec::with_capacity(facts.len());
    // A stack of parts, the next one last. Halving keeps its length logarithmic in the number of facts.
    let mut open = vec![facts];
    while let Some(part) = open.pop() {
        if part.is_empty() {
            continue;
        }
        match (post(part).await, part) {
            (Ok(verdicts), _) if verdicts.len() == part.len() => rows.extend(verdicts),
            (Ok(_), _) => return Err(unexpected("another number of verdicts")),
            (Err(ClientError::Refused { code, message, .. }), [fact]) if code == NO_ROOM => {
                rows.push(without_room(fact, message));
            }
            (Err(ClientError::Refused { code, .. }), _) if code == NO_ROOM => {
                let (first, second) = part.split_at(part.len() / 2);
                open.extend([second, first]);
            }
            (Err(error), _) => return Err(error.into()),
        }
    }
    Ok(rows)
}

fn without_room(fact: &Fact, message: String) -> VerdictRow {
    VerdictRow {
        id: Some(fact.id().to_string()),
        verdict: Verdict::Refused(kvgossip_grants::Code::TooLarge).as_str().into(),
        code: Some(NO_ROOM.into()),
        message: Some(message),
    }
}
