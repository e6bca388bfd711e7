//! Standard output: raw bytes, aligned columns, JSON lines.

use crate::error::{Failure, Result};
pub(crate) use crate::format::{Format, printable};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// Maximum number of items of one kind that a rehearsal (`--dry-run`) lists in the text format.
pub(crate) const MAX_LISTED: u64 = 100;

/// Writes bytes exactly; adds a newline on a terminal only.
pub(crate) fn raw(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    let ends_line = bytes.is_empty() || bytes.ends_with(b"\n");
    let newline: &[u8] = if !ends_line && out.is_terminal() { b"\n" } else { b"" };
    let written = out.write_all(bytes).and_then(|()| out.write_all(newline)).and_then(|()| out.flush());
    written.map_err(|error| Failure::output(&error))
}

/// Writes a text that contains its own line ends to standard output.
pub(crate) fn text(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::output(&error))
}

/// Writes one JSON object and a newline to standard output.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    json_rows(std::slice::from_ref(value))
}

/// Writes JSON objects to standard output, one per line, in one go.
pub(crate) fn json_rows(rows: &[impl Serialize]) -> Result<()> {
    let mut lines = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut lines, row)
            .map_err(|error| Failure::new(crate::codes::INTERNAL, format!("cannot write JSON: {error}")))?;
        lines.push(b'\n');
    }
    let mut out = io::stdout().lock();
    let written = out.write_all(&lines).and_then(|()| out.flush());
    written.map_err(|error| Failure::output(&error))
}

/// Formats a number with the singular or plural of what it counts.
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Writes how many of `count` items were not listed.
pub(crate) fn more(count: u64, one: &str, many: &str, format: Format) -> Result<()> {
    match format {
        Format::Text if count > MAX_LISTED => {
            let left = count - MAX_LISTED;
            let what = if left == 1 { one } else { many };
            text(&format!("… and {left} more {what}; --output json lists them all\n"))
        }
        _ => Ok(()),
    }
}

/// Writes a notice to standard error.
pub(crate) fn say(line: &str) {
    // If standard error is closed, the notice is lost.
    let _ = writeln!(io::stderr().lock(), "{}", printable(line));
}

/// Returns the first eight digits of an id.
pub(crate) fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// Returns the first eight digits of an id, or a replacement if there is none.
pub(crate) fn short_or<'a>(id: Option<&'a String>, none: &'a str) -> &'a str {
    id.map_or(none, |id| short(id))
}

/// Formats rows as aligned columns, separated by two blanks; control characters are replaced.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let clean: Vec<[String; N]> =
        rows.iter().map(|row| std::array::from_fn(|column| printable(&row[column]))).collect();
    let width = |column: usize| {
        let cells = clean.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    let mut line = |cells: [&str; N]| {
        let padded: Vec<String> =
            cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    };
    if head.iter().any(|name| !name.is_empty()) {
        line(head);
    }
    clean.iter().for_each(|row| line(std::array::from_fn(|column| row[column].as_str())));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_characters() {
        let rows = [["ä".to_owned(), "1".to_owned()], ["bbb".to_owned(), "2\n".to_owned()]];
        assert_eq!(table(["A", "N"], &rows), "A    N\nä    1\nbbb  2\u{fffd}\n");
        assert_eq!(table(["", ""], &rows[..1]), "ä  1\n");
    }
}
