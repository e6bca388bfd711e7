//! Network of cores under virtual time.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Config, Core, Event, Status, StreamId, Transmit};
use crate::wire::Text;

const LATENCY: Duration = Duration::from_millis(1);

enum Delivery {
    Udp { from: usize, to: usize, payload: Vec<u8> },
    Connect { from: usize, stream: StreamId, to: usize, payload: Vec<u8> },
    Bytes { to: usize, stream: StreamId, payload: Vec<u8> },
    Closed { to: usize, stream: StreamId },
}

/// Returns whether the member of the first index reaches that of the second; the last argument is `true` for
/// TCP.
type Filter = Box<dyn Fn(usize, usize, bool) -> bool>;

pub(super) struct Sim {
    pub(super) now: Duration,
    /// Members by index; `None` if killed or not started.
    pub(super) cores: Vec<Option<Core>>,
    /// Events of each member, by its index, since the last [`Sim::take_events`].
    pub(super) events: Vec<Vec<Event>>,
    /// For each end of a connection, as member index and stream, the other end.
    ends: HashMap<(usize, StreamId), (usize, StreamId)>,
    queue: BTreeMap<(Duration, u64), Delivery>,
    seq: u64,
    rng: StdRng,
    /// Fraction of datagrams that are lost, from 0 to 1.
    pub(super) loss: f64,
    pub(super) reaches: Filter,
    /// Change applied to the configuration of every new member.
    pub(super) configure: fn(&mut Config),
}

pub(super) fn addr(index: usize) -> SocketAddr {
    let [.., high, low] = (index as u32).to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, 0, high, low), 7946))
}

pub(super) fn name(index: usize) -> Text {
    format!("m{index}").into()
}

fn index(addr: SocketAddr) -> usize {
    let SocketAddr::V4(v4) = addr else { return usize::MAX };
    let [_, _, high, low] = v4.ip().octets();
    usize::from(u16::from_be_bytes([high, low]))
}

impl Sim {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: Duration::ZERO,
            cores: Vec::new(),
            events: Vec::new(),
            ends: HashMap::new(),
            queue: BTreeMap::new(),
            seq: 0,
            rng: StdRng::seed_from_u64(seed),
            loss: 0.0,
            reaches: Box::new(|_, _, _| true),
            configure: |_| {},
        }
    }

    /// Adds a member that joins the running member of the lowest index. Returns its own index.
    pub(super) fn add(&mut self) -> usize {
        let index = self.cores.len();
        self.cores.push(None);
        self.events.push(Vec::new());
        self.start(index, |_| {});
        index
    }

    /// Starts or restarts the member of that index, which joins the running member of the lowest other index.
    pub(super) fn start(&mut self, index: usize, adapt: impl FnOnce(&mut Config)) {
        self.start_alone(index, adapt);
        let first = (0..self.cores.len()).find(|i| *i != index && self.cores[*i].is_some());
        if let Some(first) = first {
            self.act(index, |core, now| core.join(now, addr(first), true)).expect("nothing is under way");
        }
    }

    /// Starts or restarts the member of that index, which joins nobody.
    pub(super) fn start_alone(&mut self, index: usize, adapt: impl FnOnce(&mut Config)) {
        let mut config = Config::new(name(index), addr(index));
        config.framing.compress = false;
        (self.configure)(&mut config);
        adapt(&mut config);
        let core = Core::new(config, self.now, self.rng.random()).expect("a valid configuration");
        self.cores[index] = Some(core);
        self.collect(index);
    }

    pub(super) fn with_members(seed: u64, count: usize) -> Self {
        let mut sim = Self::new(seed);
        for _ in 0..count {
            sim.add();
            sim.run(Duration::from_millis(20));
        }
        sim
    }

    pub(super) fn core(&mut self, index: usize) -> &mut Core {
        self.cores[index].as_mut().expect("it lives")
    }

    /// Calls `act` on the member of that index at the current time, and processes the output.
    pub(super) fn act<T>(&mut self, index: usize, act: impl FnOnce(&mut Core, Duration) -> T) -> T {
        let now = self.now;
        let result = act(self.core(index), now);
        self.core(index).assert_consistent();
        self.collect(index);
        result
    }

    pub(super) fn kill(&mut self, index: usize) {
        self.cores[index] = None;
    }

    pub(super) fn take_events(&mut self, index: usize) -> Vec<Event> {
        std::mem::take(&mut self.events[index])
    }

    /// Returns the status of the member `of` as seen by the member `viewer`; `None` if unknown there.
    pub(super) fn status(&mut self, viewer: usize, of: usize) -> Option<Status> {
        self.core(viewer).member(name(of)).map(|member| member.status)
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs the simulation until `done`; panics if that takes longer than `limit`. Returns the simulated time
    /// it took.
    pub(super) fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> Duration {
        let start = self.now;
        while !done(self) {
            assert!(self.now < start + limit, "not reached within {limit:?}");
            self.run(Duration::from_millis(50));
        }
        self.now - start
    }

    fn step(&mut self, end: Duration) -> bool {
        let timers = self.cores.iter().enumerate();
        let timer = timers.filter_map(|(i, core)| Some((core.as_ref()?.poll_timeout()?, i))).min();
        let delivery = self.queue.first_key_value().map(|((at, _), _)| *at);
        match (timer, delivery) {
            (Some((at, index)), delivery) if at <= end && delivery.is_none_or(|other| at <= other) => {
                self.now = self.now.max(at);
                self.act(index, Core::handle_timeout);
            }
            (_, Some(at)) if at <= end => {
                self.now = self.now.max(at);
                if let Some((_, delivery)) = self.queue.pop_first() {
                    self.deliver(delivery);
                }
            }
            _ => return false,
        }
        true
    }

    fn deliver(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Udp { from, to, payload } => {
                if self.cores.get(to).is_some_and(Option::is_some) {
                    self.act(to, |core, now| core.handle_udp(now, addr(from), &payload));
                }
            }
            Delivery::Connect { from, stream, to, payload } => self.connect(from, stream, to, &payload),
            Delivery::Bytes { to, stream, payload } => {
                if self.cores[to].is_some() {
                    self.act(to, |core, now| core.handle_stream(now, stream, &payload));
                }
            }
            Delivery::Closed { to, stream } => {
                if self.cores[to].is_some() {
                    self.act(to, |core, now| core.handle_stream_closed(now, stream, None));
                }
            }
        }
    }

    fn connect(&mut self, from: usize, stream: StreamId, to: usize, payload: &[u8]) {
        let accepted = match self.cores.get(to) {
            Some(Some(_)) => self.act(to, |core, now| core.accept(now, addr(from))),
            _ => None,
        };
        let Some(other) = accepted else { return self.later(Delivery::Closed { to: from, stream }) };
        self.ends.insert((from, stream), (to, other));
        self.ends.insert((to, other), (from, stream));
        // In two parts, because a message may arrive in pieces.
        let (head, tail) = payload.split_at(payload.len() / 2);
        self.act(to, |core, now| core.handle_stream(now, other, head));
        self.act(to, |core, now| core.handle_stream(now, other, tail));
    }

    fn later(&mut self, delivery: Delivery) {
        self.seq += 1;
        self.queue.insert((self.now + LATENCY, self.seq), delivery);
    }

    /// Processes all transmissions and events of the member `from`.
    fn collect(&mut self, from: usize) {
        let Some(core) = self.cores[from].as_mut() else { return };
        let transmits: VecDeque<_> = std::iter::from_fn(|| core.poll_transmit()).collect();
        self.events[from].extend(std::iter::from_fn(|| core.poll_event()));
        for transmit in transmits {
            self.send(from, transmit);
        }
    }

    fn send(&mut self, from: usize, transmit: Transmit) {
        match transmit {
            Transmit::Udp { to, payload } => {
                let to = index(to);
                assert!(payload.len() <= super::PACKET_SIZE, "a packet of {} bytes", payload.len());
                if (self.reaches)(from, to, false) && self.rng.random::<f64>() >= self.loss {
                    self.later(Delivery::Udp { from, to, payload });
                }
            }
            Transmit::Connect { stream, to, payload } => {
                let to = index(to);
                if (self.reaches)(from, to, true) {
                    self.later(Delivery::Connect { from, stream, to, payload });
                }
            }
            Transmit::Reply { stream, payload } => {
                if let Some((to, other)) = self.ends.remove(&(from, stream)) {
                    self.later(Delivery::Bytes { to, stream: other, payload });
                    self.later(Delivery::Closed { to, stream: other });
                }
            }
            Transmit::Close { stream } => {
                if let Some((to, other)) = self.ends.remove(&(from, stream)) {
                    self.later(Delivery::Closed { to, stream: other });
                }
            }
        }
    }
}
