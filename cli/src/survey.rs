//! Reads and verifies the facts that a signer needs: the authority and the entries of some keys, from an agent, or
//! from a file on a machine without one.

use crate::answer::{agent_time, unexpected};
use crate::clocks::{Apart, Asked};
use crate::codes;
use crate::error::{Failure, Result};
use crate::factfile::FactFile;
use crate::facts::{authority, next_page, read_fact};
use crate::files;
use crate::output::{counted, say};
use crate::snapshot::Snapshot;
use crate::time;
use kvgossip_api::PlanResponse;
use kvgossip_client::{AgentClient, FactKind, FactsQuery};
use kvgossip_engine::View;
use kvgossip_grants::{
    EntityId, EntryFact, Fact, Filter, FilterRule, Key, KeyGlob, PathPrefix, PublicKey, Timestamp, Verdict,
};
use std::collections::BTreeMap;
use std::collections::btree_map::IntoValues;
use std::path::Path;

/// Suffix of `next` in a page that says that more entries of the page's last key follow.
const KEY_GOES_ON: char = '!';
/// Number of keys in a portion that is read from a file.
const PORTION_KEYS: usize = 512;

/// Where the facts come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    /// An agent, asked over its HTTP API.
    Agent(&'a AgentClient),
    /// A file of facts of the cluster with this root.
    File(&'a Path, &'a PublicKey),
}

/// Authority of a source, and its entries as far as they were read and verified.
#[derive(Debug)]
pub(crate) struct Survey<'a> {
    source: Source<'a>,
    snapshot: Snapshot,
    now: Timestamp,
    apart: Apart,
    /// Key in the middle of which the last page ended; `None` if the page ended between keys.
    open: Option<Whole>,
}

/// A key whose entries have all been read.
#[derive(Debug)]
pub(crate) struct Whole {
    /// Key whose entries have been read.
    pub(crate) key: Key,
    /// Shown entry of the key, which may be a delete; `None`: the key shows none.
    pub(crate) shown: Option<EntryFact>,
}

/// Entries read at a time.
#[derive(Debug)]
pub(crate) struct Portion {
    /// Verified entries of the portion, in key order.
    pub(crate) entries: Vec<EntryFact>,
    /// Keys all of whose entries have been read with this portion.
    pub(crate) keys: Vec<Whole>,
}

impl<'a> Survey<'a> {
    /// Reads the authority.
    ///
    /// # Errors
    /// Fails if the source cannot be read.
    pub(crate) async fn begin(source: Source<'a>) -> Result<Self> {
        match source {
            Source::Agent(client) => {
                let asked = Asked::now();
                let status = client.status().await?;
                let apart = asked.answered(status.now_us);
                let root = PublicKey::from_pem(&status.root_pem).ok();
                let root = root.filter(|root| root.cluster().to_string() == status.cluster);
                let root = root.ok_or_else(|| unexpected("a root key that is not its cluster's"))?;
                let now = agent_time(status.now_us)?;
                let mut survey = Self { source, snapshot: Snapshot::new(root), now, apart, open: None };
                survey.read_agents_authority(client).await?;
                Ok(survey)
            }
            Source::File(path, root) => {
                let (snapshot, now) = (Snapshot::new(root.clone()), time::now());
                let mut survey = Self { source, snapshot, now, apart: Apart::Not, open: None };
                survey.read_files_authority(path, root)?;
                Ok(survey)
            }
        }
    }

    /// Returns the view of the facts read so far.
    pub(crate) fn view(&self) -> &View {
        self.snapshot.view()
    }

    /// Returns the time of the agent's clock, or of this machine's without an agent.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// Returns the difference of the agent's clock from this machine's.
    pub(crate) fn apart(&self) -> Apart {
        self.apart
    }

    async fn read_agents_authority(&mut self, client: &AgentClient) -> Result<()> {
        let cluster = self.view().authority().cluster();
        let facts = authority(client, cluster).await?;
        let kinds: Vec<_> = facts.iter().map(|fact| (fact.kind(), fact.id())).collect();
        for ((kind, id), verdict) in kinds.into_iter().zip(self.snapshot.take(facts)?) {
            if let Verdict::Refused(code) = verdict {
                let text = format!("the agent's {kind} {} does not verify: {}", id.short(), code.help());
                return Err(Failure::new(code.as_str(), text));
            }
        }
        Ok(())
    }

    /// Reads the authority from a file, in any order.
    fn read_files_authority(&mut self, path: &Path, root: &PublicKey) -> Result<()> {
        let mut file = FactFile::open(path, root.cluster())?;
        let (mut facts, mut unread) = (Vec::new(), 0u64);
        while let Some(item) = file.next()? {
            match item.fact {
                Ok(fact) if fact.is_authority() => facts.push(fact),
                Ok(_) => {}
                // The revocations in the output of `grant ls` have no record.
                Err(_) if item.is_bare() => {}
                Err(_) => unread += 1,
            }
        }
        loop {
            let before = facts.len();
            let verdicts = self.snapshot.take(facts.clone())?;
            let lacks = |verdict: &Verdict| matches!(verdict, Verdict::Unjustified(_));
            let refused = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Refused(_))).count();
            unread += refused as u64;
            facts = facts
                .into_iter()
                .zip(verdicts)
                .filter(|(_, verdict)| lacks(verdict))
                .map(|(fact, _)| fact)
                .collect();
            if facts.is_empty() || facts.len() == before {
                break;
            }
        }
        warn_of(path, unread + facts.len() as u64);
        Ok(())
    }

    /// Returns the grants under which `issuer` could delegate `pattern`, as an agent would answer.
    pub(crate) fn plan(&self, issuer: EntityId, pattern: &KeyGlob) -> PlanResponse {
        PlanResponse::plan(self.view().authority(), issuer, pattern, self.now)
    }

    /// Returns the entries of the keys that a filter includes; an empty filter includes all.
    pub(crate) fn entries(&self, filter: &[FilterRule]) -> Result<Entries> {
        match self.source {
            Source::Agent(_) => {
                let query =
                    FactsQuery { kind: FactKind::Entries, filter: filter.to_vec(), limit: None, after: None };
                Ok(Entries::Pages { query, ended: false })
            }
            Source::File(path, root) => {
                let filter = Filter::parse(filter.iter().map(ToString::to_string));
                let filter =
                    filter.map_err(|error| Failure::new(codes::GLOB_MALFORMED, error.to_string()))?;
                if files::reads_once(path) {
                    let text = format!(
                        "{} is read twice here, for grants and for entries: put the facts in a file and name that",
                        files::name(path)
                    );
                    return Err(Failure::new(codes::USAGE, text));
                }
                let mut file = FactFile::open(path, root.cluster())?;
                let mut keys: BTreeMap<Key, Vec<Fact>> = BTreeMap::new();
                while let Some(item) = file.next()? {
                    let Ok(fact) = item.fact else { continue };
                    if let Fact::Entry(entry) = &fact
                        && filter.includes(&entry.entry().key)
                    {
                        keys.entry(entry.entry().key.clone()).or_default().push(fact);
                    }
                }
                Ok(Entries::Keys(keys.into_values()))
            }
        }
    }

    /// Reads the next entries in key order and verifies them; `None` after the last. Of a key with very many entries,
    /// a part is read at a time.
    pub(crate) async fn next(&mut self, entries: &mut Entries) -> Result<Option<Portion>> {
        let mut is_open = false;
        let facts = match (entries, self.source) {
            (Entries::Pages { query, ended }, Source::Agent(client)) => {
                if *ended {
                    return Ok(None);
                }
                let page = client.facts(query).await?;
                is_open = page.next.as_ref().is_some_and(|next| next.contains(KEY_GOES_ON));
                let cluster = self.view().authority().cluster();
                let facts: Vec<Fact> =
                    page.facts.iter().map(|row| read_fact(cluster, row)).collect::<Result<_>>()?;
                *ended = !next_page(query, page.next)?;
                // A grant may have arrived while the pages were read.
                if facts.iter().any(|fact| !self.knows_grant_of(fact)) {
                    self.read_agents_authority(client).await?;
                }
                facts
            }
            (Entries::Keys(keys), _) => {
                let facts: Vec<Fact> = keys.take(PORTION_KEYS).flatten().collect();
                if facts.is_empty() {
                    return Ok(None);
                }
                facts
            }
            (Entries::Pages { .. }, Source::File(..)) => return Ok(None),
        };
        let entries = self.take(facts)?;
        let keys = self.wholes(&entries, is_open);
        Ok(Some(Portion { entries, keys }))
    }

    /// Returns the keys that are complete with these entries; `is_open`: more entries of the last key follow.
    fn wholes(&mut self, entries: &[EntryFact], is_open: bool) -> Vec<Whole> {
        let mut wholes: Vec<Whole> = self.open.take().into_iter().collect();
        for fact in entries {
            let key = &fact.entry().key;
            if wholes.last().is_none_or(|whole| whole.key != *key) {
                wholes.push(Whole { key: key.clone(), shown: None });
            }
            let shown = self.view().frontier(key).and_then(|frontier| frontier.shown(self.now));
            if let Some(whole) =
                wholes.last_mut().filter(|_| shown.is_some_and(|shown| shown.meta.id == fact.id()))
            {
                whole.shown = Some(fact.clone());
            }
        }
        if is_open {
            self.open = wholes.pop();
        }
        wholes
    }

    fn knows_grant_of(&self, fact: &Fact) -> bool {
        let Fact::Entry(entry) = fact else { return true };
        entry.entry().grant.is_none_or(|grant| self.view().authority().grant(&grant).is_some())
    }

    fn take(&mut self, facts: Vec<Fact>) -> Result<Vec<EntryFact>> {
        let verdicts = self.snapshot.take(facts.clone())?;
        let mut entries = Vec::with_capacity(facts.len());
        for (fact, verdict) in facts.into_iter().zip(verdicts) {
            let Fact::Entry(entry) = fact else { continue };
            match (verdict, self.source) {
                (Verdict::Refused(code), Source::Agent(_)) => {
                    let text = format!(
                        "the agent's entry {} of {} does not verify: {}",
                        entry.id().short(),
                        entry.entry().key,
                        code.help()
                    );
                    return Err(Failure::new(code.as_str(), text));
                }
                (Verdict::Refused(_), Source::File(path, _)) => warn_of(path, 1),
                // The entry was removed meanwhile, with its grant.
                (Verdict::Unjustified(_), _) => {}
                _ => entries.push(entry),
            }
        }
        Ok(entries)
    }
}

/// Entries of a survey that remain to be read.
#[derive(Debug)]
pub(crate) enum Entries {
    /// Pages of an agent.
    Pages {
        /// Query for the next page of entries.
        query: FactsQuery,
        /// Whether all pages of the agent have been read.
        ended: bool,
    },
    /// Entries of a file, by key.
    Keys(IntoValues<Key, Vec<Fact>>),
}

fn warn_of(path: &Path, facts: u64) {
    if facts > 0 {
        let name = files::name(path);
        say(&format!(
            "warning: {} of {name} passed over for want of a signature that verifies; see `kvgossip verify`",
            counted(facts, "fact", "facts")
        ));
    }
}

/// Returns the filter for the keys under a path prefix. It may include more keys if the prefix is too deep for a
/// glob.
pub(crate) fn under(prefix: &PathPrefix) -> Vec<FilterRule> {
    let rule = |text: String| KeyGlob::parse(&text).ok().map(|glob| FilterRule { excludes: false, glob });
    if prefix.is_root() {
        return Vec::new();
    }
    let mut path = prefix.as_str();
    loop {
        if let Some(below) = rule(format!("{path}/**")) {
            return [rule(path.to_owned()), Some(below)].into_iter().flatten().collect();
        }
        match path.rsplit_once('/') {
            Some((shorter, _)) if !shorter.is_empty() => path = shorter,
            _ => return Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_becomes_a_filter_that_holds_it() {
        let texts = |prefix: &str| -> Vec<String> {
            under(&prefix.parse().unwrap()).iter().map(ToString::to_string).collect()
        };
        assert_eq!(texts("/"), [""; 0]);
        assert_eq!(texts("/a/b"), ["/a/b", "/a/b/**"]);
        let long = format!("/{}", "a".repeat(200));
        assert_eq!(texts(&format!("{long}{long}")), [long.clone(), format!("{long}/**")]);
        // So deep that a glob cannot go below it.
        let deep = "/a".repeat(32);
        assert_eq!(texts(&deep), ["/a".repeat(31), format!("{}/**", "/a".repeat(31))]);
    }
}
