//! The state that the definitions require of a replica, in a form that is fast to compare with.

use crate::naive::Facts;
use crate::naive_tree::{Roots, roots};
use crate::scribe::at;
use crate::subject::{Complaint, Subject};
use crate::world::{LOOKS, World};
use bytes::Bytes;
use kvgossip_grants::{EntryId, FactId, Key};
use std::collections::BTreeMap;

/// State that the definitions require of a replica that has taken in a set of facts.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) normal: Facts,
    records: BTreeMap<FactId, Bytes>,
    roots: Roots,
    /// Shown entries of all keys, at each time of [`LOOKS`].
    values: Vec<BTreeMap<Key, EntryId>>,
}

impl Expected {
    /// Computes the required state from the facts `taken` in, by the definitions.
    pub(crate) fn new(world: &World, taken: &Facts) -> Self {
        let normal = world.cluster.normal_form(taken);
        let law = world.cluster.law(taken);
        let values = LOOKS.iter().map(|look| law.values(at(*look))).collect();
        let records = normal.iter().map(|(id, fact)| (*id, fact.to_record())).collect();
        Self { roots: roots(&normal), normal, records, values }
    }

    /// Compares the state of a subject with the required one.
    pub(crate) fn check<S: Subject>(&self, world: &World, subject: &S) -> Result<(), Complaint> {
        let stored = subject.stored();
        if stored != self.records {
            let list = |these: &BTreeMap<FactId, Bytes>, those: &BTreeMap<FactId, Bytes>| {
                let more = these.iter().filter(|(id, record)| those.get(*id) != Some(*record));
                more.map(|(id, _)| id.short()).collect::<Vec<_>>().join(" ")
            };
            let (extra, missing) = (list(&stored, &self.records), list(&self.records, &stored));
            return Err(Complaint::Stored(format!("too much: [{extra}], too little: [{missing}]")));
        }
        if subject.root() != self.roots.whole {
            return Err(Complaint::Digest("the root".into()));
        }
        for (look, values) in LOOKS.iter().zip(&self.values) {
            for key in &world.keys {
                let (seen, wanted) = (subject.shown(key, at(*look)), values.get(key).copied());
                if seen != wanted {
                    return Err(Complaint::Shown(format!("{key} at {look}: {seen:?}, not {wanted:?}")));
                }
            }
        }
        Ok(())
    }
}
