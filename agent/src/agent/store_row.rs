//! The weight of the stored facts against its limit, and the grants with the heaviest entries.

use kvgossip_api::{GrantBytesRow, StoreRow};
use kvgossip_engine::View;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::time::{Duration, Instant};

/// Maximum number of grants that the status names, those with the most bytes first.
const MAX_GRANTS: usize = 16;
/// Share of the store's size limit, in quarters, from which on the status names the grants with the most bytes.
const NAMED_FROM_QUARTERS: u64 = 3;
/// Lifetime of the cached list of grants; computing the list visits every entry.
const FRESH: Duration = Duration::from_secs(10);

/// The last computed list of the grants with the most bytes, and the time when it was computed.
#[derive(Debug, Default)]
pub(super) struct Weights(Mutex<Option<(Instant, Vec<GrantBytesRow>)>>);

impl Weights {
    /// Returns the status row of the store. `limit`: maximum weight in bytes; `None`: unlimited. May visit every entry:
    /// call it where blocking is allowed.
    pub(super) fn row(&self, view: &View, limit: Option<u64>, full: bool) -> StoreRow {
        let counted_bytes = view.weight();
        let is_near = limit.is_some_and(|limit| counted_bytes / NAMED_FROM_QUARTERS >= limit / 4);
        let grants = if is_near || full { self.grants(view) } else { Vec::new() };
        StoreRow { counted_bytes, limit_bytes: limit, full, grants }
    }

    fn grants(&self, view: &View) -> Vec<GrantBytesRow> {
        // The lock is held while computing: concurrent callers wait instead of computing it again.
        let mut found = self.0.lock();
        if let Some((_, rows)) = found.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return rows.clone();
        }
        let rows = heaviest(view);
        *found = Some((Instant::now(), rows.clone()));
        rows
    }
}

fn heaviest(view: &View) -> Vec<GrantBytesRow> {
    let mut weights: Vec<_> = view.weight_by_grant().into_iter().collect();
    weights.sort_unstable_by_key(|(grant, weight)| (Reverse(weight.bytes), *grant));
    weights.truncate(MAX_GRANTS);
    let authority = view.authority();
    let row = |(grant, weight): (Option<_>, kvgossip_engine::GrantWeight)| {
        let live = grant.and_then(|id| authority.grant(&id));
        let body = live.map(|live| live.body());
        let entity = body.map_or_else(|| authority.root().entity(), |body| body.grantee.entity());
        GrantBytesRow {
            grant: grant.map_or_else(|| "root".to_owned(), |id| id.to_string()),
            entity: entity.to_string(),
            pattern: body.map_or_else(|| "/**".to_owned(), |body| body.pattern.to_string()),
            entries: weight.entries,
            bytes: weight.bytes,
        }
    };
    weights.into_iter().map(row).collect()
}
