//! Offering all facts of a file to a judge: an agent, or this process.

use crate::codes;
use crate::error::{Exit, Failure, Result};
use crate::factfile::{FactFile, Item};
use crate::output::{self, Format, counted, printable};
use crate::progress::Progress;
use kvgossip_api::VerdictRow;
use kvgossip_grants::{Code, Fact, Verdict};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;

/// Maximum number of facts in a portion, which is offered at a time.
const PORTION_FACTS: usize = 512;
/// Total size of the records at which a portion is closed, in bytes.
const PORTION_BYTES: usize = 2 << 20;
/// Maximum number of refusals per code that are listed in the text format; the others are counted. JSON lists all.
const MAX_NAMED: u64 = 10;

/// A judge of facts: an agent, or a replica in this process.
pub(crate) trait Judge {
    /// Returns one verdict for each fact, in order.
    async fn offer(&mut self, facts: Vec<Fact>) -> Result<Vec<VerdictRow>>;
}

/// Numbers of facts of a file, by result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct OfferReport {
    /// Number of facts judged.
    pub(crate) facts: u64,
    /// Number of facts that the judge merged as new.
    pub(crate) merged: u64,
    /// Number of facts that the judge held already.
    pub(crate) known: u64,
    /// Number of valid facts without effect, because a newer or higher fact is live.
    pub(crate) superseded: u64,
    /// Number of facts that the judge refused.
    pub(crate) refused: u64,
    /// Number of unjustified facts so far, which are offered again; 0 at the end of the file.
    pub(crate) lacking: u64,
    /// Exit code and stable code of the gravest refusal; `None` if nothing was refused.
    #[serde(skip)]
    gravest: Option<(Exit, String)>,
    /// Number of refusals by stable code.
    #[serde(skip)]
    refusals: BTreeMap<String, u64>,
}

impl OfferReport {
    /// Returns the stable code and the exit code of the gravest refusal; `None` if nothing was refused.
    pub(crate) fn gravest(&self) -> Option<(&str, Exit)> {
        self.gravest.as_ref().map(|(exit, code)| (code.as_str(), *exit))
    }

    /// Whether the number of refusals with the code of `row` is small enough ([`MAX_NAMED`]) to list each.
    fn is_named(&self, row: &VerdictRow) -> bool {
        self.refusals.get(row.code.as_ref().unwrap_or(&row.verdict)).is_none_or(|count| *count <= MAX_NAMED)
    }

    /// Returns a line with the number of unlisted refusals, for each code that has some.
    fn unnamed(&self) -> String {
        let more = self.refusals.iter().filter(|(_, count)| **count > MAX_NAMED);
        more.map(|(code, count)| format!("and {} more [{code}]\n", count - MAX_NAMED)).collect()
    }

    fn count(&mut self, row: &VerdictRow) {
        self.facts += 1;
        let code = row.code.as_deref();
        if row.verdict == Verdict::Merged.as_str() {
            self.merged += 1;
        } else if row.verdict == "moot" && code == Some(Code::Known.as_str()) {
            self.known += 1;
        } else if row.verdict == "moot" {
            self.superseded += 1;
        } else {
            self.refused += 1;
            let code = code.unwrap_or(&row.verdict).to_owned();
            *self.refusals.entry(code.clone()).or_default() += 1;
            let exit = codes::exit(&code).unwrap_or(Exit::Error);
            if self.gravest.as_ref().is_none_or(|(gravest, _)| exit > *gravest) {
                self.gravest = Some((exit, code));
            }
        }
    }
}

/// An offering of a file in progress.
pub(crate) struct Offering<'a, J> {
    pub(crate) file: &'a mut FactFile,
    pub(crate) judge: &'a mut J,
    pub(crate) format: Format,
    /// Description of the work for progress messages, such as `importing`.
    pub(crate) doing: &'static str,
    pub(crate) outcome: OfferReport,
    /// Why the file cannot be read further; `None` if it can.
    fault: Option<Failure>,
}

/// Whether a pass reports unjustified facts, or keeps them for another pass.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lacking {
    Keep,
    Name,
}

impl<'a, J: Judge> Offering<'a, J> {
    pub(crate) fn new(file: &'a mut FactFile, judge: &'a mut J, doing: &'static str, format: Format) -> Self {
        Self { file, judge, format, doing, outcome: OfferReport::default(), fault: None }
    }

    /// Offers all facts. Unjustified ones are offered again as long as others are merged, so that their order does
    /// not matter. Refused facts are listed on standard output and do not stop it.
    ///
    /// # Errors
    /// When the file cannot be read further (all facts before that place were offered), or the judge fails. The
    /// outcome shows how far it went.
    pub(crate) async fn run(&mut self) -> Result<()> {
        let ran = self.run_all().await.and_then(|()| self.fault.take().map_or(Ok(()), Err));
        let OfferReport { facts, refused, .. } = self.outcome;
        let ran = ran.map_err(|failure| match refused {
            0 => failure,
            _ => failure.note(format!(
                "not taken in, of {} that were judged: {refused}, as named above",
                counted(facts, "fact", "facts")
            )),
        });
        if self.format == Format::Text {
            output::text(&self.outcome.unnamed())?;
        }
        ran
    }

    async fn run_all(&mut self) -> Result<()> {
        let mut progress = Progress::start();
        let mut lacking = self.pass(None, Lacking::Keep, &mut progress).await?;
        while !lacking.is_empty() {
            let before = self.outcome.merged;
            self.file.rewind()?;
            let left = self.pass(Some(&lacking), Lacking::Keep, &mut progress).await?;
            if self.outcome.merged == before {
                self.file.rewind()?;
                self.pass(Some(&left), Lacking::Name, &mut progress).await?;
                return Ok(());
            }
            lacking = left;
        }
        Ok(())
    }

    /// Makes one pass over the file, or over those of its facts with these numbers, ascending. Returns the numbers of
    /// the unjustified facts.
    async fn pass(
        &mut self,
        only: Option<&[u64]>,
        lacking: Lacking,
        progress: &mut Progress,
    ) -> Result<Vec<u64>> {
        let mut kept = Vec::new();
        let mut portion = Vec::new();
        let mut bytes = 0;
        loop {
            // Facts read before a fault are intact and count.
            let item = self.file.next().unwrap_or_else(|fault| {
                self.fault = Some(fault);
                None
            });
            if item.is_none() || portion.len() >= PORTION_FACTS || bytes >= PORTION_BYTES {
                let is_first = only.is_none();
                kept.extend(self.judge(std::mem::take(&mut portion), lacking, is_first, progress).await?);
                bytes = 0;
            }
            let Some(item) = item else { return Ok(kept) };
            if only.is_some_and(|only| only.binary_search(&item.number).is_err()) {
                continue;
            }
            bytes += item.fact.as_ref().map_or(0, Fact::payload_len);
            portion.push(item);
        }
    }

    async fn judge(
        &mut self,
        items: Vec<Item>,
        lacking: Lacking,
        is_first: bool,
        progress: &mut Progress,
    ) -> Result<Vec<u64>> {
        let facts: Vec<Fact> = items.iter().filter_map(|item| item.fact.clone().ok()).collect();
        let verdicts = if facts.is_empty() { Vec::new() } else { self.judge.offer(facts).await? };
        let mut verdicts = verdicts.into_iter();
        let mut kept = Vec::new();
        for item in &items {
            let row = match item.fact {
                Ok(_) => verdicts.next().ok_or_else(|| crate::answer::unexpected("too few verdicts"))?,
                Err(code) => row_of(item.id(), Verdict::Refused(code)),
            };
            if row.verdict == "unjustified" && lacking == Lacking::Keep {
                kept.push(item.number);
                self.outcome.lacking += u64::from(is_first);
                continue;
            }
            self.outcome.lacking -= u64::from(!is_first);
            let refused = self.outcome.refused;
            self.outcome.count(&row);
            let named = self.format == Format::Json || self.outcome.is_named(&row);
            if self.outcome.refused > refused && named {
                progress.clear();
                name_refused(item, &row, self.format)?;
            }
        }
        let (doing, facts) = (self.doing, self.outcome.facts);
        progress.tell(|| format!("{doing}: {} so far…", counted(facts, "fact", "facts")));
        // A judge in this process never waits; this lets Ctrl-C be noticed.
        tokio::task::yield_now().await;
        Ok(kept)
    }
}

/// Returns a verdict in the form in which agents write it.
pub(crate) fn row_of(id: Option<String>, verdict: Verdict) -> VerdictRow {
    let code = verdict.code();
    VerdictRow {
        id,
        verdict: verdict.as_str().into(),
        code: code.map(|code| code.as_str().into()),
        message: code.map(|code| code.help().into()),
    }
}

fn name_refused(item: &Item, row: &VerdictRow, format: Format) -> Result<()> {
    let code = row.code.as_deref().unwrap_or(&row.verdict);
    match format {
        Format::Text => {
            let why = row.message.as_deref().unwrap_or(&row.verdict);
            output::text(&(printable(&format!("{}: {why} [{code}]", item.name())) + "\n"))
        }
        Format::Json => output::json(&json!({
            "kind": item.kind(),
            "id": item.id(),
            "key": item.key(),
            "fact": item.number,
            "verdict": row.verdict,
            "code": code,
            "message": row.message,
        })),
    }
}

/// Returns the failure of a command that could not merge everything. `one` describes one fact, `many` several.
pub(crate) fn incomplete(outcome: &OfferReport, one: &str, many: &str) -> Option<Failure> {
    let (code, exit) = outcome.gravest()?;
    let all = outcome.unnamed().is_empty();
    let what = if outcome.refused == 1 { one } else { many };
    let named = if all { "named above" } else { "some are named above; --output json names all" };
    let text = format!("{} of {} {what}: {named}", outcome.refused, counted(outcome.facts, "fact", "facts"));
    Some(Failure::with_exit(code, text, exit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_reason_decides() {
        let mut outcome = OfferReport::default();
        let mut count = |verdict: Verdict| outcome.count(&row_of(None, verdict));
        count(Verdict::Merged);
        count(Verdict::Moot(Code::Known));
        count(Verdict::Moot(Code::Dominated));
        count(Verdict::Unjustified(Code::GrantUnknown));
        count(Verdict::Refused(Code::BadSignature));
        count(Verdict::Refused(Code::TooLarge));
        assert_eq!((outcome.facts, outcome.merged, outcome.known, outcome.superseded), (6, 1, 1, 1));
        assert_eq!(outcome.gravest(), Some(("fact.bad_signature", Exit::Integrity)));
        assert!(incomplete(&OfferReport::default(), "", "").is_none());
        let said =
            |outcome: &OfferReport| incomplete(outcome, "was", "were").expect("some").message().to_owned();
        assert_eq!(said(&outcome), "3 of 6 facts were: named above");
        let mut single = OfferReport::default();
        single.count(&row_of(None, Verdict::Refused(Code::TooLarge)));
        assert_eq!(said(&single), "1 of 1 fact was: named above");
        assert_eq!(outcome.unnamed(), "");
        let row = row_of(None, Verdict::Unjustified(Code::GrantUnknown));
        for number in 2..=MAX_NAMED + 3 {
            outcome.count(&row);
            assert_eq!(outcome.is_named(&row), number <= MAX_NAMED, "{number}");
        }
        assert_eq!(outcome.unnamed(), "and 3 more [grant.unknown]\n");
    }
}
