//! Keys with very many entries, reported to the operator with the grant to revoke. The number of entries of a key has
//! no limit, since replicas would then differ.

use crate::committer::StoreHandle;
use kvgossip_api::{HeavyGrantRow, LongKeyRow};
use kvgossip_engine::{LONG_FRONTIER, View};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Interval of the checks for keys that have become long.
const INTERVAL: Duration = Duration::from_secs(10);

/// Returns the keys with more than [`LONG_FRONTIER`] entries. May take long: call it where blocking is allowed.
pub(super) fn rows(view: &View) -> Vec<LongKeyRow> {
    let row = |long: kvgossip_engine::LongFrontier| {
        let grants = long.grants.into_iter();
        LongKeyRow {
            key: long.key.to_string(),
            entries: long.entries as u64,
            grants: grants
                .map(|(grant, entries)| HeavyGrantRow { grant: grant.to_string(), entries: entries as u64 })
                .collect(),
        }
    };
    view.long_frontiers().into_iter().map(row).collect()
}

/// Logs each key once, when the number of its entries exceeds [`LONG_FRONTIER`].
pub(super) async fn warn(store: StoreHandle, stop: CancellationToken) {
    let (mut batch, mut named) = (None, BTreeSet::new());
    loop {
        let view = store.view();
        if batch.replace(view.batch()) != Some(view.batch()) {
            let found = tokio::task::spawn_blocking(move || rows(&view)).await.unwrap_or_default();
            for row in found.iter().filter(|row| !named.contains(&row.key)) {
                say(row);
            }
            named = found.into_iter().map(|row| row.key).collect();
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

fn say(LongKeyRow { key, entries, grants }: &LongKeyRow) {
    let Some(HeavyGrantRow { grant, entries: ended }) = grants.first() else {
        tracing::warn!(%key, entries, "a key has more than {LONG_FRONTIER} entries");
        return;
    };
    tracing::warn!(
        %key, entries, %grant, ended,
        "a key has more than {LONG_FRONTIER} entries, each under a grant of its own; revoking this grant ends most of them"
    );
}
