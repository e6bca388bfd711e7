//! The agent's metrics, for `GET /metrics`. `docs/metrics.md` lists them; a test compares the list with the code.
//!
//! Labels take only a few values, none chosen from outside: routes, codes and outcomes, never keys, peers or
//! addresses.

mod catalog;
mod clocks;
mod doors;
mod gossip;
mod guards;
mod labels;
mod process;
mod standing;
mod waiting;

pub use catalog::MetricInfo;
pub(crate) use gossip::{GossipSample, SessionCause};
pub(crate) use guards::ShutOutSample;
pub(crate) use labels::{Bytes, Door, Fact, Http, Kind, Route, Session};

use catalog::Catalog;
use clocks::ClockMetrics;
use doors::Doors;
use gossip::GossipMetrics;
use guards::Guards;
use kvgossip_api::{SyncReport, WaitingRow};
use kvgossip_engine::clocks::Standing;
use kvgossip_engine::session::Tally;
use kvgossip_grants::Verdict;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use standing::StandingMetrics;
pub(crate) use standing::StandingSample;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use waiting::Waiting;

/// All metrics of an agent. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<All>);

struct All {
    registry: Registry,
    catalog: Vec<MetricInfo>,
    facts: Family<Fact, Counter>,
    commit: CommitMetrics,
    queue: Gauge,
    sessions: Family<Session, Counter>,
    session_seconds: Histogram,
    session_bytes: Family<Bytes, Counter>,
    wasted: Counter,
    cloned_keys: Gauge,
    standing: StandingMetrics,
    keys: Gauge,
    long_keys: Gauge,
    longest_key: Gauge,
    waiting: Waiting,
    clocks: ClockMetrics,
    guards: Guards,
    authority: Family<Kind, Gauge>,
    store_bytes: Gauge,
    http: Family<Http, Counter>,
    http_seconds: Family<Route, Histogram, fn() -> Histogram>,
    connections: Family<Door, Gauge>,
    turned_away: Family<Door, Counter>,
    doors: Doors,
    watchers: Gauge,
    gossip: GossipMetrics,
    process: process::Process,
}

/// Metrics of the committer.
#[derive(Clone, Debug)]
pub struct CommitMetrics {
    facts: Histogram,
    seconds: Histogram,
}

impl CommitMetrics {
    /// Records a batch that was merged and is durable.
    pub(crate) fn batch(&self, facts: usize, took: Duration) {
        self.facts.observe(u32::try_from(facts).map_or(f64::from(u32::MAX), f64::from));
        self.seconds.observe(took.as_secs_f64());
    }
}

/// Numbers and states of the agent that are read at a scrape.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holdings {
    pub(crate) keys: u64,
    pub(crate) long_keys: u64,
    /// Number of entries of the key that has the most entries.
    pub(crate) longest_key: u64,
    /// Numbers of grants, of revocations and of floors, in this order.
    pub(crate) authority: [u64; 3],
    pub(crate) waiting: u64,
    pub(crate) early: WaitingRow,
    pub(crate) standing: StandingSample,
    pub(crate) cloned_keys: u64,
    pub(crate) store_bytes: u64,
    pub(crate) store_counted: u64,
    pub(crate) store_limit: u64,
    pub(crate) shut_out: ShutOutSample,
    pub(crate) watchers: u64,
    pub(crate) started_at_us: u64,
    pub(crate) gossip: GossipSample,
    pub(crate) clocks: Standing,
}

/// Creates a histogram with buckets from 100 microseconds to 26 seconds.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 4.0, 10))
}

impl Metrics {
    /// Creates all metrics with the value 0.
    pub fn new() -> Self {
        let mut c = Catalog::default();
        let facts = c.add(
            ("kvgossip_facts", "counter", None, &["source", "verdict", "code"]),
            "Facts that were offered here, by source, verdict and code",
            Family::default(),
        );
        let commit = CommitMetrics {
            facts: c.add(
                ("kvgossip_commit_facts", "histogram", None, &[]),
                "Facts merged by one durable batch",
                Histogram::new(exponential_buckets(1.0, 4.0, 7)),
            ),
            seconds: c.add(
                ("kvgossip_commit", "histogram", Some(Unit::Seconds), &[]),
                "Time from the merge of a batch until it is durable",
                seconds(),
            ),
        };
        let queue = c.add(
            ("kvgossip_commit_queue_requests", "gauge", None, &[]),
            "Requests that wait for the committer",
            Gauge::default(),
        );
        let sessions = c.add(
            ("kvgossip_sessions", "counter", None, &["role", "outcome", "code"]),
            "Sync sessions that ended, by role and outcome: equal, unsettled (the two still differ), busy (it did not \
             begin: another one was under way, or there was no room), failed; the code is that of a failure",
            Family::default(),
        );
        let session_seconds = c.add(
            ("kvgossip_session", "histogram", Some(Unit::Seconds), &[]),
            "Time from the opening of a session to its end",
            seconds(),
        );
        let session_bytes = c.add(
            ("kvgossip_session", "counter", Some(Unit::Bytes), &["direction", "kind"]),
            "Bytes of session streams, including running ones; overhead is everything but facts",
            Family::default(),
        );
        let wasted = c.add(
            ("kvgossip_session_wasted", "counter", Some(Unit::Bytes), &[]),
            "Received bytes of facts that changed nothing here, including those of running sessions",
            Counter::default(),
        );
        let cloned_keys = c.add(
            ("kvgossip_cloned_replica_keys", "gauge", None, &[]),
            "Replica keys that two running processes use, this replica's own among them: a data directory was copied",
            Gauge::default(),
        );
        let standing = StandingMetrics::new(&mut c);
        let keys = c.add(
            ("kvgossip_keys", "gauge", None, &[]),
            "Keys that have entries, deletes included",
            Gauge::default(),
        );
        let long_keys = c.add(
            ("kvgossip_long_keys", "gauge", None, &[]),
            "Keys with more than 64 entries, up to 64 of them; `status` names them with the grant to revoke",
            Gauge::default(),
        );
        let longest_key = c.add(
            ("kvgossip_longest_key_entries", "gauge", None, &[]),
            "Entries of the longest of these keys; 0 without any",
            Gauge::default(),
        );
        let waiting = Waiting::new(&mut c);
        let clocks = ClockMetrics::new(&mut c);
        let guards = Guards::new(&mut c);
        let authority = c.add(
            ("kvgossip_authority_facts", "gauge", None, &["kind"]),
            "Live grants, revocations and floors",
            Family::default(),
        );
        let store_bytes = c.add(
            ("kvgossip_store", "gauge", Some(Unit::Bytes), &[]),
            "Size of the store's files on disk; 0 for a store in memory",
            Gauge::default(),
        );
        let http = c.add(
            ("kvgossip_http_requests", "counter", None, &["door", "route", "method", "status"]),
            "Requests of the HTTP API that were answered",
            Family::default(),
        );
        let http_seconds = c.add(
            ("kvgossip_http_request", "histogram", Some(Unit::Seconds), &["route"]),
            "Time from the head of a request to the head of its answer",
            Family::new_with_constructor(seconds as fn() -> Histogram),
        );
        let connections = c.add(
            ("kvgossip_http_connections", "gauge", None, &["door"]),
            "Connections of the HTTP API that are open",
            Family::default(),
        );
        let turned_away = c.add(
            ("kvgossip_http_connections_turned_away", "counter", None, &["door"]),
            "Connections that found no room",
            Family::default(),
        );
        let doors = Doors::new(&mut c);
        let watchers = c.add(
            ("kvgossip_watchers", "gauge", None, &[]),
            "Streams of /v1/watch that are open; a subscribed client holds one, for a moment two",
            Gauge::default(),
        );
        let gossip = GossipMetrics::new(&mut c);
        let process = process::Process::new(&mut c);
        // Alarms on growth miss a counter that appears with a value: counters that alarms use exist from the start.
        for door in ["tcp", "socket"] {
            drop(turned_away.get_or_create(&Door { door }));
        }
        for labels in Session::failures() {
            drop(sessions.get_or_create(&labels));
        }
        for labels in Fact::refusals() {
            drop(facts.get_or_create(&labels));
        }
        let (registry, catalog) = c.finish();
        Self(Arc::new(All {
            registry,
            catalog,
            facts,
            commit,
            queue,
            sessions,
            session_seconds,
            session_bytes,
            wasted,
            cloned_keys,
            standing,
            keys,
            long_keys,
            longest_key,
            waiting,
            clocks,
            guards,
            authority,
            store_bytes,
            http,
            http_seconds,
            connections,
            turned_away,
            doors,
            watchers,
            gossip,
            process,
        }))
    }

    /// Returns the descriptions of all metrics, in scrape order.
    pub fn catalog(&self) -> &[MetricInfo] {
        &self.0.catalog
    }

    pub(crate) fn commit(&self) -> CommitMetrics {
        self.0.commit.clone()
    }

    pub(crate) fn facts(&self, from: &str, verdicts: &[Verdict]) {
        let source = if from == "put" { "put" } else { "peer" };
        // Nearly always all verdicts of a batch are alike.
        for same in verdicts.chunk_by(|a, b| a == b) {
            let (Some(verdict), count) = (same.first(), same.len()) else { continue };
            let code = verdict.code().map_or("", kvgossip_grants::Code::as_str);
            let fact = Fact { source, verdict: verdict.as_str(), code };
            self.0.facts.get_or_create(&fact).inc_by(count as u64);
        }
    }

    pub(crate) fn session(&self, report: &SyncReport) {
        let all = &self.0;
        all.sessions.get_or_create(&Session::of(report)).inc();
        all.session_seconds.observe(Duration::from_micros(report.took_us).as_secs_f64());
    }

    /// Adds the bytes that a session has transferred since `before`.
    pub(crate) fn session_bytes(&self, before: &Tally, now: &Tally) {
        let all = &self.0;
        all.wasted.inc_by(now.waste.saturating_sub(before.waste));
        let directions = [("sent", &before.sent, &now.sent), ("received", &before.received, &now.received)];
        for (direction, before, now) in directions {
            let kinds = [
                ("overhead", before.overhead, now.overhead),
                ("authority", before.authority, now.authority),
                ("entries", before.entries, now.entries),
            ];
            for (kind, before, now) in kinds {
                let more = now.saturating_sub(before);
                all.session_bytes.get_or_create(&Bytes { direction, kind }).inc_by(more);
            }
        }
    }

    pub(crate) fn request(&self, request: &Http, took: Duration) {
        self.0.http.get_or_create(request).inc();
        let route = Route { route: request.route.clone() };
        self.0.http_seconds.get_or_create(&route).observe(took.as_secs_f64());
    }

    pub(crate) fn connection_opened(&self, door: &'static str) {
        self.0.connections.get_or_create(&Door { door }).inc();
    }

    pub(crate) fn connection_closed(&self, door: &'static str) {
        self.0.connections.get_or_create(&Door { door }).dec();
    }

    pub(crate) fn turned_away(&self, door: &'static str) {
        self.0.turned_away.get_or_create(&Door { door }).inc();
    }

    pub(crate) fn connection_felled(&self, door: &'static str) {
        self.0.doors.felled(door);
    }

    /// Sets the metric of how many bytes of a pool the clients of a door hold.
    pub(crate) fn http_held(&self, door: &'static str, pool: &'static str, bytes: usize) {
        self.0.doors.held(door, pool, bytes);
    }

    pub(crate) fn session_opened(&self, cause: SessionCause) {
        self.0.gossip.session_opened(cause);
    }

    /// Records a run of an event handler; `ok`: the command succeeded.
    pub(crate) fn handler_ran(&self, ok: bool) {
        self.0.gossip.handlers(if ok { "ok" } else { "failed" }, 1);
    }

    /// Records events that were dropped because a handler is too slow.
    pub(crate) fn handlers_dropped(&self, count: u64) {
        self.0.gossip.handlers("dropped", count);
    }

    /// Records a survey: this replica asked members for their root digests.
    pub(crate) fn survey(&self) {
        self.0.gossip.survey();
    }

    /// Records an answer to a survey from a member whose root digest differs.
    pub(crate) fn survey_answer(&self) {
        self.0.gossip.survey_answer();
    }

    /// Returns all metrics in the OpenMetrics text format.
    pub(crate) fn text(&self, holdings: &Holdings) -> Result<String, fmt::Error> {
        let all = &self.0;
        set(&all.keys, holdings.keys);
        set(&all.long_keys, holdings.long_keys);
        set(&all.longest_key, holdings.longest_key);
        set(&all.queue, holdings.waiting);
        set(&all.store_bytes, holdings.store_bytes);
        set(&all.watchers, holdings.watchers);
        for (kind, count) in ["grant", "revocation", "floor"].into_iter().zip(holdings.authority) {
            set(&all.authority.get_or_create(&Kind { kind }), count);
        }
        set(&all.cloned_keys, holdings.cloned_keys);
        all.standing.refresh(&holdings.standing);
        all.waiting.refresh(&holdings.early);
        all.clocks.refresh(&holdings.clocks);
        all.guards.refresh(holdings);
        all.gossip.refresh(&holdings.gossip);
        all.process.refresh(holdings.started_at_us);
        let mut text = String::new();
        encode(&mut text, &all.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn set(gauge: &Gauge, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}

/// A gauge of floating-point values.
type Fraction = Gauge<f64, AtomicU64>;
