//! TCP exchanges: joins, state exchanges, and pings as a fallback for UDP.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use rand::seq::IteratorRandom;

use super::{Core, Event, StreamId, Transmit, probe::AckPath, purpose::Purpose, table::Health, timers::Due};
use crate::wire::{
    Text, WireError,
    memberlist::{Ack, Alive, Dead, NodeState, Ping, PushPull, Suspect, ip_bytes, state},
    serf,
    stream::{self, StreamDecoder, StreamMessage},
};

/// Maximum number of concurrent exchanges started by other members.
pub(super) const MAX_INBOUND: usize = 64;
/// Maximum number of concurrent exchanges started by this member.
pub(super) const MAX_OUTBOUND: usize = 64;
/// Maximum total size of unfinished messages on all exchanges, in bytes. An exchange whose bytes would exceed
/// it is closed.
pub(super) const MAX_BUFFERED: usize = 64 * 1024 * 1024;
/// Number of gossip intervals between a join and a second state exchange.
const SECOND_LOOK_ROUNDS: u32 = 10;
/// Maximum length in bytes of the part of a peer's refusal text that is reported.
const MAX_REFUSAL: usize = 256;
/// Maximum number of members whose changes by one merge are broadcast one by one; more are left to state
/// exchanges.
pub(super) const MAX_MERGE_BROADCASTS: usize = 1024;

#[derive(Debug)]
struct Stream {
    purpose: Purpose,
    addr: SocketAddr,
    decoder: StreamDecoder,
    /// Number of this stream's bytes that are counted in [`Streams::buffered`].
    buffered: usize,
}

#[derive(Debug, Default)]
pub(super) struct Streams {
    open: HashMap<StreamId, Stream>,
    inbound: usize,
    buffered: usize,
    next: u64,
}

impl Streams {
    fn insert(&mut self, stream: Stream) -> Option<StreamId> {
        let inbound = stream.purpose == Purpose::Inbound;
        let outbound = self.open.len() - self.inbound;
        if (inbound && self.inbound >= MAX_INBOUND) || (!inbound && outbound >= MAX_OUTBOUND) {
            return None;
        }
        self.inbound += usize::from(inbound);
        self.next += 1;
        let id = StreamId(self.next);
        self.open.insert(id, stream);
        Some(id)
    }

    /// Adds bytes to an exchange. Fails if all exchanges together would hold more than [`MAX_BUFFERED`] bytes.
    fn push(&mut self, id: StreamId, bytes: &[u8]) -> Result<Option<StreamMessage>, WireError> {
        let Some(stream) = self.open.get_mut(&id) else { return Ok(None) };
        if self.buffered + bytes.len() > MAX_BUFFERED {
            return Err(WireError::TooLarge("the sum of all messages on streams"));
        }
        let result = stream.decoder.push(bytes);
        self.buffered = self.buffered - stream.buffered + stream.decoder.buffered();
        stream.buffered = stream.decoder.buffered();
        result
    }

    /// Number of open exchanges that carry long Serf messages.
    pub(super) fn carriers(&self) -> usize {
        self.open.values().filter(|stream| stream.purpose == Purpose::Carry).count()
    }

    pub(super) fn is_open(&self, id: StreamId) -> bool {
        self.open.contains_key(&id)
    }

    fn remove(&mut self, id: StreamId) -> Option<Stream> {
        let stream = self.open.remove(&id)?;
        self.inbound -= usize::from(stream.purpose == Purpose::Inbound);
        self.buffered -= stream.buffered;
        Some(stream)
    }
}

impl From<Ping> for StreamMessage {
    fn from(ping: Ping) -> Self {
        Self::Ping(ping)
    }
}

impl Core {
    /// Registers an accepted connection as a new exchange. `None`: 64 exchanges started by other members are
    /// open, so the caller must close it.
    pub fn accept(&mut self, now: Duration, from: SocketAddr) -> Option<StreamId> {
        let decoder = StreamDecoder::new(self.config.framing.clone());
        let id = self.streams.insert(Stream { purpose: Purpose::Inbound, addr: from, decoder, buffered: 0 });
        match id {
            Some(id) => self.timers.add(now + self.config.timing.stream_timeout, Due::Stream(id)),
            None => self.stats.rejected += 1,
        }
        id
    }

    /// Processes bytes read from the connection of the exchange `id`.
    pub fn handle_stream(&mut self, now: Duration, id: StreamId, bytes: &[u8]) {
        match self.streams.push(id, bytes) {
            Ok(None) => {}
            Ok(Some(message)) => {
                if let Some(stream) = self.streams.remove(id) {
                    self.stream_message(now, id, &stream, message);
                }
            }
            Err(error) => {
                self.stats.refused.add(&error);
                self.close(id);
                self.end_stream(id, Some(error.to_string()));
            }
        }
        self.flush_updates(now);
    }

    /// Records that the connection of the exchange `id` could not be opened, or has ended.
    pub fn handle_stream_closed(&mut self, now: Duration, id: StreamId, error: Option<&str>) {
        let error = error.unwrap_or("the connection was closed");
        self.end_stream(id, Some(error.to_owned()));
        self.flush_updates(now);
    }

    pub(super) fn stream_due(&mut self, _now: Duration, id: StreamId) {
        if self.streams.open.contains_key(&id) {
            self.close(id);
            self.end_stream(id, Some("timed out".to_owned()));
        }
    }

    fn end_stream(&mut self, id: StreamId, error: Option<String>) {
        let Some(stream) = self.streams.remove(id) else { return };
        self.stats.failed_exchanges += u64::from(stream.purpose.is_exchange());
        if let Purpose::Join { .. } = stream.purpose {
            self.emit(Event::JoinFinished { join: id, addr: stream.addr, error });
        }
    }

    pub(super) fn start_stream(
        &mut self,
        now: Duration,
        to: SocketAddr,
        purpose: Purpose,
        message: StreamMessage,
    ) -> Option<StreamId> {
        let decoder = StreamDecoder::for_reply(self.config.framing.clone());
        let Ok(payload) = stream::encode(&self.config.framing, &message, &mut self.rng) else {
            self.stats.internal += 1;
            return None;
        };
        let Some(stream) = self.streams.insert(Stream { purpose, addr: to, decoder, buffered: 0 }) else {
            self.stats.rejected += 1;
            return None;
        };
        let timeout = match purpose {
            // After the end of the probe nobody waits for it.
            Purpose::Ping(_) => self.config.timing.probe_interval.min(self.config.timing.stream_timeout),
            _ => self.config.timing.stream_timeout,
        };
        self.timers.add(now + timeout, Due::Stream(stream));
        self.transmit(Transmit::Connect { stream, to, payload });
        Some(stream)
    }

    pub(super) fn start_push_pull(&mut self, now: Duration, to: SocketAddr, purpose: Purpose) {
        self.push_pull(now, to, purpose);
    }

    pub(super) fn push_pull(&mut self, now: Duration, to: SocketAddr, purpose: Purpose) -> Option<StreamId> {
        let join = matches!(purpose, Purpose::Join { .. } | Purpose::Reconnect);
        let state = self.local_state(now, join);
        self.start_stream(now, to, purpose, StreamMessage::PushPull(state))
    }

    /// Exchanges states once more soon after a join: when many members join at once, gossip alone may miss a
    /// pair, and the next periodic exchange is half a minute away.
    pub(super) fn second_look(&mut self, now: Duration) {
        let living = self.table.iter().filter(|(_, peer)| peer.health.is_active());
        let chosen = living.map(|(_, peer)| peer.info.addr).choose(&mut self.rng);
        if let Some(addr) = chosen.filter(|_| !self.is_leaving()) {
            self.start_push_pull(now, addr, Purpose::Compare);
        }
    }

    fn stream_message(&mut self, now: Duration, id: StreamId, stream: &Stream, message: StreamMessage) {
        match (stream.purpose, message) {
            (Purpose::Inbound, StreamMessage::PushPull(remote)) => {
                let reply = self.local_state(now, remote.join);
                self.reply(id, StreamMessage::PushPull(reply));
                self.merge(now, remote, None, false);
            }
            (Purpose::Inbound, StreamMessage::Ping(ping)) => {
                if ping.node.is_empty() || *ping.node == *self.own.info.name {
                    self.reply(id, StreamMessage::Ack(Ack { payload: None, seq_no: ping.seq_no }));
                } else {
                    self.close(id);
                }
            }
            (Purpose::Inbound, StreamMessage::User(bytes)) => {
                self.close(id);
                self.on_user(now, &bytes);
            }
            (Purpose::Ping(seq_no), StreamMessage::Ack(ack)) if ack.seq_no == seq_no => {
                self.close(id);
                self.on_ack(now, &ack, AckPath::Tcp);
            }
            (Purpose::Join { ignore_old }, StreamMessage::PushPull(remote)) => {
                self.close(id);
                self.merge(now, remote, Some(stream.addr), ignore_old);
                self.flush_updates(now);
                self.announce_self();
                self.broadcast_join();
                let soon = self.config.timing.gossip_interval * SECOND_LOOK_ROUNDS;
                self.timers.add(now + soon, Due::SecondLook);
                self.emit(Event::JoinFinished { join: id, addr: stream.addr, error: None });
            }
            (Purpose::Compare | Purpose::Reconnect, StreamMessage::PushPull(remote)) => {
                self.close(id);
                self.merge(now, remote, Some(stream.addr), false);
            }
            (purpose, message) => {
                self.stats.malformed += 1;
                self.stats.failed_exchanges += u64::from(purpose.is_exchange());
                self.close(id);
                if let Purpose::Join { .. } = purpose {
                    let error = match message {
                        StreamMessage::Err(refusal) => format!("refused: {}", cut(&refusal.error)),
                        _ => "answered with something else".to_owned(),
                    };
                    self.emit(Event::JoinFinished { join: id, addr: stream.addr, error: Some(error) });
                }
            }
        }
    }

    fn reply(&mut self, stream: StreamId, message: StreamMessage) {
        match stream::encode_reply(&self.config.framing, &message, &mut self.rng) {
            Ok(payload) => self.transmit(Transmit::Reply { stream, payload }),
            Err(_) => {
                self.stats.internal += 1;
                self.close(stream);
            }
        }
    }

    /// Builds the complete state of this member for a push/pull: all members, and Serf's part.
    pub(super) fn local_state(&self, now: Duration, join: bool) -> PushPull {
        let own = &self.own;
        let own_state = if self.is_leaving() { state::LEFT } else { state::ALIVE };
        let mut nodes = vec![node_state(&own.info, own.incarnation, own_state)];
        for (_, peer) in self.table.iter() {
            let state = match peer.health {
                Health::Alive => state::ALIVE,
                Health::Suspect => state::SUSPECT,
                Health::Dead => state::DEAD,
                Health::Left => state::LEFT,
            };
            // Old deaths are no news, and their incarnations are no longer binding.
            let fresh = now.saturating_sub(peer.changed_at) < self.config.timing.dead_reclaim;
            if peer.health.is_active() || fresh {
                nodes.push(node_state(&peer.info, peer.incarnation, state));
            }
        }
        let user_state = serf::encode_tagged(serf::kind::PUSH_PULL, &self.serf_state());
        PushPull { join, nodes, user_state, ..PushPull::default() }
    }

    /// Merges another member's state. `source` is the other side's address, `None` if it is not certain.
    fn merge(&mut self, now: Duration, remote: PushPull, source: Option<SocketAddr>, ignore_old: bool) {
        self.stats.merges += 1;
        // Known facts do not count as repetitions here, because states are always exchanged in full.
        let repeated = self.stats.repeated;
        for node in remote.nodes {
            self.merge_node(now, source, node);
        }
        self.stats.malformed += remote.skipped.malformed as u64;
        self.stats.refused.too_large += remote.skipped.too_large as u64;
        match serf::PushPull::decode_state(&remote.user_state) {
            Ok((state, left_out)) => {
                self.stats.malformed += left_out as u64;
                self.merge_serf(now, &state, ignore_old);
            }
            // Plain memberlist has no user state.
            Err(_) if remote.user_state.is_empty() => {}
            Err(_) => self.stats.malformed += 1,
        }
        self.stats.repeated = repeated;
    }

    fn merge_node(&mut self, now: Duration, source: Option<SocketAddr>, node: NodeState) {
        let incarnation = node.incarnation;
        match node.state {
            state::ALIVE => {
                let NodeState { name, addr, port, meta, vsn, .. } = node;
                self.on_alive(now, Alive { addr, incarnation, meta, node: name, port, vsn });
            }
            state::LEFT => {
                self.on_dead(now, source, &Dead { from: node.name.clone(), incarnation, node: node.name });
            }
            // A second-hand death is only a suspicion, so that the member can refute.
            state::SUSPECT | state::DEAD => {
                let from = self.own.info.name.clone();
                self.on_suspect(now, source, &Suspect { from, incarnation, node: node.name });
            }
            _ => self.stats.malformed += 1,
        }
    }
}

/// Returns the first [`MAX_REFUSAL`] bytes of a text that may have megabytes.
fn cut(text: &Text) -> Text {
    text.get(..MAX_REFUSAL).map_or_else(|| text.clone(), Text::from)
}

fn node_state(info: &super::glue::Info, incarnation: u32, state: u8) -> NodeState {
    NodeState {
        addr: ip_bytes(info.addr.ip()),
        incarnation,
        meta: Some(info.meta.clone()),
        name: info.name.clone(),
        port: info.addr.port(),
        state,
        vsn: Some(info.vsn.to_vec()),
    }
}
