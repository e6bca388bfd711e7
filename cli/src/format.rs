//! Output format of answers and errors, and the replacement of control characters.

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    // For people. (Not a doc comment: it would make the help of every command six lines longer.)
    Text,
    // For programs: one JSON object per line.
    Json,
}

/// Replaces control characters, so that a foreign text cannot control the terminal, forge lines or reverse the
/// reading direction.
pub(crate) fn printable(text: &str) -> String {
    let is_plain = |c: char| !c.is_control() && !is_separator(c) && !turns_direction(c);
    text.chars().map(|c| if is_plain(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// Unicode's line and paragraph separators.
fn is_separator(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}')
}

/// Unicode's characters that control the writing direction: marks, embeddings, overrides and isolates.
fn turns_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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
}
