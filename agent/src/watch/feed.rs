//! One watcher's stream: what stands, then what changes, read when it is sent.

use super::cause::Why;
use super::hub::{Start, Watcher};
use super::mailbox::Pending;
use super::rows::{self, Read};
use super::snapshot::{Position, digests};
use super::{CHUNK_BYTES, CHUNK_KEYS};
use crate::clock;
use bytes::Bytes;
use kvgossip_api::{GapEvent, SyncedEvent, WatchForm, event};
use kvgossip_engine::{StorageError, View};
use kvgossip_grants::{FactId, Held, Key, held_authority};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How many authority facts stand in one event at the beginning.
const FACTS_AT_ONCE: usize = 256;
/// How often the store may be ahead of the state that is told before the stream is given up. The hub needs moments.
const MAX_OUTDATED: u32 = 1000;
/// How long to wait for the hub then.
const OUTDATED_PAUSE: Duration = Duration::from_millis(5);
/// A comment, which readers skip.
const HEARTBEAT_LINE: &[u8] = b": still here\n\n";

/// The stream of one watcher, as chunks of server-sent events.
pub struct Feed {
    /// Absent while a round is under way elsewhere, and after the end.
    round: Option<Box<Round>>,
    watcher: Arc<Watcher>,
    outdated: u32,
    begun: bool,
}

/// What a stream is at.
enum Phase {
    /// Nothing has been compared or told.
    Begin,
    /// The authority facts of the beginning, then keys, then `synced`.
    Telling,
    Live,
}

struct Round {
    watcher: Arc<Watcher>,
    phase: Phase,
    gap: Option<&'static str>,
    resumed: bool,
    facts: VecDeque<FactId>,
    position: Position,
    /// Which buckets differ, where the watcher has sent digests.
    different: Option<Vec<bool>>,
    /// Whether a key that stands could not be read this time.
    outdated: bool,
}

/// What came of a round.
enum Outcome {
    /// To be sent.
    Text(String),
    /// Nothing was found yet: there is more to look at.
    Again,
    /// Nothing could be read yet.
    Outdated,
    /// Sent and done.
    End(String),
}

impl Feed {
    pub(super) fn new(watcher: Watcher, start: Start) -> Self {
        let watcher = Arc::new(watcher);
        let resumed = start == Start::Resumed;
        let round = Round {
            watcher: watcher.clone(),
            phase: if resumed { Phase::Telling } else { Phase::Begin },
            gap: (start == Start::Gap).then_some(GapEvent::CURSOR),
            resumed,
            facts: VecDeque::new(),
            position: if resumed { Position::end(&watcher.interest) } else { Position::default() },
            different: None,
            outdated: false,
        };
        Self { round: Some(Box::new(round)), watcher, outdated: 0, begun: false }
    }

    /// The next chunk; `None` at the end. Whatever is not polled costs nobody anything.
    pub async fn next(&mut self) -> Option<Bytes> {
        if !self.begun {
            tokio::select! {
                () = self.watcher.stopped() => return None,
                () = self.watcher.catch_up() => self.begun = true,
            }
        }
        loop {
            let mut round = self.round.take()?;
            if round.is_idle() {
                self.round = Some(round);
                tokio::select! {
                    () = self.watcher.stopped() => return None,
                    () = self.watcher.mailbox.arrived() => continue,
                    () = tokio::time::sleep(self.watcher.interest.heartbeat) => {
                        return Some(Bytes::from_static(HEARTBEAT_LINE));
                    }
                }
            }
            let worked = tokio::task::spawn_blocking(move || {
                let outcome = round.work();
                (round, outcome)
            });
            let (round, outcome) = worked.await.ok()?;
            match outcome {
                Ok(Outcome::Text(text)) => {
                    (self.round, self.outdated) = (Some(round), 0);
                    return Some(text.into());
                }
                Ok(Outcome::End(text)) => return Some(text.into()),
                Ok(Outcome::Again) => self.round = Some(round),
                Ok(Outcome::Outdated) if self.outdated < MAX_OUTDATED => {
                    (self.round, self.outdated) = (Some(round), self.outdated + 1);
                    tokio::time::sleep(OUTDATED_PAUSE).await;
                }
                Ok(Outcome::Outdated) => return None,
                Err(error) => {
                    tracing::warn!(%error, "a watcher's stream ends: the store cannot be read");
                    return None;
                }
            }
        }
    }
}

impl Round {
    /// Whether there is nothing to do until something arrives.
    fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Live) && self.gap.is_none() && self.watcher.mailbox.is_empty()
    }

    fn work(&mut self) -> Result<Outcome, StorageError> {
        let mut out = String::new();
        self.outdated = false;
        if let Some(reason) = self.gap.take() {
            rows::append(&mut out, event::GAP, None, &GapEvent { reason: reason.to_owned() });
        }
        if matches!(self.phase, Phase::Begin) {
            self.begin();
        }
        if !self.facts.is_empty() {
            let ids: Vec<FactId> = self.facts.drain(..FACTS_AT_ONCE.min(self.facts.len())).collect();
            rows::append_facts(&mut out, None, &self.watcher.store().view(), ids.into_iter());
            return Ok(Outcome::Text(out));
        }
        // In this order: what leads to the cursor and to the view is in the mailbox already.
        let cursor = self.watcher.cursor();
        let view = self.watcher.view();
        let pending = self.watcher.mailbox.take();
        if pending.overflowed {
            return Ok(self.overflow(out));
        }
        let cursor = cursor.to_string();
        let live = matches!(self.phase, Phase::Live);
        // The last event carries the cursor.
        let facts_end = Some(&cursor).filter(|_| live && pending.keys.is_empty());
        let facts = pending.facts.iter().copied();
        rows::append_facts(&mut out, facts_end.cloned(), &self.watcher.store().view(), facts);
        let rest = self.tell_changes(&mut out, &view, pending, live.then_some(&cursor))?;
        let behind = !rest.is_empty();
        if behind {
            self.put_back(rest);
        } else if !live && self.tell_standing(&mut out, &view)? {
            let different = self.different.as_ref().map(|buckets| {
                (0..).zip(buckets).filter(|(_, differs)| **differs).map(|(place, _)| place).collect()
            });
            let now_us = clock::now().as_micros();
            let synced = SyncedEvent { now_us, resumed: self.resumed, different };
            rows::append(&mut out, event::SYNCED, Some(cursor), &synced);
            self.phase = Phase::Live;
        }
        Ok(match out.is_empty() {
            false => Outcome::Text(out),
            true if behind || self.outdated => Outcome::Outdated,
            true => Outcome::Again,
        })
    }

    /// Compares digests and lists the authority facts to tell.
    fn begin(&mut self) {
        let (watcher, view) = (self.watcher.clone(), self.watcher.begin());
        let (interest, authority) = (&watcher.interest, view.authority());
        let has_authority =
            interest.have.as_ref().is_some_and(|have| have.authority == held_authority(authority.fact_ids()));
        if interest.authority && !has_authority {
            let mut ids: Vec<_> = authority.fact_ids().map(|id| (authority.depth(&id), id)).collect();
            ids.sort_unstable();
            self.facts = ids.into_iter().map(|(_, id)| id).collect();
        }
        self.different = interest.have.as_ref().map(|have| {
            let mine = digests(interest, &view, have.buckets.len());
            mine.iter().zip(&have.buckets).map(|(mine, theirs)| mine != theirs).collect()
        });
        self.position = Position::default();
        self.phase = Phase::Telling;
    }

    /// After more changes than the mailbox holds: all again, or the end if the watcher can compare.
    fn overflow(&mut self, mut out: String) -> Outcome {
        rows::append(&mut out, event::GAP, None, &GapEvent { reason: GapEvent::OVERFLOW.to_owned() });
        if self.watcher.interest.have.is_some() {
            return Outcome::End(out);
        }
        (self.phase, self.resumed) = (Phase::Begin, false);
        Outcome::Text(out)
    }

    /// Tells changed keys; gives what could not be told this time. The last event carries the cursor.
    fn tell_changes(
        &self,
        out: &mut String,
        view: &Arc<View>,
        pending: Pending,
        cursor: Option<&String>,
    ) -> Result<Vec<(Key, Why)>, StorageError> {
        let reader = self.watcher.store().reader();
        let (mut rest, mut told) = (Vec::new(), pending.keys.into_iter().peekable());
        while let Some((key, why)) = told.next() {
            if out.len() >= CHUNK_BYTES {
                rest.push((key, why));
                rest.extend(told);
                break;
            }
            match rows::read(view, reader.as_ref(), (&key, why), self.watcher.interest.form, clock::now())? {
                Read::Event(row) => {
                    let id = cursor.filter(|_| told.peek().is_none() && rest.is_empty()).cloned();
                    rows::append(out, event::KEY, id, &row);
                }
                Read::Outdated => rest.push((key, why)),
            }
        }
        Ok(rest)
    }

    fn put_back(&self, rest: Vec<(Key, Why)>) {
        self.watcher.mailbox.change(|pending| {
            for (key, why) in rest {
                // What came meanwhile is later.
                let why = pending.keys.get(&key).copied().unwrap_or(why);
                pending.note_key(&key, why);
            }
        });
    }

    /// Tells what stands, up to a chunk; whether that is all.
    fn tell_standing(&mut self, out: &mut String, view: &Arc<View>) -> Result<bool, StorageError> {
        let watcher = self.watcher.clone();
        let (interest, reader) = (&watcher.interest, watcher.store().reader());
        let mut looked = 0;
        while out.len() < CHUNK_BYTES && looked < CHUNK_KEYS {
            let Some(key) = self.position.next(interest, view, &mut looked) else { break };
            if let Some(buckets) = &self.different
                && !buckets.get(Held::bucket(&key, buckets.len())).copied().unwrap_or(true)
            {
                continue;
            }
            match rows::read(view, reader.as_ref(), (&key, Why::Current), interest.form, clock::now())? {
                // Nobody who looks at values asked to be told that some other key is unset.
                Read::Event(row)
                    if interest.form == WatchForm::Values && row.entry.is_none() && !interest.names(&key) => {
                }
                Read::Event(row) => rows::append(out, event::KEY, None, &row),
                Read::Outdated => {
                    self.outdated = true;
                    self.put_back(vec![(key, Why::Current)]);
                    return Ok(false);
                }
            }
        }
        Ok(self.position.is_done(interest))
    }
}
