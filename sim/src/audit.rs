//! Checks that everything in a real replica agrees with its facts: trees, change feed, indexes, explanations.

use crate::complaint::Complaint;
use crate::ledger::Ledger;
use crate::naive::{Facts, Law};
use crate::naive_tree::{Roots, entries_under, roots};
use crate::replica::SimReplica;
use crate::scribe::at;
use crate::world::{LOOKS, NOW, World};
use kvgossip_engine::{IndexEntry, Storage};
use kvgossip_grants::{EntryId, Explanation, GrantId, Key, Signer};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

/// Compares a replica with a set of facts in normal form.
pub(crate) fn audit(replica: &SimReplica, world: &World, normal: &Facts) -> Result<(), Complaint> {
    let law = world.cluster.law(normal);
    check_trees(replica, world, normal, &law)?;
    check_feed(replica, &law)?;
    check_index(replica, &law).map_err(Complaint::Index)?;
    check_authority(replica, world, &law).map_err(Complaint::Index)?;
    check_writers(replica, world, &law).map_err(Complaint::Index)
}

fn check_trees(replica: &SimReplica, world: &World, normal: &Facts, law: &Law<'_>) -> Result<(), Complaint> {
    let view = replica.view();
    let Roots { authority, entries, whole } = roots(normal);
    let found = (view.authority_root(), view.entries_root(), view.root());
    if found != (authority, entries, whole) {
        return Err(Complaint::Digest(format!("{found:?}, not {:?}", (authority, entries, whole))));
    }
    let listed: BTreeMap<Key, BTreeSet<EntryId>> =
        view.keys("", None).map(|(key, frontier)| (key, frontier.ids().collect())).collect();
    let wanted: BTreeMap<Key, BTreeSet<EntryId>> = law
        .frontiers()
        .into_iter()
        .map(|(key, entries)| (key.clone(), entries.iter().map(|entry| entry.id()).collect()))
        .collect();
    let is_sorted = view.entries().iter().map(|(key, _)| key).is_sorted();
    for prefix in world.prefixes() {
        let (found, wanted) = (view.digest(&prefix), entries_under(normal, &prefix));
        if found != wanted {
            return Err(Complaint::Digest(format!("{found:?} under {prefix}, not {wanted:?}")));
        }
    }
    if listed == wanted && is_sorted && view.entries().len() == wanted.len() {
        Ok(())
    } else {
        Err(Complaint::Stored(format!("the tree lists {listed:?}, not {wanted:?}")))
    }
}

/// Checks that each change event of the replica continues from the previous event of its key, and that all events
/// together give the replica's present state.
fn check_feed(replica: &SimReplica, law: &Law<'_>) -> Result<(), Complaint> {
    let mut newest: BTreeMap<Key, EntryId> = BTreeMap::new();
    let mut seq = 0;
    for change in &replica.changes {
        if newest.get(&change.key) != change.old.as_ref() {
            return Err(Complaint::Feed(format!("{change:?} does not follow what was told before")));
        }
        // The count begins again after a restart.
        if change.seq != seq + 1 && change.seq != 1 {
            return Err(Complaint::Feed(format!("{change:?} comes after number {seq}")));
        }
        seq = change.seq;
        match change.new {
            Some(id) => newest.insert(change.key.clone(), id),
            None => newest.remove(&change.key),
        };
    }
    let wanted = law.newest();
    if newest == wanted {
        Ok(())
    } else {
        Err(Complaint::Feed(format!("it adds up to {newest:?}, not {wanted:?}")))
    }
}

fn check_index(replica: &SimReplica, law: &Law<'_>) -> Result<(), String> {
    let (view, storage) = (replica.view(), replica.storage());
    let mut rows: BTreeMap<Key, Vec<IndexEntry>> = BTreeMap::new();
    let read = storage.load_index(&mut |key, row| rows.entry(key).or_default().push(row));
    read.map_err(|error| error.to_string())?;
    let mut wanted = BTreeMap::new();
    for (key, entries) in law.frontiers() {
        let mut row = Vec::new();
        for fact in entries {
            let (timestamp, grant) = (fact.entry().timestamp, fact.entry().grant);
            let value_bytes = fact.value().and_then(|value| u32::try_from(value.len()).ok());
            let is_delete = fact.value().is_none();
            row.push(IndexEntry { id: fact.id(), timestamp, grant, is_delete, value_bytes });
            if !is_cited(storage, grant, key)? {
                return Err(format!("nothing says that {key} cites {grant:?}"));
            }
        }
        row.sort_by_key(|entry| entry.id);
        wanted.insert(key.clone(), row);
    }
    if rows != wanted {
        return Err(format!("the rows are {rows:?}, not {wanted:?}"));
    }
    match storage.summary() {
        Ok(None) if view.batch() == 0 => Ok(()),
        Ok(Some(summary)) if summary.root == view.root() && summary.batch == view.batch() => Ok(()),
        other => Err(format!("the summary is {other:?}")),
    }
}

/// Whether the store has a citation of `grant` by `key`; always true for root's entries.
fn is_cited(storage: &Ledger, grant: Option<GrantId>, key: &Key) -> Result<bool, String> {
    let Some(grant) = grant else { return Ok(true) };
    let mut found = false;
    let each = &mut |citing: Key| found |= citing == *key;
    storage.reader().keys_citing(&grant, each).map_err(|error| error.to_string())?;
    Ok(found)
}

fn check_authority(replica: &SimReplica, world: &World, law: &Law<'_>) -> Result<(), String> {
    let authority = replica.view().authority();
    let live: BTreeSet<GrantId> = authority.grants().map(|grant| grant.id()).collect();
    same("live", &live, law.live())?;
    for look in LOOKS.map(at) {
        same("the next expiry", &authority.next_expiry(look), &law.next_expiry(look))?;
    }
    for key in &world.keys {
        same("the floor of a key", &authority.floor_of(key), &law.floor_of(key))?;
    }
    for who in 0..world.scribe.entities() {
        let id = world.scribe.key(who).public().entity();
        let held: BTreeSet<GrantId> = authority.grants_of(id).map(|grant| grant.id()).collect();
        same("held by an entity", &held, &law.held_by(id))?;
    }
    Ok(())
}

/// Checks that explanations agree with verdicts, and that an entry with the proposed timestamp is accepted and shown.
fn check_writers(replica: &SimReplica, world: &World, law: &Law<'_>) -> Result<(), String> {
    let view = replica.view();
    for key in &world.keys {
        for who in (1..world.scribe.entities()).map(|who| world.scribe.key(who).public().entity()) {
            for look in LOOKS.map(at) {
                let explained = view.authority().explain(key, who, look);
                let may = matches!(explained, Explanation::Accepted(_));
                same(&format!("writing {key} at {look}"), &may, &law.may_write(who, key, look))?;
            }
        }
        for grant in law.live().iter().take(3).map(Some).chain([None]) {
            let look = at(NOW);
            same("a stamp", &view.stamp(key, grant, look), &law.stamp(key, grant, look))?;
        }
    }
    Ok(())
}

fn same<T: PartialEq + Debug>(what: &str, found: &T, wanted: &T) -> Result<(), String> {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found:?}, not {wanted:?}")) }
}
