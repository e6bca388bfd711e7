//! Entries in this replica's store that are ahead of its clock: they were written or accepted under a wrong clock
//! that was corrected since. Peers do not merge them until they are due.

use crate::clock::Clock;
use crate::committer::StoreHandle;
use kvgossip_engine::View;
use kvgossip_grants::{MAX_AHEAD_MICROS, Timestamp};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Interval of the checks whether the clock was set back, and whether the entries ahead of it are still in the store.
const INTERVAL: Duration = Duration::from_secs(10);
/// Maximum number of keys counted whose newest entry is ahead of the clock; the message then says "or more".
const MAX_COUNTED: usize = 10_000;
/// A clock that jumps back by more than this counts as set back, in microseconds.
const SET_BACK_US: u64 = 2_000_000;

/// Timestamps, ascending, of the newest entry of each key that was ahead of the clock at the last scan.
#[derive(Debug, Default)]
pub(super) struct Ahead(Mutex<Vec<Timestamp>>);

impl Ahead {
    /// Returns the number of keys whose newest entry is ahead of the clock, which shows `now`; at most [`MAX_COUNTED`].
    pub(super) fn count(&self, now: Timestamp) -> usize {
        let times = self.0.lock();
        times.len() - times.partition_point(|time| *time <= now.saturating_add(MAX_AHEAD_MICROS))
    }

    /// Scans all keys and stores the timestamps of those newest entries that are ahead of the clock, which shows `now`.
    fn look(&self, view: &View, now: Timestamp) {
        let newest = view.early_keys(now).filter_map(|(_, frontier)| frontier.newest());
        let mut times: Vec<Timestamp> = newest.map(|entry| entry.meta.timestamp).take(MAX_COUNTED).collect();
        times.sort_unstable();
        *self.0.lock() = times;
    }
}

/// Scans all keys at start-up, when the clock was set back, and after each change of the store while the count is not
/// 0. At other times no entry ahead of the clock can enter the store, because the intake declines such entries.
pub(super) async fn follow(ahead: Arc<Ahead>, store: StoreHandle, clock: Clock, stop: CancellationToken) {
    let (mut last, mut batch) = (None::<Timestamp>, None);
    loop {
        let (now, view) = (clock.now(), store.view());
        let set_back = last.is_none_or(|last| last > now.saturating_add(SET_BACK_US));
        let changed = ahead.count(now) > 0 && batch != Some(view.batch());
        if set_back || changed {
            batch = Some(view.batch());
            let ahead = ahead.clone();
            // A panic of the scan is logged.
            let _ = tokio::task::spawn_blocking(move || ahead.look(&view, now)).await;
        }
        last = Some(now);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

pub(super) fn text(count: usize) -> String {
    let more = if count >= MAX_COUNTED { " or more" } else { "" };
    let (entries, are) = if count == 1 { ("entry", "is") } else { ("entries", "are") };
    format!(
        "{count}{more} {entries} of the store {are} ahead of this clock: written under a clock that was ahead, or this one is \
         behind; peers take them in when they are due. Set this clock if it is wrong; else start the replicas that hold \
         them with --forget-future, or wait"
    )
}
