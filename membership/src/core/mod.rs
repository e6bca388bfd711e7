//! The member as a state machine, without sockets, clock or randomness of its own.
//!
//! # Division of work
//!
//! foca decides which member is probed when, which members help, and which update is sent in which packet. The
//! translation around it follows memberlist's rules where foca's differ:
//!
//! * Incarnations on the wire have 32 bits, and a dead member returns with a higher one. For foca, a member that
//!   returns is a new generation of the same slot; stale news never reaches it.
//! * This member's own incarnation and refutations are handled here, because foca never sends messages about itself.
//! * Suspicions end here, by Lifeguard's rule, whoever raised them; foca's own timers for them are ignored.
//! * Every ping is answered here, including those of strangers and of dead members, which are informed of it.
//! * Pings on behalf of others, and over TCP when UDP fails, are sent here.
//! * Members join and exchange states over TCP; foca's announcements start such an exchange.
//! * Serf's layer is here: Lamport clocks, intents, events, queries.
//!
//! # Driving it
//!
//! Time is a [`Duration`] since any epoch of the caller; it must never decrease. After every call that takes
//! `now`, and after every `poll_*` that returned something, the caller
//!
//! 1. sends what [`Core::poll_transmit`] returns, until it returns `None`,
//! 2. processes what [`Core::poll_event`] returns, until it returns `None`,
//! 3. calls [`Core::handle_timeout`] no later than [`Core::poll_timeout`] says.
//!
//! Datagrams are passed to [`Core::handle_udp`]. A TCP connection is an exchange with an id: the core opens one
//! with [`Transmit::Connect`], and the caller announces an accepted one with [`Core::accept`]. Received bytes
//! are passed to [`Core::handle_stream`], and the end of a connection to [`Core::handle_stream_closed`].

mod allowance;
mod bounds;
mod commands;
mod config;
mod config_error;
mod coordinate;
mod events;
mod filter;
mod glue;
mod gossip;
mod intents;
mod internal;
mod limits;
mod long;
mod probe;
mod purpose;
mod query;
mod queue;
mod rejoin;
mod snapshot;
mod stats;
mod suspicion;
mod swim;
mod sync;
mod table;
mod timers;
mod types;

#[cfg(test)]
mod answered_tests;
#[cfg(test)]
mod flood_tests;
#[cfg(test)]
mod gossip_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod long_tests;
#[cfg(test)]
mod names_tests;
#[cfg(test)]
mod parts_tests;
#[cfg(test)]
mod rejoin_tests;
#[cfg(test)]
mod room_tests;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod sim_tests;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, net::SocketAddr, num::NonZero, sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};

pub use config::{Config, MAX_MEMBERS, PACKET_SIZE, Timing};
pub use config_error::ConfigError;
pub use coordinate::Coordinate;
pub(crate) use filter::{compile_whole, readable};
pub use internal::KeyChange;
pub use limits::{Limits, MAX_LIMIT, QUERY_LIMIT, RESPONSE_LIMIT, USER_EVENT_LIMIT};
pub use queue::{MAX_QUEUED, QueueDepths};
pub use snapshot::Snapshot;
pub use stats::{Changes, Refused, Stats, Traffic};
pub use types::{
    Answered, CommandError, Event, LamportTimes, Member, Query, QueryId, QueryParams, Status, StreamId,
    Transmit,
};

use crate::wire::{
    memberlist::{Message, VSN},
    packet,
};
use commands::LeavePhase;
use config::check_tags;
use glue::{Codec, Foca, Id, Info, Outbox, SELF_SLOT};
use gossip::packet_budget;
use timers::{Due, Timers};

/// Maximum number of transmissions that wait for [`Core::poll_transmit`]; further ones are dropped.
pub const MAX_TRANSMITS: usize = 16 * 1024;
/// Maximum number of events that wait for [`Core::poll_event`]; further ones are dropped.
pub const MAX_EVENTS: usize = 256 * 1024;

/// This member's own state, as announced to other members.
#[derive(Debug)]
struct Own {
    info: Arc<Info>,
    tags: crate::wire::serf::Tags,
    incarnation: u32,
    /// Remaining amount by which other members' messages may raise this member's incarnation.
    allowance: allowance::Allowance,
    status_ltime: u64,
}

/// One member of a cluster, as a state machine without I/O. The [module](self) describes how to drive it.
pub struct Core {
    config: Config,
    rng: StdRng,
    foca: Foca,
    outbox: Outbox,
    queues: queue::Queues,
    long: long::Long,
    /// Whether foca has sent gossip in the current call of the core.
    foca_spoke: bool,
    table: table::Table,
    own: Own,
    timers: Timers,
    /// Changes of members collected for foca in the current call.
    updates: Vec<foca::Member<Id>>,
    generation: u64,
    /// Cluster size, in members, that foca is configured for.
    tuned_for: usize,
    probes: probe::Probes,
    vivaldi: coordinate::Vivaldi,
    streams: sync::Streams,
    clocks: intents::Clocks,
    intents: intents::RecentIntents,
    user_events: events::EventBuffer,
    queries: query::Queries,
    leave: LeavePhase,
    rejoin: rejoin::Rejoin,
    /// Time of the last report that another member claims this one's name; `None` if there was none.
    conflict_at: Option<Duration>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    stats: Stats,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("own", &self.own)
            .field("members", &self.table.len())
            .finish_non_exhaustive()
    }
}

impl Core {
    /// Creates a member that knows no other member yet. `seed` must be random, and secret if packets are
    /// encrypted, because nonces derive from it.
    pub fn new(config: Config, now: Duration, seed: [u8; 32]) -> Result<Self, ConfigError> {
        config.check()?;
        let mut rng = StdRng::from_seed(seed);
        let info = Arc::new(Info {
            name: config.name.clone(),
            addr: config.advertise,
            meta: check_tags(&config.tags)?,
            vsn: VSN,
            base: 0,
        });
        let own_id = Id { slot: SELF_SLOT, generation: 0, info: info.clone(), from: None };
        let codec = Codec::new(&info, rng.random());
        let foca_rng = StdRng::from_rng(&mut rng);
        let foca_config = foca_config(&config, 1);
        let mut core = Self {
            foca: Foca::new(own_id, foca_config, foca_rng, codec),
            outbox: Outbox::default(),
            queues: queue::Queues::new(packet_budget(&config)),
            long: long::Long::default(),
            foca_spoke: false,
            table: table::Table::default(),
            own: Own {
                info,
                tags: config.tags.clone(),
                incarnation: 1,
                allowance: allowance::Allowance::new(now),
                status_ltime: 0,
            },
            timers: Timers::default(),
            updates: Vec::new(),
            generation: 0,
            tuned_for: 1,
            probes: probe::Probes::new(rng.random()),
            vivaldi: coordinate::Vivaldi::default(),
            streams: sync::Streams::default(),
            clocks: intents::Clocks::default(),
            intents: intents::RecentIntents::default(),
            user_events: events::EventBuffer::default(),
            queries: query::Queries::default(),
            leave: LeavePhase::Staying,
            rejoin: rejoin::Rejoin::default(),
            conflict_at: None,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            stats: Stats::default(),
            rng,
            config,
        };
        core.restore();
        core.begin_rejoining(now);
        core.timers.add(now + core.config.timing.reconnect_interval, Due::Reconnect);
        core.timers.add(now + core.config.timing.reap_interval, Due::Reap);
        Ok(core)
    }

    /// Returns the next transmission; `None` if none waits.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Returns the next event; `None` if none waits.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Time on the core's clock when [`Core::handle_timeout`] is due next; `None` without a timer.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// Runs all timers that are due.
    pub fn handle_timeout(&mut self, now: Duration) {
        while let Some(due) = self.timers.pop(now) {
            match due {
                Due::Foca(timer) => self.foca_timer(now, timer),
                Due::Suspicion(slot) => self.suspicion_due(now, slot),
                Due::Relay(seq_no) => self.relay_due(seq_no),
                Due::Stream(stream) => self.stream_due(now, stream),
                Due::Query(query) => self.query_due(now, query),
                Due::Reconnect => self.reconnect_due(now),
                Due::SecondLook => self.second_look(now),
                Due::Reap => self.reap_due(now),
                Due::Leave => self.leave_due(now),
                Due::Rejoin => self.rejoin_due(now),
            }
            self.flush_updates(now);
        }
    }

    /// Processes a received datagram.
    pub fn handle_udp(&mut self, now: Duration, from: SocketAddr, payload: &[u8]) {
        self.stats.received.add(payload.len());
        match packet::decode(&self.config.framing, payload) {
            Ok(decoded) => {
                self.stats.malformed += decoded.malformed as u64;
                self.stats.refused.too_large += decoded.too_large as u64;
                for message in decoded.messages {
                    self.handle_message(now, from, message);
                }
            }
            Err(error) => self.stats.refused.add(&error),
        }
        self.flush_updates(now);
    }

    fn handle_message(&mut self, now: Duration, from: SocketAddr, message: Message) {
        match message {
            Message::Ping(ping) => self.on_ping(now, from, &ping),
            Message::IndirectPing(request) => self.on_indirect_ping(now, from, &request),
            Message::Ack(ack) => self.on_ack(now, &ack, probe::AckPath::Udp(from)),
            Message::Nack(nack) => self.probes.on_nack(nack.seq_no),
            Message::Suspect(suspect) => self.on_suspect(now, Some(from), &suspect),
            Message::Dead(dead) => self.on_dead(now, Some(from), &dead),
            Message::Alive(alive) => self.on_alive(now, alive),
            Message::User(bytes) => self.on_user(now, &bytes),
        }
    }

    /// Calls foca with `act`, and processes its output.
    fn drive(&mut self, now: Duration, act: impl FnOnce(&mut Foca, &mut Outbox) -> Result<(), foca::Error>) {
        if act(&mut self.foca, &mut self.outbox).is_err() {
            self.stats.internal += 1;
        }
        for (number, id) in std::mem::take(&mut self.outbox.failed_probes) {
            self.stats.failed_probes += 1;
            self.probe_failed(now, number, &id);
        }
        for (to, data, header) in std::mem::take(&mut self.outbox.sent) {
            self.foca_sent(now, &to, &data, &header);
        }
        for (after, timer) in std::mem::take(&mut self.outbox.timers) {
            let after = self.probes.stretch(&timer, after);
            self.timers.add(now + after, Due::Foca(timer));
        }
    }

    fn foca_timer(&mut self, now: Duration, timer: foca::Timer<Id>) {
        if let foca::Timer::SendIndirectProbe { probed_id, .. } = &timer {
            self.tcp_fallback(now, &probed_id.clone());
        }
        let is_round = matches!(timer, foca::Timer::PeriodicGossip(_));
        self.foca_spoke = false;
        self.drive(now, |foca, outbox| foca.handle_timer(timer, outbox));
        if is_round {
            self.gossip_round(self.foca_spoke);
            self.long_round(now);
        }
    }

    fn foca_sent(&mut self, now: Duration, to: &Id, data: &[u8], header: &foca::Message<Id>) {
        let messages = glue::split_data(header, data);
        match header {
            foca::Message::Announce => {
                return self.start_push_pull(now, to.info.addr, purpose::Purpose::Compare);
            }
            foca::Message::Ping(number) => self.probes.started(now, to, *number, messages.first()),
            foca::Message::PingReq { .. } => self.probes.expect_nack(to),
            foca::Message::Gossip => self.foca_spoke = true,
            _ => {}
        }
        self.send_filled(to.info.addr, messages);
    }

    /// Configures foca for the cluster's size, and passes the collected changes of members to it.
    fn flush_updates(&mut self, now: Duration) {
        // Configure first, because the number of transmissions is fixed when a change is passed to foca.
        let members = self.cluster_size();
        if members != self.tuned_for {
            self.tuned_for = members;
            let config = foca_config(&self.config, members);
            if self.foca.set_config(config).is_err() {
                self.stats.internal += 1;
            }
        }
        if !self.updates.is_empty() {
            let updates = std::mem::take(&mut self.updates);
            self.stats.updates += updates.len() as u64;
            // After a big merge other members know the changes already, or will exchange states themselves.
            let spread = updates.len() <= sync::MAX_MERGE_BROADCASTS;
            self.drive(now, |foca, outbox| foca.apply_many(updates.into_iter(), spread, outbox));
        }
    }

    fn transmit(&mut self, transmit: Transmit) {
        if self.transmits.len() >= MAX_TRANSMITS {
            self.stats.dropped += 1;
        } else {
            if let Transmit::Udp { payload, .. } = &transmit {
                self.stats.sent.add(payload.len());
            }
            self.transmits.push_back(transmit);
        }
    }

    fn emit(&mut self, event: Event) {
        self.stats.count(&event);
        if self.events.len() >= MAX_EVENTS {
            self.stats.dropped += 1;
        } else {
            self.events.push_back(event);
        }
    }

    /// For fuzzers and tests: panics if foca and the table disagree about the live members.
    pub(crate) fn assert_consistent(&self) {
        assert_eq!(self.foca.num_members(), self.table.active, "foca and the table disagree");
        assert_eq!(self.stats.internal, 0, "foca reported an error");
        assert!(self.updates.is_empty(), "changes were not handed over");
    }

    /// Number of members that are alive or suspected, this one included.
    fn cluster_size(&self) -> usize {
        self.table.active + 1
    }
}

fn foca_config(config: &Config, members: usize) -> foca::Config {
    let timing = &config.timing;
    let at_least_one = |n: usize| NonZero::new(n).unwrap_or(NonZero::<usize>::MIN);
    foca::Config {
        probe_period: timing.probe_interval,
        probe_rtt: timing.probe_timeout,
        num_indirect_probes: at_least_one(timing.indirect_checks),
        max_transmissions: NonZero::new(suspicion::transmissions(timing, members))
            .unwrap_or(NonZero::<u8>::MIN),
        suspect_to_down_after: suspicion::min_timeout(timing, members),
        remove_down_after: None,
        max_packet_size: at_least_one(packet_budget(config)),
        notify_down_members: false,
        periodic_announce: Some(foca::PeriodicParams {
            frequency: suspicion::push_pull_interval(timing, members),
            num_members: NonZero::<usize>::MIN,
        }),
        periodic_announce_to_down_members: None,
        periodic_gossip: Some(foca::PeriodicParams {
            frequency: timing.gossip_interval,
            num_members: at_least_one(timing.gossip_fanout),
        }),
    }
}
