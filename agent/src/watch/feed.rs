//! One watcher's stream: what stands, then what changes, read when it is sent.

use super::hub::{Hub, Start, WatchError, Watcher};
use super::interest::Interest;
use super::round::{ChunkResult, Round};
use super::{MAX_CHUNK_BYTES, SMALL_CHUNK_BYTES};
use crate::clients::{Charged, Client, Reservation};
use bytes::Bytes;
use std::sync::Arc;

/// The stream of one watcher, as chunks of server-sent events.
pub struct Feed {
    /// Absent while a round is under way elsewhere, and after the end.
    round: Option<Box<Round>>,
    watcher: Arc<Watcher>,
    begun: bool,
    /// Who has to have room for what is told; without it there always is.
    client: Option<Arc<Client>>,
    /// Room that was waited for.
    room: Option<Reservation>,
}

impl Hub {
    /// Begins to watch. `cursor` is the id of the last event of an earlier stream.
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

    /// Has everything large wait for room that this client can have.
    pub(crate) fn charged_to(mut self, client: Arc<Client>) -> Self {
        self.client = Some(client);
        self
    }

    /// Room for the next chunk: that which was waited for, or what is there now.
    fn take_room(&mut self) -> Option<Reservation> {
        self.room.take().or_else(|| self.client.as_ref()?.answer_now(MAX_CHUNK_BYTES))
    }

    /// A chunk with the room it takes.
    fn chunk(text: Vec<u8>, room: Option<Reservation>) -> Bytes {
        match room {
            Some(mut room) if text.len() > SMALL_CHUNK_BYTES => {
                room.keep(text.capacity());
                Bytes::from_owner(Charged { bytes: text, _room: room })
            }
            _ => text.into(),
        }
    }

    /// The next chunk; `None` at the end. Whatever is not polled costs nobody anything.
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
                // A heartbeat promises that everything committed so far was told, so changes on their way to the mailbox are
                // waited for.
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
