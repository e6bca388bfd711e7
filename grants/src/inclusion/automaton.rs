//! Globs as linear automata over bytes: one state per position in the glob; a transition advances or stays.
//!
//! The automata are exact only for valid spellings of keys: they rely on the grammar to exclude empty segments.

use crate::glob::{KeyGlob, SegmentKind};

/// What a position in a glob requires of the bytes of a key from there on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Exactly this byte.
    Byte(u8),
    /// `?`: one byte other than a slash.
    Any,
    /// `*`: any bytes of the segment, possibly none.
    Star,
    /// `**` before the end, with the slash after it: any number of whole segments. The next token may begin where the
    /// position is first reached, or after a slash.
    Deep,
    /// `**` at the end: any bytes, which in a key are at least one segment.
    Rest,
    /// The end of the key.
    End,
}

/// The states of several globs, one glob after the other.
pub(super) struct Automaton {
    tokens: Vec<Token>,
    starts: Vec<u32>,
}

impl Automaton {
    pub(super) fn new<'a>(globs: impl Iterator<Item = &'a KeyGlob>) -> Self {
        let mut automaton = Self { tokens: Vec::new(), starts: Vec::new() };
        for glob in globs {
            automaton.starts.push(automaton.tokens.len() as u32);
            automaton.push(glob);
        }
        automaton
    }

    fn push(&mut self, glob: &KeyGlob) {
        let mut segments = glob.segments().peekable();
        let mut slash = true;
        while let Some((kind, bytes)) = segments.next() {
            if slash {
                self.tokens.push(Token::Byte(b'/'));
            }
            slash = kind != SegmentKind::Deep;
            match kind {
                SegmentKind::Deep if segments.peek().is_none() => self.tokens.push(Token::Rest),
                SegmentKind::Deep => self.tokens.push(Token::Deep),
                SegmentKind::Literal | SegmentKind::Wild => {
                    self.tokens.extend(bytes.iter().map(|byte| match byte {
                        b'*' => Token::Star,
                        b'?' => Token::Any,
                        byte => Token::Byte(*byte),
                    }))
                }
            }
        }
        self.tokens.push(Token::End);
    }

    /// Returns the initial state of each glob.
    pub(super) fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// Returns the number of states.
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn token(&self, state: u32) -> Token {
        self.tokens.get(state as usize).copied().unwrap_or(Token::End)
    }

    /// Whether a key may end in this state.
    pub(super) fn accepts(&self, state: u32) -> bool {
        match self.token(state) {
            Token::End | Token::Rest => true,
            Token::Star => self.token(state + 1) == Token::End,
            Token::Byte(_) | Token::Any | Token::Deep => false,
        }
    }

    /// Returns the only byte with a transition from this state; `None` if several bytes have one, or none has.
    pub(super) fn only_byte(&self, state: u32) -> Option<u8> {
        match self.token(state) {
            Token::Byte(byte) => Some(byte),
            _ => None,
        }
    }

    /// Marks the bytes whose transitions from this state differ from those of other bytes of a segment.
    pub(super) fn mark_bytes(&self, state: u32, marks: &mut [bool; 256]) {
        match self.token(state) {
            Token::Byte(byte) => marks[usize::from(byte)] = true,
            Token::Star => self.mark_bytes(state + 1, marks),
            Token::Any | Token::Deep | Token::Rest | Token::End => {}
        }
    }

    /// Adds to `next` the states that `byte` leads to from `state`.
    pub(super) fn step(&self, state: u32, byte: u8, next: &mut Vec<u32>) {
        match self.token(state) {
            Token::Byte(expected) if byte == expected => self.enter(state + 1, next),
            Token::Any if byte != b'/' => self.enter(state + 1, next),
            Token::Star => {
                if byte != b'/' {
                    next.push(state);
                }
                // Two `*` of a segment are never adjacent, so the recursion ends here.
                self.step(state + 1, byte, next);
            }
            Token::Deep => {
                next.push(state);
                if byte == b'/' {
                    self.enter(state + 1, next);
                }
            }
            Token::Rest => next.push(state),
            Token::Byte(_) | Token::Any | Token::End => {}
        }
    }

    fn enter(&self, state: u32, next: &mut Vec<u32>) {
        next.push(state);
        if self.token(state) == Token::Deep {
            // The empty sequence of segments. Two `**` are never adjacent, so one further state is enough.
            next.push(state + 1);
        }
    }
}
