//! The stream of one watcher: first the current state, then changes. Data are read when they are sent.

use super::hub::{Hub, Start, WatchError, Watcher};
use super::interest::Interest;
use super::round::{ChunkResult, Round};
use super::{MAX_CHUNK_BYTES, SMALL_CHUNK_BYTES};
use crate::clients::{Charged, Client, Reservation};
use bytes::Bytes;
use std::sync::Arc;

/// The stream of one watcher, as chunks of server-sent events.
pub struct Feed {
    /// State of the stream; `None` while another thread makes a chunk, and after the end of the stream.
    round: Option<Box<Round>>,
    watcher: Arc<Watcher>,
    begun: bool,
    /// Client whose ledger has to have room for large events; `None`: there is always room.
    client: Option<Arc<Client>>,
    /// Room for a large event that was waited for and is not used yet; `None`: none was waited for.
    room: Option<Reservation>,
}

impl Hub {
    /// Starts a stream for a new watcher. `cursor`: id of the last event of an earlier stream; `None`: there was none.
    pub fn watch(&self, interest: Interest, cursor: Option<&str>) -> Result<Feed, WatchError> {
        let (watcher, start) = self.watcher(interest, cursor)?;
        Ok(Feed::new(watcher, start))
    }
}

impl Feed {
    fn new(watcher: Watcher, start: Start) -> Self {
        let watcher = Arc::new(watcher);
        let round = Round::new(watcher.clone(), start);
        Self { round: Some(Box::new(round)), watcher, begun: false, client: None, room: None }
    }

    /// Charges large events to this client: they wait until its ledger has room.
    pub(crate) fn charged_to(mut self, client: Arc<Client>) -> Self {
        self.client = Some(client);
        self
    }

    /// Takes room for the next chunk: the room that was waited for, or else what is free now. `None`: there is no room, or
    /// no client is charged, and then none is needed.
    fn take_room(&mut self) -> Option<Reservation> {
        self.room.take().or_else(|| self.client.as_ref()?.answer_now(MAX_CHUNK_BYTES))
    }

    /// Joins a chunk with the room that it occupies; small chunks occupy none.
    fn chunk(text: Vec<u8>, room: Option<Reservation>) -> Bytes {
        match room {
            Some(mut room) if text.len() > SMALL_CHUNK_BYTES => {
                room.keep(text.capacity());
                Bytes::from_owner(Charged { bytes: text, _room: room })
            }
            _ => text.into(),
        }
    }

    /// Returns the next chunk; `None` at the end of the stream. A stream that is not polled holds up nobody.
    pub async fn next(&mut self) -> Option<Bytes> {
        if !self.begun {
            tokio::select! {
                () = self.watcher.stopped() => return None,
                _ = self.watcher.catch_up() => self.begun = true,
            }
        }
        loop {
            let mut round = self.round.take()?;
            if round.is_idle() {
                self.round = Some(round);
                tokio::select! {
                    () = self.watcher.stopped() => return None,
                    () = self.watcher.mailbox.arrived() => continue,
                    () = tokio::time::sleep(self.watcher.interest.heartbeat) => {}
                }
                // A heartbeat promises that everything committed so far was sent, so it waits for changes on their way
                // to the mailbox.
                let told = tokio::select! {
                    () = self.watcher.stopped() => return None,
                    told = self.watcher.catch_up() => told,
                };
                if self.watcher.mailbox.is_empty() {
                    return Some(told.to_heartbeat().into());
                }
                continue;
            }
            let room = self.take_room();
            let is_roomy = room.is_some() || self.client.is_none();
            let turn = self.watcher.turn(is_roomy).await?;
            let worked = tokio::task::spawn_blocking(move || {
                let outcome = round.work(is_roomy);
                drop(turn);
                (round, outcome)
            });
            let (round, outcome) = worked.await.ok()?;
            match outcome {
                Ok(ChunkResult::Text(text)) => {
                    self.round = Some(round);
                    return Some(Self::chunk(text, room));
                }
                Ok(ChunkResult::NeedsRoom) => {
                    self.round = Some(round);
                    let Some(client) = self.client.clone() else { continue };
                    self.room = tokio::select! {
                        () = self.watcher.stopped() => return None,
                        room = client.answer(MAX_CHUNK_BYTES, None) => Some(room?),
                    };
                }
                Ok(ChunkResult::End(text)) => return Some(text.into()),
                Ok(ChunkResult::Again) => self.round = Some(round),
                Err(error) => {
                    tracing::warn!(%error, "a watcher's stream ends: the store cannot be read");
                    return None;
                }
            }
        }
    }
}
