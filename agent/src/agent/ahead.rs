//! Entries of the own store that are ahead of the clock: written under a clock that was ahead, here or elsewhere, and kept
//! when it was set right. Peers do not take them in until they are due.

use crate::clock::Clock;
use crate::committer::Store;
use kvgossip_engine::View;
use kvgossip_grants::{MAX_AHEAD_MICROS, Timestamp};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often it is looked whether the clock was set back, and whether those that were found are still there.
const INTERVAL: Duration = Duration::from_secs(10);
/// So many are counted at most.
const MAX_COUNTED: usize = 10_000;
/// A clock that goes back by more than this was set back, in microseconds.
const SET_BACK_US: u64 = 2_000_000;

/// The times of the newest entries of keys, where they were ahead of the clock when that was looked at last; sorted.
#[derive(Debug, Default)]
pub(super) struct Ahead(Mutex<Vec<Timestamp>>);

impl Ahead {
    /// How many keys show or hold something from the future; [`MAX_COUNTED`] at most.
    pub(super) fn count(&self, now: Timestamp) -> usize {
        let times = self.0.lock();
        times.len() - times.partition_point(|time| *time <= now.saturating_add(MAX_AHEAD_MICROS))
    }

    /// Looks through all keys.
    fn look(&self, view: &View, now: Timestamp) {
        let newest = view.early_keys(now).filter_map(|(_, frontier)| frontier.newest());
        let mut times: Vec<Timestamp> = newest.map(|entry| entry.meta.timestamp).take(MAX_COUNTED).collect();
        times.sort_unstable();
        *self.0.lock() = times;
    }
}

/// Looks at the start, when the clock was set back, and for as long as there are any and the store changes. Nothing else
/// puts such entries into the store: the way in holds them against the clock.
pub(super) async fn follow(ahead: Arc<Ahead>, store: Store, clock: Clock, stop: CancellationToken) {
    let (mut last, mut batch) = (None::<Timestamp>, None);
    loop {
        let (now, view) = (clock.now(), store.view());
        let set_back = last.is_none_or(|last| last > now.saturating_add(SET_BACK_US));
        let changed = ahead.count(now) > 0 && batch != Some(view.batch());
        if set_back || changed {
            batch = Some(view.batch());
            let ahead = ahead.clone();
            // A fault there is told by the log.
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
