//! The size limit of the store in bytes, and the facts that a store at its limit still accepts.
//!
//! A state machine without I/O: its input is the weight of all stored facts ([`View::weight`]), its output is which
//! facts have room.

use super::{Committer, StoreHandle};
use crate::intake::Origin;
use kvgossip_engine::{StorageError, View};
use kvgossip_grants::{Fact, Verified};
use tokio::sync::watch;

/// Threshold of the full state, in sixteenths of the limit. A store below it becomes full only by a single relayed fact
/// that has no room. A full store is no longer full when its weight falls below the threshold and below its maximum
/// since then. The gap between threshold and limit prevents flapping.
const RELEASE_16THS: u64 = 15;
/// Minimum room in bytes above the limit for deletes, and for grants, which deletes may need. The room is 1/32 of the
/// limit, at least this.
const MIN_RESERVE_BYTES: u64 = 1 << 20;
/// Room above the limit for revocations and floors, as a multiple of the room for deletes: they end other facts.
const ENDINGS_RESERVES: u64 = 4;

/// The limit on the weight of all facts, in bytes, and whether the store is full.
#[derive(Debug)]
pub(super) struct Quota {
    limit: u64,
    /// Maximum weight of the store, in bytes, since a fact had no room; `None`: the store is not full.
    full_at: Option<u64>,
}

impl Quota {
    /// Creates a quota with a limit in bytes; `None`: no limit.
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self { limit: limit.unwrap_or(u64::MAX), full_at: None }
    }

    /// Whether a fact had no room and no room was freed since.
    pub(super) fn is_full(&self) -> bool {
        self.full_at.is_some()
    }

    /// Ends the full state if room was freed. `weight`: current weight of all facts, in bytes.
    pub(super) fn look(&mut self, weight: u64) {
        let release_below = self.release_below();
        if let Some(full_at) = &mut self.full_at {
            // Facts that fit are accepted in the meantime.
            *full_at = weight.max(*full_at);
            if weight < release_below.min(*full_at) {
                self.full_at = None;
            }
        }
    }

    fn release_below(&self) -> u64 {
        self.limit / 16 * RELEASE_16THS
    }

    /// Returns the weight after merging these facts, starting from `weight`.
    ///
    /// # Errors
    /// [`StorageError::Quota`] if one of them has no room. The store becomes full if `weight` is near the limit. It
    /// also becomes full if the facts are one single relayed fact, because peers would send that one again and again.
    pub(super) fn admit(
        &mut self,
        view: &View,
        mut weight: u64,
        facts: &[Verified],
        origin: Origin,
    ) -> Result<u64, StorageError> {
        // `weight` includes the facts that precede these in the batch.
        let now = weight;
        for fact in facts {
            let growth = view.growth(fact.fact());
            let room = self.room_for(fact.fact());
            weight = weight.saturating_add(growth);
            // A fact that is known already is not written again.
            if growth > 0 && weight > room {
                if now >= self.release_below() || (facts.len() == 1 && origin == Origin::Relayed) {
                    self.full_at.get_or_insert(now);
                }
                return Err(StorageError::Quota {
                    limit_bytes: self.limit,
                    left_bytes: self.limit.saturating_sub(now),
                });
            }
        }
        Ok(weight)
    }

    /// Returns the total weight, in bytes, up to which a fact of this kind is accepted: the limit, plus the room
    /// reserved for the kind.
    fn room_for(&self, fact: &Fact) -> u64 {
        let reserve = (self.limit / 32).max(MIN_RESERVE_BYTES);
        match fact {
            Fact::Revocation(_) | Fact::Floor(_) => {
                self.limit.saturating_add(reserve.saturating_mul(ENDINGS_RESERVES))
            }
            Fact::Entry(entry) if entry.value().is_none() => self.limit.saturating_add(reserve),
            Fact::Grant(_) => self.limit.saturating_add(reserve),
            Fact::Entry(_) => self.limit,
        }
    }
}

impl StoreHandle {
    /// Whether a fact had no room. While full, the store accepts facts that fit, and requests no more from peers.
    pub fn is_full(&self) -> bool {
        *self.full.borrow()
    }

    /// Returns a channel that signals changes of [`StoreHandle::is_full`].
    pub(crate) fn fullness(&self) -> watch::Receiver<bool> {
        self.full.clone()
    }

    /// Whether the store has a size limit.
    pub(crate) fn has_limit(&self) -> bool {
        self.has_limit
    }
}

impl Committer {
    /// Publishes and logs a change of whether the store is full.
    pub(super) fn tell_fullness(&mut self) {
        let weight = self.replica.view().weight();
        self.quota.look(weight);
        let is_full = self.quota.is_full();
        if self.full.send_if_modified(|told| std::mem::replace(told, is_full) != is_full) {
            match is_full {
                true => tracing::warn!(
                    weight,
                    code = "store.quota",
                    "the store is near its limit, and something had no room: only what fits, and what may free room, is taken in"
                ),
                false => tracing::info!(weight, "the store has room again: facts are taken in"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use kvgossip_engine::{MemoryStorage, Replica, Storage as _};
    use kvgossip_grants::{
        EntryDraft, EntryFact, Floor, Key, KeyGlob, MockKey, MockVerifier, Signed, Signer, Timestamp,
    };

    const LIMIT: u64 = 64 << 20;

    struct World {
        key: MockKey,
        replica: Replica,
        storage: MemoryStorage,
        quota: Quota,
        time: u64,
    }

    impl World {
        fn new() -> Self {
            let key = MockKey::new(0);
            let (replica, storage) = (Replica::new(key.public().clone()), MemoryStorage::new());
            Self { key, replica, storage, quota: Quota::new(Some(LIMIT)), time: 0 }
        }

        fn verified(&self, fact: Fact) -> Verified {
            let unverified = self.replica.view().check(fact, Timestamp::MAX).expect("a good fact");
            unverified.verify(&MockVerifier).expect("a good signature")
        }

        fn entry(&mut self, key: &str, value: Option<usize>) -> Verified {
            self.time += 1;
            let draft = EntryDraft {
                key: Key::parse(key).expect("a key"),
                value: value.map(|len| Bytes::from(vec![0; len])),
                timestamp: Timestamp::ZERO.saturating_add(self.time),
                grant: None,
            };
            let cluster = self.key.public().cluster();
            self.verified(Fact::Entry(EntryFact::sign(cluster, draft, &self.key).expect("a signature")))
        }

        fn floor(&self) -> Verified {
            let patterns = vec![KeyGlob::parse("/none").expect("a glob")];
            let floor = Floor { patterns, before: Timestamp::ZERO, nonce: [0; 16] };
            let cluster = self.key.public().cluster();
            self.verified(Fact::Floor(Signed::sign(cluster, floor, &self.key).expect("a signature")))
        }

        /// Merges facts of a writer if they are admitted.
        fn offer(&mut self, facts: Vec<Verified>) -> bool {
            self.offer_from(facts, Origin::Direct { max_value_bytes: 1 << 20 }).is_ok()
        }

        fn offer_from(&mut self, facts: Vec<Verified>, origin: Origin) -> Result<(), StorageError> {
            let weight = self.replica.view().weight();
            self.quota.look(weight);
            self.quota.admit(self.replica.view(), weight, &facts, origin)?;
            self.replica.apply(facts, self.storage.reader().as_ref()).expect("memory");
            self.quota.look(self.replica.view().weight());
            Ok(())
        }

        fn set(&mut self, key: &str, len: usize) -> bool {
            let entry = self.entry(key, Some(len));
            self.offer(vec![entry])
        }

        /// Sets keys with values of 1 MiB until one has no room. Returns how many had room.
        fn fill(&mut self) -> usize {
            (0..100).take_while(|number| self.set(&format!("/{number}"), 1 << 20)).count()
        }
    }

    #[test]
    fn what_frees_room_is_taken_in_at_the_limit_and_nothing_else() {
        let mut world = World::new();
        assert_eq!(world.fill(), 63);
        assert!(world.quota.is_full());
        assert!(world.set("/small", 1), "it fits, whatever did not");
        assert!(!world.set("/large", 1 << 20) && world.quota.is_full());
        let shorter = world.entry("/0", Some(9));
        assert!(world.offer(vec![shorter]), "it frees room as well");
        let (delete, floor) = (world.entry("/1", None), world.floor());
        assert!(world.offer(vec![delete]) && world.offer(vec![floor]));
        assert!(world.quota.is_full(), "61 of 64 is still nearly all");
        for number in 2..=4 {
            let delete = world.entry(&format!("/{number}"), None);
            assert!(world.offer(vec![delete]));
        }
        assert!(!world.quota.is_full() && world.set("/large", 1 << 20));
    }

    #[test]
    fn who_is_full_by_what_comes_in_one_batch_is_so_until_anything_is_freed() {
        let relayed = |world: &mut World, facts: Vec<Verified>| world.offer_from(facts, Origin::Relayed);
        let mut world = World { quota: Quota::new(Some(4 << 20)), ..World::new() };
        let entries: Vec<Verified> =
            (0..5).map(|number| world.entry(&format!("/{number}"), Some(800_000))).collect();
        for entry in &entries[..4] {
            relayed(&mut world, vec![entry.clone()]).expect("room");
        }
        // Two facts of one batch: the second is checked before the first is merged.
        let weight = world.replica.view().weight();
        let fifth = vec![entries[4].clone()];
        let grown = world.quota.admit(world.replica.view(), weight, &fifth, Origin::Relayed).expect("room");
        let sixth = world.entry("/5", Some(800_000));
        assert!(world.quota.admit(world.replica.view(), grown, &[sixth], Origin::Relayed).is_err());
        world.replica.apply(fifth, world.storage.reader().as_ref()).expect("memory");
        assert!(world.set("/small", 100) && world.quota.is_full());
        let delete = world.entry("/0", None);
        assert!(world.offer(vec![delete]) && !world.quota.is_full());
        // The same if a large fact was refused first and the store fills up with facts that fit.
        let mut world = World { quota: Quota::new(Some(4 << 20)), ..World::new() };
        assert!((0..3).all(|number| world.set(&format!("/{number}"), 1 << 20)));
        let large = world.entry("/large", Some(1 << 20));
        assert!(relayed(&mut world, vec![large]).is_err() && world.quota.is_full());
        assert!(world.set("/half", 1 << 19) && world.quota.is_full());
        let delete = world.entry("/half", None);
        assert!(world.offer(vec![delete]) && !world.quota.is_full());
    }

    #[test]
    fn one_that_is_larger_than_what_is_left_says_how_much_that_is_and_keeps_no_other_out() {
        let mut world = World { quota: Quota::new(Some(2 << 20)), ..World::new() };
        assert!(world.set("/first", 1 << 20) && world.set("/second", 1 << 19));
        let large = world.entry("/large", Some(1 << 20));
        let left = (2 << 20) - world.replica.view().weight();
        for (origin, is_full) in
            [(Origin::Direct { max_value_bytes: 1 << 20 }, false), (Origin::Relayed, true)]
        {
            let refused = world.offer_from(vec![large.clone()], origin).expect_err("no room");
            let StorageError::Quota { limit_bytes, left_bytes } = refused else { panic!("{refused}") };
            assert_eq!((limit_bytes, left_bytes), (2 << 20, left));
            assert_eq!(world.quota.is_full(), is_full, "a peer is not to send it again and again");
        }
        let mut small = 0;
        while world.set(&format!("/small/{small}"), 1 << 10) {
            small += 1;
        }
        assert!(small > 300 && world.quota.is_full(), "{small}");
        assert!(world.replica.view().weight() <= 2 << 20);
    }

    #[test]
    fn the_room_for_deletes_and_that_for_floors_have_an_end() {
        let mut world = World::new();
        world.fill();
        let deletes = (0..100_000).take_while(|number| {
            let delete = world.entry(&format!("/new/{number}"), None);
            world.offer(vec![delete])
        });
        let count = deletes.count();
        assert!((1_000..10_000).contains(&count), "{count}");
        let floor = world.floor();
        assert!(world.offer(vec![floor]), "a floor has more room");
    }

    #[test]
    fn many_facts_that_do_not_fit_together_make_nothing_full() {
        let mut world = World::new();
        let many: Vec<_> = (0..70).map(|number| world.entry(&format!("/{number}"), Some(1 << 20))).collect();
        assert!(!world.offer(many) && !world.quota.is_full());
        assert!(world.set("/one", 1 << 20));
        world.fill();
        assert!(world.quota.is_full());
    }

    #[test]
    fn the_weight_is_that_of_what_stands() {
        let mut world = World::new();
        assert_eq!(world.replica.view().weight(), 0);
        assert!(world.set("/a", 100) && world.set("/a", 1_000));
        assert_eq!(world.replica.view().weight(), kvgossip_engine::ENTRY_WEIGHT + 3 * 2 + 1_000);
        let floor = world.floor();
        assert!(world.offer(vec![floor.clone()]) && world.offer(vec![floor]));
        let authority = kvgossip_engine::AUTHORITY_WEIGHT;
        assert_eq!(world.replica.view().weight(), kvgossip_engine::ENTRY_WEIGHT + 3 * 2 + 1_000 + authority);
        let grants = world.replica.view().weight_by_grant();
        assert_eq!(grants[&None].entries, 1);
        let delete = world.entry("/a", None);
        assert!(world.offer(vec![delete]));
        assert_eq!(world.replica.view().weight(), kvgossip_engine::ENTRY_WEIGHT + 3 * 2 + authority);
    }
}
