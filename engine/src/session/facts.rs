//! Facts on their way into frames and out of them, and the count of the bytes that go with them.

use super::compare::frame_kind;
use super::course::internal;
use super::forest::Leaf;
use super::tally::Traffic;
use super::walk::Walk;
use super::{Session, SessionError, Step};
use crate::storage::{Reader, StorageError};
use crate::view::View;
use bytes::Bytes;
use kvgossip_grants::{Fact, RECORD_HEAD_BYTES, varint};

/// Records join a frame up to this many bytes; a larger record has a frame of its own.
const FACTS_FRAME_BYTES: usize = 16 * 1024;

/// A fact that is ready to be sent.
#[derive(Debug)]
pub(super) struct Record {
    bytes: Bytes,
    is_authority: bool,
}

impl Session {
    /// The next frame of facts, if facts are what comes next.
    pub(super) fn facts_frame(
        &mut self,
        view: &View,
        reader: &dyn Reader,
    ) -> Result<Option<Bytes>, SessionError> {
        let mut frame = Vec::with_capacity(FACTS_FRAME_BYTES);
        let mut payload = 0;
        while let Some(record) = self.next_record(view, reader)? {
            if !frame.is_empty() && frame.len() + record.bytes.len() > FACTS_FRAME_BYTES {
                self.steps.push_front(Step::Record(record));
                break;
            }
            if frame.is_empty() {
                frame.push(frame_kind(self.compares()));
            }
            frame.extend_from_slice(&record.bytes);
            if self.compares() {
                // Names are overhead: nothing moves.
                continue;
            }
            let weight = record.bytes.len().saturating_sub(RECORD_HEAD_BYTES);
            count_payload(&mut self.tally.sent, record.is_authority, weight);
            payload += weight;
        }
        if frame.is_empty() {
            return Ok(None);
        }
        count_facts_frame(&mut self.tally.sent, frame.len(), payload);
        Ok(Some(frame.into()))
    }

    /// The next fact of the flight that still stands, unless another frame comes first.
    fn next_record(&mut self, view: &View, reader: &dyn Reader) -> Result<Option<Record>, SessionError> {
        loop {
            let leaf = match self.steps.pop_front() {
                None => return Ok(None),
                Some(Step::Record(record)) => return Ok(Some(record)),
                Some(step @ (Step::Hello(_) | Step::Frame(_) | Step::Final(_))) => {
                    self.steps.push_front(step);
                    return Ok(None);
                }
                Some(Step::Held(leaf)) => leaf,
                Some(Step::Sends) => {
                    let Some(leaf) = self.course.walk().and_then(Walk::next_send) else { continue };
                    self.steps.push_front(Step::Sends);
                    leaf
                }
            };
            if self.compares() {
                if let Some(bytes) = self.name(&leaf) {
                    let is_authority = matches!(leaf, Leaf::Authority(_));
                    return Ok(Some(Record { bytes: bytes.into(), is_authority }));
                }
                continue;
            }
            if self.withholds(&leaf, view) {
                continue;
            }
            let read = self.record(&leaf, view, reader);
            // One that cannot be read does not stop the others. The other side hears of it at the end.
            if matches!(read, Err(StorageError::Damaged(_) | StorageError::Io(_))) {
                self.obstacles.unreadable = true;
                continue;
            }
            if let Some(bytes) = read? {
                let is_authority = matches!(leaf, Leaf::Authority(_));
                return Ok(Some(Record { bytes, is_authority }));
            }
        }
    }

    /// The record of a fact, unless it no longer stands or the other side takes none.
    fn record(&self, leaf: &Leaf, view: &View, reader: &dyn Reader) -> Result<Option<Bytes>, StorageError> {
        if !self.their_hello.as_ref().is_some_and(|hello| hello.takes_facts) {
            return Ok(None);
        }
        Ok(match leaf {
            Leaf::Authority(id) => view.authority().fact(id).map(|fact| fact.to_record()),
            Leaf::Entry(key, meta) => {
                if leaf.stands(view) {
                    reader.entry(key, &meta.id)?
                } else {
                    None
                }
            }
        })
    }

    /// Takes the facts of a received frame.
    pub(super) fn handle_facts(&mut self, mut records: Bytes) -> Result<(), SessionError> {
        let takes_facts = self.config.takes_facts && !self.compares();
        let traffic = &mut self.tally.received;
        let frame_len = records.len() + 1;
        if !takes_facts {
            count_frame(traffic, frame_len);
            return Err(SessionError::Protocol("a fact came although this side takes none"));
        }
        let cluster = self.our_hello.as_ref().map(|hello| hello.cluster);
        let cluster = cluster.ok_or_else(|| internal("a fact was taken before the hellos"))?;
        if records.is_empty() {
            return Err(SessionError::Protocol("a frame is empty"));
        }
        let mut payload = 0;
        let mut charged = Ok(());
        while !records.is_empty() && charged.is_ok() {
            match Fact::take_record(cluster, &mut records) {
                Ok(fact) => {
                    count_payload(traffic, fact.is_authority(), fact.payload_len());
                    payload += fact.payload_len();
                    self.intake.push(fact);
                }
                Err(code) => charged = self.intake.charge(code),
            }
        }
        count_facts_frame(traffic, frame_len, payload);
        charged
    }
}

/// The bytes of a frame and of the length in front of it.
fn framed(len: usize) -> u64 {
    (len + varint::encoded_len(len as u64)) as u64
}

/// Counts a frame without facts.
pub(super) fn count_frame(traffic: &mut Traffic, len: usize) {
    traffic.overhead += framed(len);
}

fn count_facts_frame(traffic: &mut Traffic, len: usize, payload: usize) {
    traffic.overhead += framed(len) - payload as u64;
}

fn count_payload(traffic: &mut Traffic, is_authority: bool, payload: usize) {
    let (bytes, facts) = if is_authority {
        (&mut traffic.authority, &mut traffic.authority_facts)
    } else {
        (&mut traffic.entries, &mut traffic.entry_facts)
    };
    *bytes += payload as u64;
    *facts += 1;
}
