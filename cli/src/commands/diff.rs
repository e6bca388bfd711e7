//! `diff`: compares two replicas without transferring facts.

use crate::connect::{AgentArgs, converse};
use crate::error::{Exit, Result};
use crate::output::{self, Format, short, table};
use crate::{text, time};
use clap::Args;
use kvgossip_api::{DiffResponse, DiffRow};
use kvgossip_grants::PathPrefix;
use std::time::Duration;

/// Default timeout of `diff`.
const DIFF_TIMEOUT: Duration = Duration::from_secs(600);

/// Show the differences between the agent and a peer, and move nothing.
///
/// `>` marks what a sync would send to the peer, `<` what it would bring. An entry that a newer one on the other side
/// supersedes is not shown. Ends with 7 if anything differs.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The peer: ADDR:PORT or ID@ADDR:PORT, or 8 digits or more of a connected peer's id.
    peer: String,
    /// Compare only the entries under this path prefix; grants and revocations are always compared.
    #[arg(value_parser = text::prefix)]
    prefix: Option<PathPrefix>,
    #[command(flatten)]
    agent: AgentArgs,
}

/// Runs `diff`.
pub(crate) fn diff(args: &DiffArgs, format: Format) -> Result<Exit> {
    let client = args.agent.client()?;
    let limit = args.agent.timeout_or(DIFF_TIMEOUT);
    let answer = converse(&client, async { Ok(client.diff(&args.peer, args.prefix.as_ref(), limit).await?) })
        .map_err(super::sync::hint_at_lists)?;
    match format {
        Format::Json => output::json(&answer)?,
        Format::Text => output::text(&shown(&answer))?,
    }
    Ok(if answer.equal { Exit::Ok } else { Exit::TimedOut })
}

fn shown(answer: &DiffResponse) -> String {
    let peer = short(&answer.peer);
    if answer.equal {
        return format!("equal with {peer}\n");
    }
    let mut rows: Vec<(&DiffRow, &str)> = answer.here.iter().map(|row| (row, ">")).collect();
    rows.extend(answer.there.iter().map(|row| (row, "<")));
    rows.sort_by(|a, b| (&a.0.key, &a.0.id).cmp(&(&b.0.key, &b.0.id)));
    let rows: Vec<_> = rows.into_iter().map(|(row, way)| cells(row, way)).collect();
    let mut text = table([""; 5], &rows);
    let least = if answer.truncated { "at least " } else { "" };
    text.push_str(&format!(
        "{least}{} would go to {peer}, {least}{} would come from it; {} B sent and {} B received to find out\n",
        answer.here.len(),
        answer.there.len(),
        answer.sent_bytes,
        answer.received_bytes
    ));
    if answer.truncated {
        text.push_str("there is more than one comparison names: give a longer path prefix to see the rest\n");
    }
    text
}

fn cells(row: &DiffRow, way: &str) -> [String; 5] {
    let what = match (row.kind.as_str(), row.is_delete) {
        ("entry", true) => "delete",
        ("entry", false) => "entry",
        _ => "authority",
    };
    [
        way.to_owned(),
        what.to_owned(),
        short(&row.id).to_owned(),
        row.timestamp_us.map_or("-".to_owned(), time::show),
        row.key.clone().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_shown_is_said_to_be_there() {
        let row = |id: &str, key: &str, is_delete| DiffRow {
            kind: "entry".into(),
            id: id.repeat(64),
            key: Some(key.into()),
            timestamp_us: Some(0),
            is_delete,
        };
        let mut answer = DiffResponse {
            peer: "a".repeat(64),
            prefix: "/".into(),
            equal: false,
            here: vec![row("1", "/b", false)],
            there: vec![row("2", "/a", true)],
            truncated: false,
            sent_bytes: 10,
            received_bytes: 20,
            flights: 4,
        };
        let whole = "\
<  delete  22222222  1970-01-01T00:00:00Z  /a
>  entry   11111111  1970-01-01T00:00:00Z  /b
1 would go to aaaaaaaa, 1 would come from it; 10 B sent and 20 B received to find out
";
        assert_eq!(shown(&answer), whole);
        answer.truncated = true;
        let cut = shown(&answer);
        assert!(cut.contains("\nat least 1 would go to aaaaaaaa, at least 1 would come from it; "), "{cut}");
        assert!(cut.ends_with("give a longer path prefix to see the rest\n"), "{cut}");
    }
}
