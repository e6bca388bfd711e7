//! Sessions that compare and move nothing: each side names what the other lacks instead of sending it.

use super::forest::Leaf;
use super::frame::{Hello, kind};
use super::wire::{BadFrame, Input, put_varint};
use super::{Newcomer, Session, SessionError};
use crate::view::View;
use kvgossip_grants::{EntryId, FactId, Key, MAX_KEY_BYTES, Timestamp};

/// The extension of a hello that asks for such a session, or agrees to it. It has no content.
pub const COMPARE_EXTENSION: u64 = 1;
/// How many facts each side names at most; what is beyond counts as truncated.
pub const MAX_NAMED: usize = 10_000;

/// A fact that one side has and the other lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A grant, revocation or floor.
    Authority(FactId),
    /// An entry.
    Entry {
        /// Its id.
        id: EntryId,
        /// Its key.
        key: Key,
        /// When it was written.
        timestamp: Timestamp,
        /// Whether it unsets the key.
        is_delete: bool,
    },
}

/// What two replicas differ in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// What this side has and the peer would be sent.
    pub here: Vec<Named>,
    /// What the peer has and this side would be sent.
    pub there: Vec<Named>,
    /// Whether there is more than is named.
    pub is_truncated: bool,
}

impl Named {
    pub(super) fn of(leaf: &Leaf) -> Self {
        match leaf {
            Leaf::Authority(id) => Self::Authority(*id),
            Leaf::Entry(key, meta) => Self::Entry {
                id: meta.id,
                key: key.clone(),
                timestamp: meta.timestamp,
                is_delete: meta.is_delete,
            },
        }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Authority(id) => {
                out.push(0);
                out.extend_from_slice(&id.0);
            }
            Self::Entry { id, key, timestamp, is_delete } => {
                out.push(1 + u8::from(*is_delete));
                out.extend_from_slice(&id.0);
                put_varint(out, timestamp.as_micros());
                put_varint(out, key.as_bytes().len() as u64);
                out.extend_from_slice(key.as_bytes());
            }
        }
    }

    fn get(input: &mut Input<'_>) -> Result<Self, BadFrame> {
        let what = input.byte()?;
        let id = input.array()?;
        if what == 0 {
            return Ok(Self::Authority(FactId(id)));
        }
        let timestamp = Timestamp::from_micros(input.varint()?).map_err(|_| BadFrame)?;
        let len = input.count(1, MAX_KEY_BYTES)?;
        let key = std::str::from_utf8(input.bytes(len)?).map_err(|_| BadFrame)?;
        let key = Key::parse(key).map_err(|_| BadFrame)?;
        match what {
            1 | 2 => Ok(Self::Entry { id: EntryId(id), key, timestamp, is_delete: what == 2 }),
            _ => Err(BadFrame),
        }
    }
}

impl Session {
    /// A session of the initiator that compares and moves nothing. Neither side takes facts in.
    pub fn comparing(config: super::Config, view: &View) -> Self {
        let mut session = Self::idle(config);
        session.differences = Some(Differences::default());
        session.start(view);
        session
    }

    /// What was found, in a session that compares.
    pub fn differences(&self) -> Option<&Differences> {
        self.differences.as_ref()
    }

    /// Whether facts are named instead of sent.
    pub(super) fn compares(&self) -> bool {
        self.differences.is_some()
    }

    pub(super) fn extensions(&self) -> Vec<(u64, Vec<u8>)> {
        let compare = self.compares().then(|| (COMPARE_EXTENSION, Vec::new()));
        let others = self.config.newcomer.as_ref().and_then(Newcomer::extension);
        compare.into_iter().chain(others).collect()
    }

    /// Agrees to compare if the initiator asks for it; whoever asked demands the agreement.
    pub(super) fn agree_to_compare(&mut self, theirs: &Hello) -> Result<(), SessionError> {
        let asked = theirs.extensions.iter().any(|(number, _)| *number == COMPARE_EXTENSION);
        match (self.config.role, asked) {
            (super::Role::Responder, true) => self.differences = Some(Differences::default()),
            (super::Role::Initiator, asked) if asked != self.compares() => {
                return Err(SessionError::Protocol("the peer does not compare without moving facts"));
            }
            _ => {}
        }
        Ok(())
    }

    /// Names a fact that the other side lacks; none if there were too many.
    pub(super) fn name(&mut self, leaf: &Leaf) -> Option<Vec<u8>> {
        let differences = self.differences.as_mut()?;
        if differences.here.len() >= MAX_NAMED {
            differences.is_truncated = true;
            self.obstacles.truncated = true;
            return None;
        }
        let named = Named::of(leaf);
        let mut bytes = Vec::new();
        named.put(&mut bytes);
        differences.here.push(named);
        Some(bytes)
    }

    /// Takes the names of a received frame.
    pub(super) fn handle_names(&mut self, content: &[u8]) -> Result<(), SessionError> {
        let Some(differences) = self.differences.as_mut() else {
            return Err(SessionError::Protocol("a name came although nothing is compared"));
        };
        let mut input = Input::new(content);
        if input.is_empty() {
            return Err(SessionError::Protocol("a frame is empty"));
        }
        while !input.is_empty() {
            let named = Named::get(&mut input)?;
            if differences.there.len() >= MAX_NAMED {
                return Err(SessionError::Protocol("more facts are named than one side may"));
            }
            differences.there.push(named);
        }
        Ok(())
    }
}

/// The kind of frame that what is to be sent goes into.
pub(super) const fn frame_kind(compares: bool) -> u8 {
    if compares { kind::NAMES } else { kind::FACTS }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
