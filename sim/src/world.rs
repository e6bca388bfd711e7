//! Random worlds: all facts that were ever signed in a cluster, sound and unsound ones.

use crate::dice::Dice;
use crate::maker::{Made, make};
use crate::naive::{Cluster, Facts};
use crate::scribe::Scribe;
pub use crate::times::{CLOCKS, LATE, LOOKS, NOW, SECOND};
use kvgossip_grants::{Fact, GrantId, Key, PathPrefix, PublicKey, Signer, Timestamp};
use std::collections::BTreeSet;
use std::fmt;

/// All facts that were ever signed in a cluster.
#[derive(Clone, Debug)]
pub struct World {
    /// Seed from which everything follows.
    pub seed: u64,
    /// The cluster's id and the public keys of its entities.
    pub cluster: Cluster,
    /// Public key of the cluster's root.
    pub root: PublicKey,
    /// All facts, sound or not, in the order in which they were made.
    pub facts: Vec<Fact>,
    /// All keys that entries of the world may have.
    pub keys: Vec<Key>,
    /// Signing keys of the entities; number 0 is root.
    pub scribe: Scribe,
}

impl World {
    /// Makes the world that follows from `seed`.
    pub fn new(seed: u64) -> Self {
        let Made { scribe, keys, facts } = make(Dice::new(seed, 0));
        Self::of(seed, scribe, &keys, facts)
    }

    /// Makes a world of the given facts and of keys that entries may have.
    pub fn of(seed: u64, scribe: Scribe, keys: &[String], facts: Vec<Fact>) -> Self {
        let publics: Vec<&PublicKey> = (0..scribe.entities()).map(|who| scribe.key(who).public()).collect();
        let cluster = Cluster::new(scribe.root(), publics);
        let keys = keys.iter().filter_map(|key| Key::parse(key).ok()).collect();
        Self { seed, cluster, root: scribe.root().clone(), facts, keys, scribe }
    }

    /// Returns the sound facts: those that some replica may take in at some time.
    pub fn sound(&self) -> Facts {
        let sound = self.facts.iter().filter(|fact| self.cluster.is_sound(fact));
        sound.map(|fact| (fact.id(), fact.clone())).collect()
    }

    /// Returns all path prefixes of the world's keys, including the keys themselves.
    pub fn prefixes(&self) -> BTreeSet<PathPrefix> {
        let mut prefixes = BTreeSet::from([PathPrefix::root()]);
        for key in &self.keys {
            let ends = key.as_str().match_indices('/').skip(1).map(|(at, _)| at).chain([key.as_str().len()]);
            prefixes.extend(ends.filter_map(|end| PathPrefix::parse(&key.as_str()[..end]).ok()));
        }
        prefixes
    }

    /// Returns the sound facts without the entries that are early by `clock`.
    pub fn sound_at(&self, clock: Timestamp) -> Facts {
        let mut facts = self.sound();
        let limit = clock.saturating_add(120 * SECOND);
        facts.retain(|_, fact| !matches!(fact, Fact::Entry(it) if it.entry().timestamp > limit));
        facts
    }
}

/// Lists the facts of the world, for the analysis of a failure.
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
    /// Describes a fact of the world in one line.
    pub fn describe(&self, fact: &Fact) -> String {
        let id = fact.id().short();
        let cited = |grant: Option<GrantId>| grant.map_or("root".to_owned(), |grant| grant.short());
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
