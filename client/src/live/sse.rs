//! Parser of server-sent events, by the rules of the HTML standard as far as agents use them.

use super::MAX_EVENT_BYTES;

/// Maximum length of a comment that is kept, in characters.
const MAX_COMMENT_CHARS: usize = 64;

/// Server-sent event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// Event name; `message` if none is given.
    pub(crate) name: String,
    /// Data of the event: its `data` lines, joined by line feeds.
    pub(crate) data: String,
    /// Last id of the stream, from this event or an earlier one.
    pub(crate) id: Option<String>,
}

/// Error: an event has more than `MAX_EVENT_BYTES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event has more than {MAX_EVENT_BYTES} bytes")]
pub(crate) struct TooLarge;

/// Incremental parser, for input in chunks of any size.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    event: Event,
    has_data: bool,
    after_return: bool,
    /// Last comment between two events, at most [`MAX_COMMENT_CHARS`] characters.
    comment: String,
}

impl Parser {
    /// Parses more input. Returns the events that are complete.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLarge> {
        let mut events = Vec::new();
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let follows_return = std::mem::replace(&mut self.after_return, rest[at] == b'\r');
            let second_half = rest[at] == b'\n' && at == 0 && follows_return && self.line.is_empty();
            if !second_half {
                self.line.extend_from_slice(&rest[..at]);
                let line = std::mem::take(&mut self.line);
                events.extend(self.take_line(&String::from_utf8_lossy(&line)));
            }
            rest = &rest[at + 1..];
        }
        if !rest.is_empty() {
            self.after_return = false;
        }
        self.line.extend_from_slice(rest);
        if self.line.len() + self.event.data.len() > MAX_EVENT_BYTES { Err(TooLarge) } else { Ok(events) }
    }

    /// Returns whether no part of a further event has been read.
    pub(crate) fn is_between_events(&self) -> bool {
        self.line.is_empty() && !self.has_data && self.event.name.is_empty()
    }

    /// Last comment between two events, without the colon and the space.
    pub(crate) fn comment(&self) -> &str {
        &self.comment
    }

    fn take_line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            return self.finish();
        }
        if line.starts_with(':') && !self.has_data && self.event.name.is_empty() {
            let comment = line[1..].strip_prefix(' ').unwrap_or(&line[1..]);
            self.comment = comment.chars().take(MAX_COMMENT_CHARS).collect();
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.event.name),
            "id" => self.event.id = Some(value.to_owned()),
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
                self.has_data = true;
            }
            // Comments and unknown fields are ignored.
            _ => {}
        }
        None
    }

    fn finish(&mut self) -> Option<Event> {
        let id = self.event.id.clone();
        let mut event = std::mem::replace(&mut self.event, Event { id, ..Event::default() });
        if !std::mem::take(&mut self.has_data) {
            return None;
        }
        if event.name.is_empty() {
            "message".clone_into(&mut event.name);
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = ": hello\n\nid: 7\nevent: key\ndata: {\"a\":1}\n\ndata: x\r\ndata:y\r\nnews: z\r\n\r\nevent: lost\n\ndata\n\n";

    fn expected() -> Vec<Event> {
        let event =
            |name: &str, data: &str| Event { name: name.into(), data: data.into(), id: Some("7".into()) };
        vec![event("key", "{\"a\":1}"), event("message", "x\ny"), event("message", "")]
    }

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        for size in 1..=TEXT.len() {
            let mut parser = Parser::default();
            let pieces = TEXT.as_bytes().chunks(size);
            let events: Vec<Event> = pieces.flat_map(|piece| parser.read(piece).expect("small")).collect();
            assert_eq!(events, expected(), "in pieces of {size}");
        }
    }

    #[test]
    fn a_comment_is_no_part_of_an_event() {
        let mut parser = Parser::default();
        let mut between = |text: &str| {
            let events = parser.read(text.as_bytes()).expect("small").len();
            (events, parser.is_between_events())
        };
        assert_eq!(between(": still here\n\n"), (0, true));
        for text in ["ev", "ent: key\n", "data: 1\n", ": still here\n"] {
            assert_eq!(between(text), (0, false), "{text}");
        }
        assert_eq!(between("\n"), (1, true));
        assert_eq!(between(": still"), (0, false));
        assert_eq!(between(" here\n\n"), (0, true));
        assert_eq!(parser.comment(), "still here");
        parser.read(b": told 01-2\n\nevent: key\n: inside\n").expect("small");
        assert_eq!(parser.comment(), "told 01-2");
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; 1 << 20];
        let refused = (0..100).any(|_| parser.read(&piece).is_err());
        assert!(refused);
    }
}
