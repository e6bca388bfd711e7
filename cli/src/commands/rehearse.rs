//! `--dry-run` of `grant revoke` and `floor`: shows what would be removed.

use crate::error::{Exit, Result};
use crate::output::{self, Format, MAX_LISTED, counted, printable, say};
use crate::progress::Progress;
use crate::survey::{Source, Survey, Whole};
use kvgossip_engine::{EntryMeta, Frontier};
use kvgossip_grants::{EntryId, FilterRule, GrantId, Key, LiveGrant, Timestamp};
use serde_json::json;
use std::collections::BTreeSet;

/// The state of a key after the removal of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// The key shows the same entry as before.
    Same,
    /// The key is unset.
    Unset,
    /// The key shows the entry with this id instead, an older one.
    Older(EntryId),
}

/// Number of grants, entries and keys that the removal would affect.
#[derive(Debug, Default)]
struct Fall {
    grants: u64,
    entries: u64,
    /// Number of keys that would show another entry than now.
    keys: u64,
    unset: u64,
}

/// Shows what a revocation of `id` would remove.
pub(crate) async fn revoke(source: Source<'_>, id: &crate::ids::IdPrefix, format: Format) -> Result<Exit> {
    let mut survey = Survey::begin(source).await?;
    let authority = survey.view().authority();
    let ids: Vec<String> = authority.grants().map(|grant| grant.id().to_string()).collect();
    let whole = id.find("live grant", ids.iter().map(String::as_str))?;
    let Some(top) = authority.grants().find(|grant| grant.id().to_string() == whole) else {
        return Ok(Exit::NotFound);
    };
    let filter = vec![FilterRule { excludes: false, glob: top.body().pattern.clone() }];
    let top = top.id();
    let mut ended: Vec<_> = authority.grants().filter(|grant| grant.descends_from(&top)).cloned().collect();
    ended.sort_by_key(|grant| (grant.depth(), grant.id()));
    let mut fall = Fall::default();
    for grant in &ended {
        fall.grants += 1;
        show_grant(grant, fall.grants, format)?;
    }
    output::more(fall.grants, "grant", "grants", format)?;
    let ids: BTreeSet<GrantId> = ended.iter().map(|grant| grant.id()).collect();
    let falls = |entry: &EntryMeta| entry.grant_id().is_some_and(|grant| ids.contains(&grant));
    entries(&mut survey, &filter, falls, fall, format).await
}

/// Shows what a floor would remove.
pub(crate) async fn floor(
    source: Source<'_>,
    filter: Vec<FilterRule>,
    before: Timestamp,
    format: Format,
) -> Result<Exit> {
    let mut survey = Survey::begin(source).await?;
    let falls = |entry: &EntryMeta| entry.timestamp < before;
    entries(&mut survey, &filter, falls, Fall::default(), format).await
}

async fn entries(
    survey: &mut Survey<'_>,
    filter: &[FilterRule],
    falls: impl Fn(&EntryMeta) -> bool,
    mut fall: Fall,
    format: Format,
) -> Result<Exit> {
    let mut progress = Progress::start();
    let mut left = survey.entries(filter)?;
    while let Some(read) = survey.next(&mut left).await? {
        for Whole { key, .. } in &read.keys {
            let Some(frontier) = survey.view().frontier(key) else { continue };
            let ending = frontier.newest_first().filter(|entry| falls(&entry.meta)).count() as u64;
            if ending > 0 {
                fall.entries += ending;
                progress.clear();
                show_key(key, after(frontier, &falls, survey.now()), &mut fall, format)?;
            }
        }
        progress.tell(|| format!("{} so far…", counted(fall.entries, "entry", "entries")));
    }
    drop(progress);
    output::more(fall.keys, "key", "keys", format)?;
    summary(&fall, format)
}

/// Returns what a key shows without the entries for which `falls` holds.
fn after(frontier: &Frontier, falls: impl Fn(&EntryMeta) -> bool, now: Timestamp) -> After {
    let value = |entry: Option<&EntryMeta>| entry.filter(|entry| !entry.is_delete).map(|entry| entry.id);
    let mut left = frontier.newest_first().map(|entry| &entry.meta).filter(|entry| !entry.is_masked(now));
    let old = value(frontier.shown(now).map(|entry| &entry.meta));
    match (old, value(left.find(|entry| !falls(entry)))) {
        (old, new) if old == new => After::Same,
        (_, None) => After::Unset,
        // Also if a removed delete covered it.
        (_, Some(new)) => After::Older(new),
    }
}

fn show_grant(grant: &LiveGrant, number: u64, format: Format) -> Result<()> {
    let (id, grantee, pattern) = (grant.id(), grant.body().grantee.entity(), &grant.body().pattern);
    match format {
        Format::Json => output::json(&json!({
            "kind": "grant", "id": id.to_string(), "grantee": grantee.to_string(), "pattern": pattern.as_str(),
        })),
        Format::Text if number > MAX_LISTED => Ok(()),
        Format::Text => output::text(&format!("grant {id} to {} over {pattern}\n", grantee.short())),
    }
}

fn show_key(key: &Key, after: After, fall: &mut Fall, format: Format) -> Result<()> {
    let (text, older) = match after {
        After::Same => return Ok(()),
        After::Unset => {
            fall.unset += 1;
            ("unset".to_owned(), None)
        }
        After::Older(id) => (format!("back to entry {}", id.short()), Some(id.to_string())),
    };
    fall.keys += 1;
    match format {
        Format::Json => output::json(&json!({ "kind": "key", "key": key.as_str(), "becomes": older })),
        Format::Text if fall.keys > MAX_LISTED => Ok(()),
        Format::Text => output::text(&(printable(&format!("key {key}: {text}")) + "\n")),
    }
}

fn summary(fall: &Fall, format: Format) -> Result<Exit> {
    let Fall { grants, entries, keys, unset } = fall;
    match format {
        Format::Json => output::json(&json!({
            "kind": "summary", "grants": grants, "entries": entries, "keys": keys, "unset": unset,
        }))?,
        Format::Text => say(&format!(
            "nothing was signed; {} and {} would end: {} would be unset, {} go back to an older entry",
            counted(*grants, "grant", "grants"),
            counted(*entries, "entry", "entries"),
            counted(*unset, "key", "keys"),
            keys - unset
        )),
    }
    Ok(Exit::Ok)
}
