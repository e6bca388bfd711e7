//! Globs as linear automata over bytes: one state per place in the glob, the moves go ahead or stay.
//!
//! They are exact only on spellings of keys: that segments are never empty is left to the grammar.

use crate::glob::{KeyGlob, SegmentKind};

/// What the bytes after a place in a glob must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// This byte.
    Byte(u8),
    /// `?`.
    Any,
    /// `*`: any bytes of the segment; what follows may also begin right here.
    Star,
    /// `**` that is not the end, with the slash behind it: whole segments. What follows may begin where the place is
    /// first reached, or after a slash.
    Deep,
    /// `**` at the end: anything, which in a key is at least one segment.
    Rest,
    /// Nothing.
    End,
}

/// The places of some globs, one glob after the other.
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

    /// The place before the first byte of each glob.
    pub(super) fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// How many places there are.
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn token(&self, state: u32) -> Token {
        self.tokens.get(state as usize).copied().unwrap_or(Token::End)
    }

    /// Whether a key may end here.
    pub(super) fn accepts(&self, state: u32) -> bool {
        match self.token(state) {
            Token::End | Token::Rest => true,
            Token::Star => self.token(state + 1) == Token::End,
            Token::Byte(_) | Token::Any | Token::Deep => false,
        }
    }

    /// The only byte that leads on from here, if there is only one.
    pub(super) fn only_byte(&self, state: u32) -> Option<u8> {
        match self.token(state) {
            Token::Byte(byte) => Some(byte),
            _ => None,
        }
    }

    /// Marks the bytes that lead elsewhere from here than other bytes of a segment do.
    pub(super) fn mark_bytes(&self, state: u32, marks: &mut [bool; 256]) {
        match self.token(state) {
            Token::Byte(byte) => marks[usize::from(byte)] = true,
            Token::Star => self.mark_bytes(state + 1, marks),
            Token::Any | Token::Deep | Token::Rest | Token::End => {}
        }
    }

    /// Adds to `next` the places after `byte`.
    pub(super) fn step(&self, state: u32, byte: u8, next: &mut Vec<u32>) {
        match self.token(state) {
            Token::Byte(expected) if byte == expected => self.enter(state + 1, next),
            Token::Any if byte != b'/' => self.enter(state + 1, next),
            Token::Star => {
                if byte != b'/' {
                    next.push(state);
                }
                // In the same segment two `*` never touch, so this goes no deeper.
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
            // No segment at all. Two `**` never touch, so this goes no deeper.
            next.push(state + 1);
        }
    }
}
