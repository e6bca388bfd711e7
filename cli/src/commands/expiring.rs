//! `grant ls --expiring`: grants that end soon, with the expiry that ends each.

use crate::error::{Exit, Result};
use crate::output::{self, Format, short, table};
use crate::time;
use kvgossip_api::GrantRow;
use kvgossip_grants::{MAX_DEPTH, Timestamp};
use serde::Serialize;
use std::collections::HashMap;
use std::time::Duration;

/// A grant that ends soon, as `grant ls --expiring` lists it.
#[derive(Debug, Serialize)]
struct Ending<'a> {
    kind: &'static str,
    /// Time when entries under the grant cease to be shown, in microseconds since 1970.
    ends_at_us: u64,
    /// Id of the grant of its chain that ends first: the grant itself or one above it.
    ends_with: &'a str,
    #[serde(flatten)]
    row: &'a GrantRow,
}

/// Lists the grants of `rows` that end within `within` after `now`.
pub(super) fn show(rows: &[GrantRow], within: Duration, now: Timestamp, format: Format) -> Result<Exit> {
    let micros = u64::try_from(within.as_micros()).unwrap_or(u64::MAX);
    let endings = endings(rows, now.saturating_add(micros));
    match format {
        Format::Json => endings.iter().try_for_each(output::json)?,
        Format::Text => {
            let rows: Vec<_> = endings.iter().map(|ending| text_row(ending, now)).collect();
            output::text(&table(["ENDS", "GRANT", "TO", "BECAUSE OF", "PATTERN"], &rows))?;
        }
    }
    Ok(Exit::Ok)
}

fn endings(rows: &[GrantRow], until: Timestamp) -> Vec<Ending<'_>> {
    let by_id: HashMap<&str, &GrantRow> = rows.iter().map(|row| (row.id.as_str(), row)).collect();
    let above = |row: &&GrantRow| row.parent.as_deref().and_then(|parent| by_id.get(parent)).copied();
    let ending = |row: &GrantRow| {
        // The agent's answer may contain wrong parents; a chain has at most this many grants.
        let chain =
            std::iter::successors(by_id.get(row.id.as_str()).copied(), above).take(usize::from(MAX_DEPTH));
        // If ends are equal, the grant's own counts, which comes first.
        chain.filter_map(|link| Some((link.expires_at_us?, link.id.as_str()))).min_by_key(|(end, _)| *end)
    };
    let mut endings: Vec<Ending<'_>> = rows
        .iter()
        .filter_map(|row| {
            let (ends_at_us, by) = ending(row).filter(|(end, _)| *end <= until.as_micros())?;
            let ends_with = by_id.get(by)?.id.as_str();
            Some(Ending { kind: "grant", ends_at_us, ends_with, row })
        })
        .collect();
    endings.sort_by(|one, other| (one.ends_at_us, &one.row.id).cmp(&(other.ends_at_us, &other.row.id)));
    endings
}

fn text_row(ending: &Ending<'_>, now: Timestamp) -> [String; 5] {
    let over = if ending.ends_at_us < now.as_micros() { " (over)" } else { "" };
    let by = if ending.ends_with == ending.row.id { "itself" } else { short(ending.ends_with) };
    [
        format!("{}{over}", time::show(ending.ends_at_us)),
        short(&ending.row.id).to_owned(),
        short(&ending.row.grantee).to_owned(),
        by.to_owned(),
        ending.row.pattern.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, parent: Option<&str>, end: Option<u64>) -> GrantRow {
        GrantRow {
            id: id.into(),
            issuer: String::new(),
            grantee: String::new(),
            pattern: String::new(),
            subgrant: true,
            parent: parent.map(Into::into),
            depth: 1,
            issued_at_us: 0,
            expires_at_us: end,
            record_b64: String::new(),
        }
    }

    #[test]
    fn a_grant_ends_with_the_first_of_its_chain() {
        let rows = [
            row("a", None, Some(50)),
            row("ab", Some("a"), None),
            row("ac", Some("a"), Some(20)),
            row("acd", Some("ac"), Some(30)),
            row("x", None, None),
            row("y", None, Some(51)),
        ];
        let found = endings(&rows, Timestamp::from_micros(50).unwrap());
        let found: Vec<_> =
            found.iter().map(|end| (end.ends_at_us, end.row.id.as_str(), end.ends_with)).collect();
        assert_eq!(found, [(20, "ac", "ac"), (20, "acd", "ac"), (50, "a", "a"), (50, "ab", "a")]);
    }

    #[test]
    fn a_lying_agent_cannot_keep_the_search_going() {
        let rows = [row("a", Some("b"), None), row("b", Some("a"), Some(1))];
        assert_eq!(endings(&rows, Timestamp::from_micros(1).unwrap()).len(), 2);
    }
}
