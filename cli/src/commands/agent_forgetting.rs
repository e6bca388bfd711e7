//! `agent --forget-future`: removes entries from the future, on an operator's request.

use crate::codes;
use crate::error::{Failure, Result};
use crate::output::{counted, printable};
use kvgossip_agent::{Opened, forget_future as forget, now};
use kvgossip_engine::declined::Declined;
use kvgossip_grants::{Key, Timestamp};

/// Maximum number of keys listed in the error; further ones are counted.
const MAX_LISTED: usize = 1_000;

/// Removes the entries that are in the future, if the agent has peers that can send the superseded ones again, or --yes
/// is given.
pub(super) fn forget_future(opened: &mut Opened, has_peers: bool, yes: bool) -> Result<Declined> {
    let now = now();
    if !has_peers && !yes {
        confirm(opened, now)?;
    }
    let failed = |error: kvgossip_engine::StorageError| Failure::advised(error.code(), error.to_string());
    let forgotten = forget(opened, now).map_err(failed)?;
    match forgotten.entries {
        0 => tracing::info!("no entry is more than 2 minutes ahead of the clock: nothing was forgotten"),
        entries => {
            let rest = if has_peers {
                "peers bring what they superseded"
            } else {
                "no peer is named that could bring back what they superseded: set these keys anew"
            };
            tracing::warn!(
                entries,
                kept = forgotten.declined.room().len(),
                "entries ahead of the clock were forgotten; they wait until they are due, and {rest}"
            );
        }
    }
    Ok(forgotten.declined)
}

/// Checks that there are no entries to remove, where no peer can send the superseded ones again.
///
/// # Errors
/// `agent.forget_alone`, with the keys, if there are entries to remove.
fn confirm(opened: &Opened, now: Timestamp) -> Result<()> {
    let view = opened.replica.view();
    let keys = view.early_keys(now).count();
    if keys == 0 {
        return Ok(());
    }
    let unset: Vec<Key> = view.unset_without_early(now).collect();
    let text = format!(
        "{} would lose entries that are ahead of the clock, and no peer is named that could bring back what these had \
         superseded (--join, --peer): {} would be unset",
        counted(keys as u64, "key", "keys"),
        counted(unset.len() as u64, "key", "keys")
    );
    let mut failure = Failure::new(codes::FORGET_UNCONFIRMED, text);
    for key in unset.iter().take(MAX_LISTED) {
        failure = failure.note(format!("  {}", printable(key.as_str())));
    }
    if let Some(more) = unset.len().checked_sub(MAX_LISTED).filter(|more| *more > 0) {
        failure = failure.note(format!("  … and {more} more"));
    }
    Err(failure.note("write --yes to forget these entries anyway; the keys can be set anew then"))
}
