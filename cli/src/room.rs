//! Offering facts to an agent whose store is near its limit (`--max-store`): what has no room together is offered in parts.

use crate::error::Result;
use crate::sign::unexpected;
use kvgossip_api::VerdictRow;
use kvgossip_client::ClientError;
use kvgossip_grants::{Fact, Verdict};

/// The code of an agent that has no room for all the facts of a request. It has taken none of them in.
pub(crate) const NO_ROOM: &str = "store.quota";

/// Offers facts, and gives a verdict for each, in order. A request that has no room is halved, down to single facts, so that
/// the store fills up to its limit, and what may free room is taken in as well. A single fact that has none is refused by
/// that code.
///
/// # Errors
/// Those of `post`, other than that code.
pub(crate) async fn offer(
    facts: &[Fact],
    post: impl AsyncFn(&[Fact]) -> Result<Vec<VerdictRow>, ClientError>,
) -> Result<Vec<VerdictRow>> {
    let mut rows = Vec::with_capacity(facts.len());
    // The next part is the last one; halves make it no longer than the logarithm of the facts.
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
