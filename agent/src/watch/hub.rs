//! Follows commits and expiries, and notes the changes in the mailboxes of watchers.

use super::cause::Why;
use super::index::{Index, WatcherId};
use super::interest::Interest;
use super::log::{Cursor, Log, Step};
use super::mailbox::{Mailbox, Pending};
use super::{MAX_LOG_KEYS, MAX_PENDING_NAMES, MAX_TURNS, MAX_WATCHERS};
use crate::authority_order::{AuthorityOrder, AuthorityPlace};
use crate::clock;
use crate::committer::{Committed, ReadsAgain, StoreHandle};
use crate::intake::Intake;
use crate::waiting::Waiting;
use arc_swap::ArcSwap;
use kvgossip_api::CommitMark;
use kvgossip_engine::{Snapshot, View};
use kvgossip_grants::{GrantId, Key, LiveGrant, Timestamp};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Maximum sleep until the next expiry of a grant, before the clock is read again: it may have been set.
const MAX_SLEEP: Duration = Duration::from_secs(30);

/// Reason why a watch is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The agent has [`MAX_WATCHERS`] watchers.
    #[error("this agent has {MAX_WATCHERS} watchers, which is its limit: watch at another agent")]
    TooMany,
}

/// Notifies watchers of changes of the store. Clones share it.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    store: StoreHandle,
    /// The waiting room, from which the early entries of a key are read.
    waiting: Arc<Waiting>,
    /// The latest state all of whose changes are in the mailboxes. Mailboxes may also have later changes.
    snapshot: ArcSwap<Snapshot>,
    registry: Mutex<Registry>,
    /// Number of the last batch of `snapshot`; signals each new state.
    told: watch::Sender<u64>,
    epoch: u64,
    /// Id of the replica, as hexadecimal digits.
    replica: String,
    stop: CancellationToken,
    /// Permits to make a chunk: first those for large chunks, then those for small ones, which take little time.
    turns: [Arc<Semaphore>; 2],
    order: AuthorityOrder,
}

struct Registry {
    index: Index,
    mailboxes: HashMap<WatcherId, Arc<Mailbox>>,
    /// Ids of the watchers that receive authority facts.
    facts: BTreeSet<WatcherId>,
    log: Log,
    next: WatcherId,
}

/// A registered watcher. Dropping it removes it from the hub.
pub struct Watcher {
    hub: Hub,
    id: WatcherId,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) interest: Interest,
}

/// Contents of a watcher's mailbox, with the state that its changes lead to.
pub(super) struct Taken {
    /// Place in the log of changes that corresponds to `now`.
    pub(super) cursor: Cursor,
    /// Latest state all of whose changes are in the mailboxes.
    pub(super) now: Arc<Snapshot>,
    /// Changes up to the state `now` that the watcher has not received.
    pub(super) pending: Pending,
}

/// How the stream of a new watcher starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// The watcher receives the whole state that it watches.
    Fresh,
    /// The watcher continues: the changes after its cursor are in its mailbox.
    Resumed,
    /// The watcher's cursor is invalid or too old; it receives a gap, then the whole state that it watches.
    Gap,
}

impl Hub {
    /// Starts to follow the store of a replica, until `stop` is cancelled. `replica`: the replica's id as text.
    pub fn start(intake: &Intake, replica: String, stop: &CancellationToken, tasks: &TaskTracker) -> Self {
        let (store, waiting) = (intake.store().clone(), intake.waiting().clone());
        let changes = store.changes();
        let mut epoch = [0; 8];
        // Without randomness, the start time distinguishes runs.
        if getrandom::fill(&mut epoch).is_err() {
            epoch = clock::now().as_micros().to_be_bytes();
        }
        let registry = Registry {
            index: Index::default(),
            mailboxes: HashMap::new(),
            facts: BTreeSet::new(),
            log: Log::new(MAX_LOG_KEYS),
            next: 0,
        };
        let snapshot = store.snapshot();
        let hub = Self(Arc::new(Inner {
            told: watch::Sender::new(snapshot.view.batch()),
            snapshot: ArcSwap::new(snapshot),
            store,
            waiting,
            registry: Mutex::new(registry),
            epoch: u64::from_be_bytes(epoch),
            replica,
            stop: stop.clone(),
            turns: [MAX_TURNS; 2].map(|most| Arc::new(Semaphore::new(most))),
            order: AuthorityOrder::default(),
        }));
        let (follower, stop) = (hub.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = follower.follow(changes) => {}
            }
        });
        hub
    }

    /// Registers a watcher and fills its mailbox with the changes since `cursor`; `None`: the watcher starts afresh.
    pub(super) fn watcher(
        &self,
        interest: Interest,
        cursor: Option<&str>,
    ) -> Result<(Watcher, Start), WatchError> {
        let mut registry = self.0.registry.lock();
        if registry.mailboxes.len() >= MAX_WATCHERS {
            return Err(WatchError::TooMany);
        }
        let mailbox = Arc::new(Mailbox::default());
        let start = cursor.map_or(Start::Fresh, |text| self.resume(&registry.log, &interest, &mailbox, text));
        let id = registry.next;
        registry.next += 1;
        registry.index.add(id, &interest);
        registry.mailboxes.insert(id, mailbox.clone());
        if interest.authority {
            registry.facts.insert(id);
        }
        drop(registry);
        Ok((Watcher { hub: self.clone(), id, mailbox, interest }, start))
    }

    /// Returns the number of the last commit, for clients that wait until a stream has reached it.
    pub fn commit(&self) -> CommitMark {
        CommitMark { run: self.0.epoch, commit: self.0.store.view().batch() }
    }

    /// Returns the number of watchers.
    pub fn watchers(&self) -> usize {
        self.0.registry.lock().mailboxes.len()
    }

    fn resume(&self, log: &Log, interest: &Interest, mailbox: &Mailbox, cursor: &str) -> Start {
        let steps = match cursor.parse::<Cursor>() {
            Ok(cursor) if cursor.epoch == self.0.epoch => log.since(cursor.seq),
            _ => None,
        };
        let Some(steps) = steps else { return Start::Gap };
        mailbox.change(|pending| {
            for step in steps {
                if interest.authority {
                    pending.note_facts(&step.facts);
                }
                for (key, why) in step.keys.iter().filter(|(key, _)| interest.includes(key)) {
                    pending.note_key(key, *why);
                }
            }
        });
        Start::Resumed
    }

    async fn follow(&self, mut changes: tokio::sync::broadcast::Receiver<Arc<Committed>>) {
        // Grants that expired before this time already mask entries in everything that is read from now on.
        let mut expired_until = clock::now();
        loop {
            let sleep = self.until_next_expiry(expired_until);
            tokio::select! {
                batch = changes.recv() => match batch {
                    Ok(batch) => self.tell_batch(&batch),
                    Err(RecvError::Lagged(_)) => self.tell_gap(),
                    // All senders are gone, including this task's own.
                    Err(RecvError::Closed) => return,
                },
                () = tokio::time::sleep(sleep) => expired_until = self.expire(expired_until).await,
            }
        }
    }

    fn until_next_expiry(&self, expired_until: Timestamp) -> Duration {
        let Some(expiry) = self.0.snapshot.load().view.authority().next_expiry(expired_until) else {
            return MAX_SLEEP;
        };
        // At its expiry time a grant still holds.
        let due = expiry.saturating_add(1).as_micros();
        Duration::from_micros(due.saturating_sub(clock::now().as_micros())).min(MAX_SLEEP)
    }

    /// Notifies watchers of all keys with entries below a grant that has expired since `since`. Returns the current
    /// time.
    async fn expire(&self, since: Timestamp) -> Timestamp {
        let now = clock::now();
        // The clock was set back: expiries after the new time are sent again.
        if now < since {
            return now;
        }
        let Snapshot { view, reader } = self.0.snapshot.load().as_ref().clone();
        if view.authority().expiring(since, now).next().is_none() {
            return now;
        }
        let found = tokio::task::spawn_blocking(move || {
            let authority = view.authority();
            let expired: BTreeSet<GrantId> = authority.expiring(since, now).collect();
            let mut keys: BTreeMap<Key, Why> = BTreeMap::new();
            // Each grant is examined once, however many expire together, and each key is listed once.
            for below in authority.grants() {
                let above = |id: &GrantId| expired.contains(id);
                let Some(expired) = below.chain().map(LiveGrant::id).find(above) else { continue };
                let mut found = Vec::new();
                if reader.keys_citing(&below.id(), &mut |key| found.push(key)).is_err() {
                    found = view.keys_below(below).collect();
                }
                keys.extend(found.into_iter().map(|key| (key, Why::Expired(expired))));
            }
            keys
        });
        let keys = found.await.unwrap_or_default();
        self.tell(Step { keys: keys.into_iter().collect(), facts: Vec::new() }, None);
        now
    }

    fn tell_batch(&self, batch: &Committed) {
        let keys = batch.changes.iter().map(|change| (change.key.clone(), change.cause.into())).collect();
        self.tell(Step { keys, facts: batch.authority.clone() }, Some(batch.snapshot.clone()));
    }

    fn tell(&self, step: Step, snapshot: Option<Arc<Snapshot>>) {
        let mut registry = self.0.registry.lock();
        let Registry { index, mailboxes, facts, log, .. } = &mut *registry;
        for (key, why) in &step.keys {
            index.each(key, |id| {
                if let Some(mailbox) = mailboxes.get(&id) {
                    mailbox.change(|pending| pending.note_key(key, *why));
                }
            });
        }
        if !step.facts.is_empty() {
            for mailbox in facts.iter().filter_map(|id| mailboxes.get(id)) {
                mailbox.change(|pending| pending.note_facts(&step.facts));
            }
        }
        log.push(step);
        overflow_the_fullest(mailboxes, MAX_PENDING_NAMES);
        // Published last: the mailboxes then contain everything up to this state.
        if let Some(snapshot) = snapshot {
            self.publish(snapshot);
        }
    }

    /// Sends keys to their watchers again: keys that can be read again, or whose early entries have changed. If the
    /// keys are not known, all watchers receive a gap.
    pub fn tell_again(&self, reads_again: ReadsAgain) {
        match reads_again {
            ReadsAgain::Keys(keys) if keys.is_empty() => {}
            ReadsAgain::Keys(keys) => {
                let keys = keys.into_iter().map(|key| (key, Why::Current)).collect();
                self.tell(Step { keys, facts: Vec::new() }, None);
            }
            ReadsAgain::Others => self.0.registry.lock().overflow(),
        }
    }

    /// Handles missed batches: more than [`CHANGE_BUFFER`](crate::committer::CHANGE_BUFFER) were committed while this
    /// task was not running.
    fn tell_gap(&self) {
        let mut registry = self.0.registry.lock();
        registry.overflow();
        self.publish(self.0.store.snapshot());
    }

    fn publish(&self, snapshot: Arc<Snapshot>) {
        let batch = snapshot.view.batch();
        self.0.snapshot.store(snapshot);
        self.0.told.send_replace(batch);
    }
}

/// Empties the largest mailboxes, each with a gap, until all together hold at most `most` names of keys, entries and
/// facts.
fn overflow_the_fullest(mailboxes: &HashMap<WatcherId, Arc<Mailbox>>, most: usize) {
    // There are few enough mailboxes to add them up at each batch, since a watcher is a connection.
    let mut held: usize = mailboxes.values().map(|mailbox| mailbox.len()).sum();
    if held <= most {
        return;
    }
    let mut by_size: Vec<_> = mailboxes.values().map(|mailbox| (mailbox.len(), mailbox)).collect();
    by_size.sort_unstable_by_key(|(len, _)| std::cmp::Reverse(*len));
    for (len, mailbox) in by_size {
        if held <= most {
            break;
        }
        mailbox.change(Pending::overflow);
        held -= len;
    }
}

impl Registry {
    /// Marks that all watchers have missed changes, and forgets the log.
    fn overflow(&mut self) {
        self.log.forget();
        self.mailboxes.values().for_each(|mailbox| mailbox.change(Pending::overflow));
    }
}

impl Watcher {
    /// Returns the id of the replica that is watched.
    pub(super) fn replica(&self) -> &str {
        &self.hub.0.replica
    }

    /// Waits until the state that is durable now is in the view, so that a client finds its own acknowledged writes.
    /// Returns the commit that was waited for.
    pub(super) async fn catch_up(&self) -> CommitMark {
        let mark = self.hub.commit();
        // An error means that the hub has ended.
        let _ = self.hub.0.told.subscribe().wait_for(|told| *told >= mark.commit).await;
        mark
    }

    /// Empties the mailbox. Returns its contents with the latest state, which includes them.
    pub(super) fn take(&self) -> Taken {
        // The hub notes a batch and publishes its state under this lock, so both are seen or neither.
        let registry = self.hub.0.registry.lock();
        let cursor = Cursor { epoch: self.hub.0.epoch, seq: registry.log.seq() };
        Taken { cursor, now: self.hub.0.snapshot.load_full(), pending: self.mailbox.take() }
    }

    /// Waits for a permit to make a chunk; `None` when the agent stops.
    pub(super) async fn turn(&self, is_roomy: bool) -> Option<OwnedSemaphorePermit> {
        let [roomy, small] = &self.hub.0.turns;
        let turns = if is_roomy { roomy } else { small };
        turns.clone().acquire_owned().await.ok()
    }

    /// Returns the authority facts of a state in the order in which they can be merged. New watchers share the list.
    pub(super) fn authority_order(&self, view: &View) -> Arc<Vec<AuthorityPlace>> {
        self.hub.0.order.of(view)
    }

    pub(super) fn waiting(&self) -> &Waiting {
        &self.hub.0.waiting
    }

    /// Returns the latest state in memory. The mailbox may lack its latest changes.
    pub(super) fn view(&self) -> Arc<View> {
        self.hub.0.store.view()
    }

    /// Completes when the agent stops.
    pub(super) async fn stopped(&self) {
        self.hub.0.stop.cancelled().await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut registry = self.hub.0.registry.lock();
        registry.index.remove(self.id, &self.interest);
        registry.mailboxes.remove(&self.id);
        registry.facts.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_mailboxes_overflow_when_all_together_hold_too_much() {
        let mailboxes: HashMap<WatcherId, Arc<Mailbox>> = (0..4).map(|id| (id, Arc::default())).collect();
        for (id, names) in [(0, 10), (1, 50), (2, 40), (3, 5)] {
            for number in 0..names {
                let key = Key::parse(&format!("/{number}")).expect("a key");
                mailboxes[&id].change(|pending| pending.note_key(&key, Why::Current));
            }
        }
        overflow_the_fullest(&mailboxes, 105);
        assert_eq!(mailboxes[&1].len(), 50);
        overflow_the_fullest(&mailboxes, 100);
        assert!(mailboxes[&1].take().overflowed, "the fullest");
        assert_eq!([0, 2, 3].map(|id| mailboxes[&id].len()), [10, 40, 5]);
        overflow_the_fullest(&mailboxes, 10);
        assert!(mailboxes[&2].take().overflowed && mailboxes[&0].take().overflowed);
        assert_eq!(mailboxes[&3].len(), 5);
    }
}
