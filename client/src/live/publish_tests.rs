//! What subscribers see, and in which order it is updated.

use super::handles::{Change, Matching, Subscription};
use super::interests::What;
use super::paged_tests::{World, key, time};
use super::publish::publish;
use super::registry::Shared;
use super::state::{Cause, Rejection, Value};
use kvgossip_grants::{By, EntryFact, Fact, Filter, Revocation};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

/// A world with a subscription to its key and one to all keys.
struct Watched {
    world: World,
    shared: Arc<Shared>,
    sub: Subscription,
    all: Matching,
    entries: Vec<EntryFact>,
}

impl Watched {
    /// Starts with two live entries, each under its own grant; the value of the second has not been received.
    fn begin() -> Self {
        let mut world = World::with_grants_until(2, None);
        let shared = Arc::new(Shared::new());
        let sub = Subscription::new(shared.clone(), &key());
        let filter = Filter::parse(["/**"]).expect("a filter");
        let all = Matching::new(shared.clone(), &filter);
        world.core.add(2, What::Matching(filter));
        let entries: Vec<EntryFact> = [400, 300]
            .into_iter()
            .zip(world.grants.clone())
            .map(|(at, grant)| world.entry(at, Some(grant.id()), Some(b"v")))
            .collect();
        world.tell(None, Some(&entries[0]), &entries[1..]);
        world.synced();
        let mut watched = Self { world, shared, sub, all, entries };
        watched.publish();
        assert!(matches!(watched.all.pop(), Some(Change::Added { .. })));
        watched
    }

    fn publish(&mut self) {
        publish(&mut self.world.core, &self.shared);
    }

    /// Advances the clock to this many microseconds after the start.
    fn tick(&mut self, after: u64) {
        self.world.core.tick(time(500 + after));
        self.publish();
    }

    fn revoke_first(&mut self) -> Cause {
        let grant = self.world.grants[0].clone();
        let id = grant.id();
        let revocation = Revocation { grant, by: By::Root, revoked_at: time(450) };
        let revocation = Fact::Revocation(self.world.sign(revocation, 0));
        self.world.tell_authority(&[revocation]);
        self.publish();
        Cause::Revoked(id)
    }
}

#[test]
fn what_takes_the_place_of_a_revoked_entry_is_told_as_one_change_although_its_value_is_asked_for() {
    let mut watched = Watched::begin();
    let revoked = watched.revoke_first();
    assert_eq!(watched.sub.state().value, Value::Unknown, "what was revoked is not shown");
    assert!(watched.all.entries().is_empty());
    assert_eq!(watched.all.pop(), None, "its end alone is not worth telling");
    let (asked, id) = watched.world.core.next_valueless().expect("a value is missing");
    watched.world.core.hear_value("a", &asked, id, watched.entries[1].clone());
    watched.publish();
    let change = watched.all.pop();
    assert!(matches!(change, Some(Change::Updated { cause, .. }) if cause == revoked), "{change:?}");
}

#[test]
fn a_value_that_nobody_gives_is_reported_once_and_the_end_of_the_one_before_is_told() {
    let mut watched = Watched::begin();
    let revoked = watched.revoke_first();
    watched.tick(2_900_000);
    assert_eq!((watched.all.pop(), watched.world.core.rejections.count()), (None, 0));
    for after in [3_100_000, 9_000_000] {
        watched.tick(after);
        let (count, list) = watched.world.core.rejections.list();
        let said = (count, list[0].code.as_str(), list[0].key.clone(), list[0].id);
        assert_eq!(said, (1, Rejection::NO_VALUE, Some(key()), Some(watched.entries[1].id().into())));
    }
    assert_eq!(watched.all.pop(), Some(Change::Removed { key: key(), cause: revoked }));
    assert_eq!(watched.sub.state().value, Value::Unknown);
    assert!(watched.world.core.rejections.take_blamed().is_empty());
}

#[test]
fn an_end_that_was_not_told_for_a_value_that_was_to_come_is_told_when_that_ends_too() {
    let mut watched = Watched::begin();
    watched.revoke_first();
    let delete = watched.world.entry(460, None, None);
    watched.world.tell(None, Some(&delete), &[]);
    watched.publish();
    let deleted = Cause::Deleted(delete.id());
    assert_eq!(watched.all.pop(), Some(Change::Removed { key: key(), cause: deleted }));
}

/// Records what is shown at the moment of waking.
struct Look(Mutex<Vec<bool>>, Box<dyn Fn() -> bool + Send + Sync>);

impl Wake for Look {
    fn wake(self: Arc<Self>) {
        let seen = (self.1)();
        self.0.lock().expect("no panic").push(seen);
    }
}

fn look(shows: impl Fn() -> bool + Send + Sync + 'static) -> (Arc<Look>, Waker) {
    let look = Arc::new(Look(Mutex::default(), Box::new(shows)));
    (look.clone(), Waker::from(look))
}

#[test]
fn everything_is_in_its_place_before_anybody_is_woken() {
    let mut watched = Watched::begin();
    watched.revoke_first();
    let (asked, id) = watched.world.core.next_valueless().expect("a value is missing");
    watched.world.core.hear_value("a", &asked, id, watched.entries[1].clone());
    let (mut states, mut all) = (watched.sub.watch(), watched.all.clone());
    states.mark_unchanged();

    let entries = watched.all.clone();
    let (of_key, waker) = look(move || entries.entries().len() == 1);
    let mut changed = Box::pin(states.changed());
    assert!(changed.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let sub = watched.sub.clone();
    let (of_filter, waker) = look(move || sub.state().value.entry().is_some());
    let mut next = Box::pin(all.next());
    assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());

    watched.publish();
    for look in [of_key, of_filter] {
        assert_eq!(*look.0.lock().expect("no panic"), [true]);
    }
}
