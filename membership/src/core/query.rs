//! Queries: a question to some or all members, and the responses, which arrive over UDP.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    time::Duration,
};

use rand::{RngExt, seq::IteratorRandom};

use super::{
    CommandError, Core, Event, Query, QueryId, QueryParams, Status, filter, internal::InternalQuery,
    queue::Class, stats::Unwanted, timers::Due,
};
use crate::wire::{
    Text,
    memberlist::{MAX_NAME_LEN, ip_bytes, parse_addr},
    serf::{self, FLAG_ACK, FLAG_NO_BROADCAST, Message, QueryResponse, RelayHeader},
};

/// Number of Lamport times whose queries are remembered; queries older than these are ignored.
pub(super) const QUERY_BUFFER: u64 = 512;
/// Maximum number of different queries accepted for one Lamport time.
pub(super) const MAX_QUERIES_PER_TIME: usize = 256;
/// Maximum number of this member's own queries that wait for responses at a time.
pub(super) const MAX_PENDING: usize = 1024;
/// Maximum number of members through which a response is relayed; Serf's limit.
pub(super) const MAX_RELAY_FACTOR: u8 = 5;
/// Maximum time for which a received query is considered running, whatever its timeout.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
/// Duration that never passes: longer than any configured timeout.
pub(super) const ANCIENT: Duration = Duration::MAX;
/// Minimum interval between reports of unreadable filters in received queries, because anybody can send them.
const FILTER_NOTICE_INTERVAL: Duration = Duration::from_secs(60);

/// Query of this member that waits for responses.
#[derive(Debug)]
pub(super) struct Pending {
    internal: Option<InternalQuery>,
    acks: HashSet<Text>,
    responses: HashSet<Text>,
}

#[derive(Debug)]
pub(super) struct Queries {
    pub(super) pending: HashMap<QueryId, Pending>,
    seen: Vec<(u64, Vec<u32>)>,
    min_time: u64,
    /// Greatest Lamport time of a received query.
    heard: u64,
    /// Time of the last report of an unreadable filter; `None` if there was none.
    noticed_at: Option<Duration>,
}

impl Default for Queries {
    fn default() -> Self {
        let seen = vec![(0, Vec::new()); QUERY_BUFFER as usize];
        Self { pending: HashMap::new(), seen, min_time: 0, heard: 0, noticed_at: None }
    }
}

impl Queries {
    pub(super) fn ignore_before(&mut self, ltime: u64) {
        self.min_time = self.min_time.max(ltime);
    }

    /// Lamport time up to which queries were received or are ignored, so that a later run need not receive
    /// them.
    pub(super) fn heard_up_to(&self) -> u64 {
        self.heard.max(self.min_time.saturating_sub(1))
    }

    /// Records a received query. Fails if it is known, too old, or one too many of its time. `clock` is the
    /// Lamport time that this member's next query would have.
    fn insert(&mut self, clock: u64, id: QueryId) -> Result<(), Unwanted> {
        if id.ltime < self.min_time || id.ltime.saturating_add(QUERY_BUFFER) < clock {
            return Err(Unwanted::Repeated);
        }
        let at = (id.ltime % QUERY_BUFFER) as usize;
        let (ltime, ids) = self.seen.get_mut(at).ok_or(Unwanted::Excess)?;
        if *ltime != id.ltime {
            (*ltime, *ids) = (id.ltime, Vec::new());
        }
        if ids.contains(&id.id) {
            return Err(Unwanted::Repeated);
        }
        if ids.len() >= MAX_QUERIES_PER_TIME {
            return Err(Unwanted::Excess);
        }
        ids.push(id.id);
        self.heard = self.heard.max(id.ltime);
        Ok(())
    }
}

impl Core {
    /// Sends a query to the members that `params` selects. Their acks and responses arrive as events until
    /// [`Event::QueryDone`].
    pub fn query(
        &mut self,
        now: Duration,
        name: impl AsRef<[u8]>,
        payload: &[u8],
        params: &QueryParams,
    ) -> Result<QueryId, CommandError> {
        self.check_staying()?;
        self.ask(now, name.as_ref(), payload, params, None)
    }

    pub(super) fn ask(
        &mut self,
        now: Duration,
        name: &[u8],
        payload: &[u8],
        params: &QueryParams,
        internal: Option<InternalQuery>,
    ) -> Result<QueryId, CommandError> {
        let filters = filter::encode(params)?;
        if self.queries.pending.len() >= MAX_PENDING {
            return Err(CommandError::Busy("queries"));
        }
        let timeout = params.timeout.unwrap_or_else(|| self.default_query_timeout()).min(MAX_TIMEOUT);
        let query = serf::Query {
            addr: ip_bytes(self.own.info.addr.ip()),
            filters: filters.into(),
            flags: if params.request_ack { FLAG_ACK } else { 0 },
            id: self.rng.random(),
            ltime: self.clocks.query.time(),
            name: name.into(),
            payload: Some(payload.to_vec()),
            port: self.own.info.addr.port(),
            relay_factor: params.relay_factor.min(MAX_RELAY_FACTOR),
            source_node: self.own.info.name.clone(),
            timeout_ns: u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX),
        };
        let bytes = Message::Query(query.clone()).encode();
        let limit = self.config.limits.query;
        if bytes.len() > limit {
            return Err(CommandError::TooLarge { what: "the query", len: bytes.len(), limit });
        }
        // Broadcast first, so that nothing has changed if that fails.
        self.spread(Class::Query, &bytes)?;
        let id = QueryId { ltime: self.clocks.query.tick(), id: query.id };
        let pending = Pending { internal, acks: HashSet::new(), responses: HashSet::new() };
        self.queries.pending.insert(id, pending);
        self.timers.add(now + timeout, Due::Query(id));
        self.on_query(now, query);
        Ok(id)
    }

    /// Returns Serf's default timeout of a query: many times the gossip rounds needed to reach all members.
    fn default_query_timeout(&self) -> Duration {
        let scale = (self.cluster_size() as f64 + 1.0).log10().ceil().max(1.0) as u32;
        self.config.timing.gossip_interval * 16 * scale
    }

    pub(super) fn query_due(&mut self, now: Duration, id: QueryId) {
        if let Some(pending) = self.queries.pending.remove(&id) {
            match pending.internal {
                Some(internal) => self.internal_query_done(now, internal),
                None => self.emit(Event::QueryDone { query: id }),
            }
        }
    }

    /// Responds to a query received as [`Event::Query`]. Fails if its deadline has passed or the encoded
    /// response is too long.
    pub fn respond(&mut self, now: Duration, query: &Query, payload: &[u8]) -> Result<(), CommandError> {
        if now > query.deadline {
            return Err(CommandError::QueryEnded);
        }
        let response = self.response(query.id, 0, Some(payload.to_vec()));
        let len = self.response_len(query.id, payload);
        let limit = self.config.limits.response;
        if len > limit {
            return Err(CommandError::TooLarge { what: "the answer", len, limit });
        }
        self.send_response(now, query, response);
        Ok(())
    }

    fn response(&self, id: QueryId, flags: u32, payload: Option<Vec<u8>>) -> QueryResponse {
        QueryResponse { flags, from: self.own.info.name.clone(), id: id.id, ltime: id.ltime, payload }
    }

    /// Returns the size in bytes of the encoded response to the query `id` with this payload.
    pub(super) fn response_len(&self, id: QueryId, payload: &[u8]) -> usize {
        Message::QueryResponse(self.response(id, 0, Some(payload.to_vec()))).encode().len()
    }

    fn send_response(&mut self, now: Duration, query: &Query, response: QueryResponse) {
        if *query.source == *self.own.info.name && query.addr == self.own.info.addr {
            return self.on_query_response(now, response);
        }
        let bytes = Message::QueryResponse(response).encode();
        self.send_user(now, query.addr, bytes.clone());
        for relay in self.relays(query) {
            let header = RelayHeader::new(query.source.clone(), query.addr);
            let wrapped = Message::Relay(header, bytes.clone()).encode();
            self.send_user(now, relay, wrapped);
        }
    }

    /// Chooses random members through which the response to `query` is relayed in addition; returns their
    /// addresses.
    fn relays(&mut self, query: &Query) -> Vec<SocketAddr> {
        let wanted = usize::from(query.relay_factor.min(MAX_RELAY_FACTOR));
        // In so small a cluster relaying is not worth it.
        if wanted == 0 || self.cluster_size() < wanted + 1 {
            return Vec::new();
        }
        let able = self.table.iter().map(|(_, peer)| peer).filter(|peer| {
            peer.status == Status::Alive
                && peer.info.vsn[1] >= super::gossip::CRC_SINCE
                && *peer.info.name != *query.source
        });
        able.map(|peer| peer.info.addr).sample(&mut self.rng, wanted)
    }

    /// Processes a query received from another member. Returns whether to pass it on to other members.
    pub(super) fn on_query(&mut self, now: Duration, query: serf::Query) -> bool {
        if !self.clocks.query.witness(query.ltime) {
            self.stats.rejected += 1;
            return false;
        }
        let id = QueryId { ltime: query.ltime, id: query.id };
        if let Err(why) = self.queries.insert(self.clocks.query.time(), id) {
            self.stats.unwanted(why);
            return false;
        }
        let pass_on = query.flags & FLAG_NO_BROADCAST == 0;
        let Some(addr) = parse_addr(&query.addr, query.port) else {
            self.stats.malformed += 1;
            return pass_on;
        };
        match filter::matches(query.filters.as_slice(), &self.own.info.name, &self.own.tags) {
            Ok(true) => {}
            Ok(false) => return pass_on,
            Err(filter::Unreadable(filter)) => {
                self.notice_filter(now, filter, query.source_node);
                return pass_on;
            }
        }
        self.stats.queries += 1;
        let asked = Query {
            id,
            name: query.name,
            payload: query.payload.unwrap_or_default(),
            source: query.source_node,
            addr,
            relay_factor: query.relay_factor,
            deadline: now + Duration::from_nanos(query.timeout_ns).min(MAX_TIMEOUT),
        };
        if query.flags & FLAG_ACK != 0 {
            let ack = self.response(id, FLAG_ACK, None);
            self.send_response(now, &asked, ack);
        }
        if asked.name.starts_with(super::internal::PREFIX) {
            self.answer_internal(now, &asked);
        } else {
            self.emit(Event::Query(asked));
        }
        pass_on
    }

    fn notice_filter(&mut self, now: Duration, filter: String, asker: Text) {
        self.stats.malformed += 1;
        if self.queries.noticed_at.is_none_or(|at| now >= at + FILTER_NOTICE_INTERVAL) {
            self.queries.noticed_at = Some(now);
            self.emit(Event::FilterUnreadable { filter, asker });
        }
    }

    pub(super) fn on_query_response(&mut self, _now: Duration, response: QueryResponse) {
        let query = QueryId { ltime: response.ltime, id: response.id };
        let members = self.config.max_members;
        let Some(pending) = self.queries.pending.get_mut(&query) else { return };
        let is_ack = response.flags & FLAG_ACK != 0;
        let heard = if is_ack { &mut pending.acks } else { &mut pending.responses };
        // Relayed responses arrive more than once.
        if response.from.len() > MAX_NAME_LEN || heard.len() > members || !heard.insert(response.from.clone())
        {
            return;
        }
        self.stats.answers += 1;
        let payload = response.payload.unwrap_or_default();
        match (&mut pending.internal, is_ack) {
            // A response from an unknown name does not count.
            (Some(internal), false)
                if self.table.by_name(&response.from).is_some_and(|peer| peer.status == Status::Alive) =>
            {
                internal.count(&payload);
            }
            (Some(_), false) => {}
            (Some(_), true) => {}
            (None, true) => self.emit(Event::QueryAck { query, from: response.from }),
            (None, false) => self.emit(Event::QueryResponse { query, from: response.from, payload }),
        }
    }

    /// Relays another member's response to the destination in `header`, which must be a member's address.
    pub(super) fn on_relay(&mut self, now: Duration, header: &RelayHeader, inner: Vec<u8>) {
        let known = header.addr().filter(|addr| self.table.slot_at(*addr).is_some());
        match known.filter(|_| inner.len() <= self.config.limits.response) {
            Some(addr) => self.send_user(now, addr, inner),
            None => self.stats.rejected += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_query_once() {
        let mut queries = Queries::default();
        let id = |ltime, id| QueryId { ltime, id };
        assert_eq!(queries.insert(2, id(1, 7)), Ok(()));
        assert_eq!(queries.insert(2, id(1, 7)), Err(Unwanted::Repeated));
        assert_eq!(queries.insert(2, id(1, 8)), Ok(()));
        assert_eq!(queries.insert(514, id(513, 7)), Ok(()));
        assert_eq!(queries.insert(514, id(1, 9)), Err(Unwanted::Repeated), "too old");
        queries.ignore_before(600);
        assert_eq!(queries.insert(601, id(599, 1)), Err(Unwanted::Repeated));
        for n in 0..300 {
            assert_eq!(queries.insert(701, id(700, n)).is_ok(), n < MAX_QUERIES_PER_TIME as u32);
        }
    }
}
