//! Random worlds: every fact that anybody ever signed in a cluster, the sound and the unsound ones.

use crate::dice::Dice;
use crate::maker::{Made, make};
use crate::naive::{Cluster, Facts};
use crate::scribe::Scribe;
use kvgossip_grants::{Fact, FactId, Key, PathPrefix, PublicKey, Signer, Timestamp};
use std::collections::BTreeSet;
use std::fmt;

/// One second, in microseconds.
pub const SECOND: u64 = 1_000_000;
/// What a clock that goes right says.
pub const NOW: u64 = 10_000 * SECOND;
/// What all clocks say at last: every entry's time has come.
pub const LATE: u64 = 2 * NOW;
/// What the clocks of replicas say before.
pub const CLOCKS: [u64; 5] = [NOW, NOW, NOW - 200 * SECOND, NOW + 200 * SECOND, NOW + 600 * SECOND];
/// When values are looked at.
pub const LOOKS: [u64; 4] = [1_035 * SECOND, NOW, NOW + 61 * SECOND, LATE];

/// Everything that was ever signed in a cluster.
#[derive(Clone, Debug)]
pub struct World {
    /// Everything follows from it.
    pub seed: u64,
    /// Who is who.
    pub cluster: Cluster,
    /// The cluster's root.
    pub root: PublicKey,
    /// All facts, sound or not, in the order in which they were made.
    pub facts: Vec<Fact>,
    /// All keys that entries may have.
    pub keys: Vec<Key>,
    /// Everybody's keys: number 0 is root.
    pub scribe: Scribe,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64) -> Self {
        let Made { scribe, keys, facts } = make(Dice::new(seed, 0));
        Self::of(seed, scribe, &keys, facts)
    }

    /// A world of these facts.
    pub fn of(seed: u64, scribe: Scribe, keys: &[String], facts: Vec<Fact>) -> Self {
        let publics: Vec<&PublicKey> = (0..scribe.entities()).map(|who| scribe.key(who).public()).collect();
        let cluster = Cluster::new(scribe.root(), publics);
        let keys = keys.iter().filter_map(|key| Key::parse(key).ok()).collect();
        Self { seed, cluster, root: scribe.root().clone(), facts, keys, scribe }
    }

    /// The facts that can be taken in somewhere, sometime.
    pub fn sound(&self) -> Facts {
        let sound = self.facts.iter().filter(|fact| self.cluster.is_sound(fact));
        sound.map(|fact| (fact.id(), fact.clone())).collect()
    }

    /// Every place above a key, and the keys themselves.
    pub fn prefixes(&self) -> BTreeSet<PathPrefix> {
        let mut prefixes = BTreeSet::from([PathPrefix::root()]);
        for key in &self.keys {
            let ends = key.as_str().match_indices('/').skip(1).map(|(at, _)| at).chain([key.as_str().len()]);
            prefixes.extend(ends.filter_map(|end| PathPrefix::parse(&key.as_str()[..end]).ok()));
        }
        prefixes
    }

    /// The sound facts but for entries that a clock takes to be from the future.
    pub fn sound_at(&self, clock: Timestamp) -> Facts {
        let mut facts = self.sound();
        let limit = clock.saturating_add(120 * SECOND);
        facts.retain(|_, fact| !matches!(fact, Fact::Entry(it) if it.entry().timestamp > limit));
        facts
    }
}

/// A list for people who look into a failure.
impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "world {} with {} facts", self.seed, self.facts.len())?;
        for fact in &self.facts {
            let sound = if self.cluster.is_sound(fact) { "" } else { "  (unsound)" };
            writeln!(f, "  {}{sound}", self.describe(fact))?;
        }
        Ok(())
    }
}

impl World {
    /// A fact in one line.
    pub fn describe(&self, fact: &Fact) -> String {
        let id = fact.id().short();
        let cited = |grant: Option<FactId>| grant.map_or("root".to_owned(), |grant| grant.short());
        let seconds = |time: Timestamp| time.as_micros() / SECOND;
        let who = |entity| self.scribe.who_is(entity).map_or("?".to_owned(), |who| who.to_string());
        match fact {
            Fact::Grant(grant) => {
                let body = grant.body();
                format!(
                    "{id} grant {}→{} {} under {} subgrant {} from {} to {:?}",
                    who(body.issuer),
                    who(body.grantee.entity()),
                    body.pattern,
                    cited(body.parent),
                    body.subgrant,
                    seconds(body.issued_at),
                    body.expires_at.map(seconds)
                )
            }
            Fact::Revocation(it) => {
                format!("{id} revocation of {} by {:?}", it.body().grant.id().short(), it.body().by)
            }
            Fact::Floor(floor) => {
                format!("{id} floor {:?} before {}", floor.body().patterns, seconds(floor.body().before))
            }
            Fact::Entry(it) => {
                let entry = it.entry();
                format!(
                    "{id} entry {} at {} by {} under {} {:?}",
                    entry.key,
                    seconds(entry.timestamp),
                    who(entry.signer),
                    cited(entry.grant),
                    it.value().map(|value| String::from_utf8_lossy(value).into_owned())
                )
            }
        }
    }
}
