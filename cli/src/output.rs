//! What goes to standard output: raw bytes, aligned columns, JSON lines.

use crate::error::{Failure, Result};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// How many things of a kind a rehearsal lists for people.
pub(crate) const MAX_LISTED: u64 = 100;

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    // For people. (What stands here as documentation would make the help of every command six lines longer.)
    Text,
    // For programs: one object a line.
    Json,
}

/// Writes bytes exactly, with a newline after them only for a terminal.
pub(crate) fn raw(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    let ends_line = bytes.is_empty() || bytes.ends_with(b"\n");
    let newline: &[u8] = if !ends_line && out.is_terminal() { b"\n" } else { b"" };
    let written = out.write_all(bytes).and_then(|()| out.write_all(newline)).and_then(|()| out.flush());
    written.map_err(|error| Failure::output(&error))
}

/// Writes a text that ends its own lines.
pub(crate) fn text(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::output(&error))
}

/// Writes one JSON object and a newline.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    json_rows(std::slice::from_ref(value))
}

/// Writes JSON objects, one a line, at once.
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

/// A number and what it counts.
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Says how many of `count` things were not listed.
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

/// Says something on standard error that is no failure.
pub(crate) fn say(line: &str) {
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(io::stderr().lock(), "{}", printable(line));
}

/// Replaces control characters, so that a text from elsewhere cannot drive a terminal, forge lines or turn the order of
/// what is read around.
pub(crate) fn printable(text: &str) -> String {
    let is_plain = |c: char| !c.is_control() && !is_separator(c) && !turns_direction(c);
    text.chars().map(|c| if is_plain(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// Unicode's line and paragraph separators.
fn is_separator(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}')
}

/// Unicode's marks, embeddings, overrides and isolates of the direction of writing.
fn turns_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The first eight digits of an id, for people.
pub(crate) fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// An id for people, or what stands for its absence.
pub(crate) fn short_or<'a>(id: Option<&'a String>, none: &'a str) -> &'a str {
    id.map_or(none, |id| short(id))
}

/// Rows as aligned columns with two blanks between them; control characters are replaced.
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
    fn printable_keeps_text_and_drops_control() {
        assert_eq!(printable("größe /a"), "größe /a");
        assert_eq!(printable("a\u{7}\u{9b}2J\n"), "a\u{fffd}\u{fffd}2J\u{fffd}");
        assert_eq!(printable("/a\u{202e}fdp\u{2028}"), "/a\u{fffd}fdp\u{fffd}");
        assert_eq!(printable("/עברית"), "/עברית");
    }

    #[test]
    fn columns_are_aligned_by_characters() {
        let rows = [["ä".to_owned(), "1".to_owned()], ["bbb".to_owned(), "2\n".to_owned()]];
        assert_eq!(table(["A", "N"], &rows), "A    N\nä    1\nbbb  2\u{fffd}\n");
        assert_eq!(table(["", ""], &rows[..1]), "ä  1\n");
    }
}
