//! Sessions between replicas that hold many entries of one key: each under a grant of its own, so that none dominates
//! another.

use kvgossip_engine::session::Outcome;
use kvgossip_grants::{Fact, GrantId, PathPrefix};
use kvgossip_sim::naive_tree::roots;
use kvgossip_sim::scribe::{Terms, at};
use kvgossip_sim::{Dice, Ended, Link, Scribe, SimReplica, sync};
use std::collections::BTreeSet;

const NOW: u64 = 1_000_000;
/// How many entries a side has of the key: both sides of where a list ends, and far beyond.
const SIZES: [usize; 8] = [0, 1, 15, 16, 17, 33, 1_000, 5_000];
/// What a session costs that finds one entry, in bytes beside the facts: two hellos and finals, and a few parts for
/// each level.
const FIXED_BYTES: u64 = 900;
/// What each entry beyond that may cost: its way down where it is alone in its part, its id, its tell.
const BYTES_PER_DIFFERENCE: u64 = 64;

/// Writers with a grant each, all of the same signer.
struct Crowd {
    scribe: Scribe,
    grants: Vec<(GrantId, Fact)>,
}

impl Crowd {
    fn new(writers: usize) -> Self {
        let mut scribe = Scribe::new(2);
        let mut grant = || {
            let grant = scribe.grant(0, 1, "/**", None, Terms::default());
            (grant.id(), Fact::Grant(grant))
        };
        let grants = (0..writers).map(|_| grant()).collect();
        Self { scribe, grants }
    }

    fn entry(&self, key: &str, writer: usize, time: u64) -> Fact {
        let value = format!("value {time} of {writer}");
        self.scribe.set(1, key, value.as_bytes(), time, Some(self.grants[writer].0))
    }

    /// A replica that knows all writers, and has some entries.
    fn replica(&self, entries: impl IntoIterator<Item = Fact>) -> SimReplica {
        let mut replica = SimReplica::new(self.scribe.root().clone(), at(NOW));
        take(&mut replica, self.grants.iter().map(|(_, grant)| grant.clone()));
        take(&mut replica, entries);
        replica
    }
}

/// Facts in one batch.
fn take(replica: &mut SimReplica, facts: impl IntoIterator<Item = Fact>) {
    let verified = facts.into_iter().map(|fact| replica.check(fact).expect("a sound fact")).collect();
    assert!(replica.apply(verified).iter().all(|verdict| verdict.is_taken_in()));
}

fn moved(ended: &Ended) -> u64 {
    ended.tally.sent.entry_facts + ended.tally.received.entry_facts
}

fn assert_equal(ended: &Ended, a: &SimReplica, b: &SimReplica) {
    assert!(ended.error.is_none(), "{:?}", ended.error);
    assert_eq!(ended.outcome, Some(Outcome::Equal), "{ended:?}");
    assert!(ended.tally.rounds <= 1, "{ended:?}");
    assert_eq!(a.view().root(), b.view().root());
}

/// Writers, picked at random.
fn some(dice: &mut Dice, writers: usize, count: usize) -> BTreeSet<usize> {
    let mut all: Vec<usize> = (0..writers).collect();
    dice.shuffle(&mut all);
    all.into_iter().take(count).collect()
}

#[test]
fn any_two_frontiers_become_one_in_a_round_at_a_price_for_each_difference() {
    for (seed, size) in (0..).zip(SIZES.into_iter().flat_map(|one| SIZES.map(|other| (one, other)))) {
        let mut dice = Dice::new(seed, 0);
        // The long ones are dear: each with a few others.
        if size.0 + size.1 > 2_000 && !dice.chance(30) {
            continue;
        }
        // From nothing in common to one side within the other.
        let universe = size.0.max(size.1) + dice.within(0, 1 + size.0.min(size.1)).min(1_000);
        let crowd = Crowd::new(universe);
        let (one, other) = (some(&mut dice, universe, size.0), some(&mut dice, universe, size.1));
        let side = |writers: &BTreeSet<usize>| {
            crowd.replica(writers.iter().map(|writer| crowd.entry("/a/key", *writer, 100)))
        };
        let (mut a, mut b) = (side(&one), side(&other));
        let ended = sync(&mut a, &mut b, &Link { seed, ..Link::default() });
        assert_equal(&ended, &a, &b);
        let differences = one.symmetric_difference(&other).count() as u64;
        assert_eq!(moved(&ended), differences, "{size:?} {ended:?}");
        assert_eq!(ended.tally.waste + ended.responder_tally.waste, 0, "{size:?}");
        let most = FIXED_BYTES + BYTES_PER_DIFFERENCE * differences;
        assert!(ended.overhead() <= most, "{size:?} {} for {differences}", ended.overhead());
        let standing = a.facts().into_iter().map(|fact| (fact.id(), fact)).collect();
        assert_eq!(roots(&standing).whole, a.view().root(), "{size:?}");
    }
}

#[test]
fn one_entry_more_among_thousands_costs_a_few_hundred_bytes() {
    let crowd = Crowd::new(24_001);
    let mut overheads = Vec::new();
    for count in [1_500, 24_000] {
        let mut a = crowd.replica((0..count).map(|writer| crowd.entry("/a/key", writer, 100)));
        let mut b = crowd.replica((0..=count).map(|writer| crowd.entry("/a/key", writer, 100)));
        let ended = sync(&mut a, &mut b, &Link { seed: 1, ..Link::default() });
        assert_equal(&ended, &a, &b);
        assert_eq!(moved(&ended), 1);
        println!("{count}: {} bytes in {} flights", ended.overhead(), ended.tally.flights);
        overheads.push(ended.overhead());
    }
    assert!(overheads[1] <= FIXED_BYTES, "{overheads:?}");
    assert!(overheads[1] <= overheads[0] + 200, "16 times as many cost a level more: {overheads:?}");
}

/// A writer's new entry stands elsewhere in the tree than the old one that it supersedes. The old one is hardly ever sent.
#[test]
fn what_the_other_side_has_something_newer_for_is_seldom_sent() {
    let (mut updates, mut wasted, mut extra) = (0, 0, 0);
    for (seed, writers) in (0..).zip([17, 24, 36, 60, 100, 150]) {
        let crowd = Crowd::new(writers);
        let mut dice = Dice::new(seed, 1);
        let (one, other) = (some(&mut dice, writers, writers / 5), some(&mut dice, writers, writers / 5));
        let side = |newer: &BTreeSet<usize>| {
            let time = |writer| if newer.contains(&writer) { 200 } else { 100 };
            crowd.replica((0..writers).map(|writer| crowd.entry("/a/key", writer, time(writer))))
        };
        let (mut a, mut b) = (side(&one), side(&other));
        let ended = sync(&mut a, &mut b, &Link { seed, ..Link::default() });
        assert_equal(&ended, &a, &b);
        let needed = one.symmetric_difference(&other).count() as u64;
        updates += needed;
        extra += moved(&ended) - needed;
        wasted += ended.tally.waste + ended.responder_tally.waste;
    }
    println!("{updates} updates, {extra} superseded entries of {wasted} bytes sent");
    assert!(extra * 10 <= updates, "{extra} of {updates}");
}

#[test]
fn long_keys_lie_among_others_and_under_any_scope() {
    let crowd = Crowd::new(60);
    // Keys that begin alike: names of their entries must not mix.
    let keys = ["/k", "/k-", "/k/a", "/k/a/b", "/k0", "/l"];
    let entries = |skip: usize| {
        let writers = move |key: usize| (0..60).filter(move |writer| (writer + key) % 7 != skip);
        let crowd = &crowd;
        keys.iter().zip(0..).flat_map(move |(key, number)| {
            let count = [60, 20, 40, 60, 3, 18][number];
            writers(number)
                .filter(move |writer| *writer < count)
                .map(move |writer| crowd.entry(key, writer, 100))
        })
    };
    for scope in ["/k", "/k/a", "/l", "/k-", "/nothing", "/"] {
        let scope = PathPrefix::parse(scope).expect("a prefix");
        let (mut a, mut b) = (crowd.replica(entries(3)), crowd.replica(entries(5)));
        let before = a.view().root();
        let ended = sync(&mut a, &mut b, &Link { seed: 9, scope: scope.clone(), ..Link::default() });
        assert!(ended.error.is_none(), "{:?}", ended.error);
        assert_eq!(ended.outcome, Some(Outcome::Equal), "{scope}: {ended:?}");
        assert_eq!(a.view().digest(&scope), b.view().digest(&scope), "{scope}");
        assert_eq!(ended.tally.waste + ended.responder_tally.waste, 0, "{scope}");
        assert_eq!(moved(&ended) == 0, a.view().root() == before && scope.as_str() == "/nothing", "{scope}");
        assert!(scope.is_root() || a.view().root() != b.view().root(), "{scope}: the rest is left as it was");
    }
}
