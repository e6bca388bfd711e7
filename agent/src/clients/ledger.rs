//! The accounts of one door: what each connection holds, and which one has to end when a limit is reached. It has no
//! clock, socket or lock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// A limited resource, counted per source and in total by what is actually held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pool {
    /// Connections with a regular place; those in the reserve do not count.
    Connections,
    /// Bytes of request bodies that have arrived and are still in use.
    Bodies,
    /// Bytes of large answers and events that are built but not yet read.
    Answers,
    /// Bytes of the keys and filters of large watches.
    Interests,
}

impl Pool {
    pub(crate) const ALL: [Self; POOLS] = [Self::Connections, Self::Bodies, Self::Answers, Self::Interests];

    /// Returns the pool's name in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Bodies => "bodies",
            Self::Answers => "answers",
            Self::Interests => "interests",
        }
    }
}

const POOLS: usize = 4;

/// One amount for each pool, at the pool's index in [`Pool::ALL`].
type Amounts = [usize; POOLS];

/// Id of a connection, ascending in the order of opening.
pub(super) type ClientId = u64;

/// The origin of a connection. All addresses of an IPv6 /64 are one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// The Unix socket: all its connections are one source.
    Socket,
    /// An IPv4 address, or the /64 prefix of an IPv6 address.
    Address(IpAddr),
}

impl Source {
    pub(crate) fn of(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// What a connection waits for or does, which decides whether it may be asked to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The connection waits for its client to send a request or read an answer.
    Waiting,
    /// The agent works on a request of the connection.
    Working,
    /// The connection carries the stream of a watcher.
    Streaming,
}

/// The classes of connections that may be asked to close when another needs room; those of the first class close first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// The connection waits for its client; the one with the longest wait closes first.
    Waiting,
    /// The client of the connection does not read; the one with the longest stall closes first.
    Stalled,
    /// A watcher whose source holds more than twice what the asking source would hold; the youngest closes first.
    Outweighed,
    /// A new connection whose source does not hold more than twice what the asking source would: its request may be in
    /// transit.
    Young,
}

/// Age below which a waiting connection is [`Standing::Young`]: enough for a TLS handshake over a long distance.
const YOUTH: Duration = Duration::from_secs(2);

/// The result of asking for an amount of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// The asking connection holds the amount now.
    Granted,
    /// Not granted yet: another connection is about to end, or may have to soon. The asking connection asks again.
    Later,
    /// Not granted: no other connection may be closed for it, or the asking connection was itself asked to close.
    Refused,
}

/// The limits on the connections of one door.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// Maximum total amount per pool. One source gets at most three quarters, so that other sources find room at once.
    pub(super) pools: Amounts,
    /// Number of places in addition to those of the connection pool, for one short request each. If all are taken, a
    /// new connection there ends the oldest one.
    pub(super) reserve: usize,
    /// Number of connections asked to close and still open, in addition to all regular and reserve places, that new
    /// connections need not wait for.
    pub(super) ending: usize,
    /// Time after which a client that does not read pending data may be asked to close.
    pub(super) stall: Duration,
}

#[derive(Debug)]
struct Client {
    source: Source,
    in_reserve: bool,
    phase: Phase,
    /// Start of the phase. Waiting connections are asked to close from the earliest start on, watchers from the latest
    /// on.
    since: Duration,
    stalled_since: Option<Duration>,
    held: Amounts,
    /// Whether the connection was asked to close. It still holds its amounts until it ends.
    leaves: bool,
}

#[derive(Debug, Default)]
struct Sums {
    held: Amounts,
    /// The part of `held`, per pool, that belongs to connections asked to close.
    leaving: Amounts,
}

/// The connections of one door and all that they hold. Times are durations since any fixed moment.
#[derive(Debug)]
pub(super) struct Ledger {
    limits: Limits,
    clients: BTreeMap<ClientId, Client>,
    /// Sources whose connections hold something, with the sums of what they hold.
    sources: HashMap<Source, Sums>,
    all: Sums,
    in_reserve: usize,
    /// Connections that wait for room for answers: an ascending ticket, and the amount asked for.
    queue: BTreeMap<ClientId, (u64, usize)>,
    /// Connections that were chosen to close and not yet asked to close.
    felled: Vec<ClientId>,
    last: u64,
}

impl Ledger {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            clients: BTreeMap::new(),
            sources: HashMap::new(),
            all: Sums::default(),
            in_reserve: 0,
            queue: BTreeMap::new(),
            felled: Vec::new(),
            last: 0,
        }
    }

    /// Adds a connection; returns its id and whether its place is in the reserve.
    pub(super) fn open(&mut self, source: Source, now: Duration) -> (ClientId, bool) {
        self.last += 1;
        let id = self.last;
        let in_reserve = self.make_room(Pool::Connections, id, source, 1, now) != Room::Granted;
        let client = Client {
            source,
            in_reserve,
            phase: Phase::Waiting,
            since: now,
            stalled_since: None,
            held: [0; POOLS],
            leaves: false,
        };
        self.clients.insert(id, client);
        if in_reserve {
            self.in_reserve += 1;
            if self.in_reserve > self.limits.reserve {
                let mut staying =
                    self.clients.iter().filter(|(_, client)| client.in_reserve && !client.leaves);
                let oldest = staying.next().map(|(id, _)| *id);
                oldest.into_iter().for_each(|oldest| self.fell(oldest));
            }
        } else {
            self.add(id, Pool::Connections, 1);
        }
        (id, in_reserve)
    }

    /// Removes a connection that has ended, and releases all that it held.
    pub(super) fn close(&mut self, id: ClientId) {
        self.queue.remove(&id);
        let Some(client) = self.clients.get(&id) else { return };
        if client.in_reserve && !client.leaves {
            self.in_reserve -= 1;
        }
        let held = client.held;
        for pool in Pool::ALL {
            self.sub(id, pool, held[pool as usize]);
        }
        self.clients.remove(&id);
    }

    /// Takes out the connections that were chosen to close since the last call; the caller asks them to close.
    pub(super) fn take_felled(&mut self) -> Vec<ClientId> {
        std::mem::take(&mut self.felled)
    }

    /// Sets the phase of a connection, and the start of that phase.
    pub(super) fn turn(&mut self, id: ClientId, phase: Phase, since: Duration) {
        if let Some(client) = self.clients.get_mut(&id) {
            (client.phase, client.since) = (phase, since);
        }
    }

    /// Sets the time since when a write to the client of a connection is blocked; `None`: it makes progress.
    pub(super) fn stalled(&mut self, id: ClientId, since: Option<Duration>) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.stalled_since = since;
        }
    }

    /// Asks for an amount of a pool. If several connections wait for room for answers, the source that holds least of
    /// that pool comes first; within one source, the earliest request.
    pub(super) fn take(&mut self, id: ClientId, pool: Pool, amount: usize, now: Duration) -> Room {
        let Some(client) = self.clients.get(&id).filter(|client| !client.leaves) else {
            return Room::Refused;
        };
        let source = client.source;
        if pool == Pool::Answers {
            self.last += 1;
            let ticket = self.last;
            self.queue.entry(id).or_insert((ticket, amount)).1 = amount;
            if self.first_in_line() != Some(id) {
                return Room::Later;
            }
        }
        let room = self.make_room(pool, id, source, amount, now);
        if room == Room::Granted {
            self.add(id, pool, amount);
        }
        if room != Room::Later {
            self.queue.remove(&id);
        }
        room
    }

    /// Takes room for an answer of `amount` bytes, if it is free and no connection waits for room. Returns whether it
    /// did.
    pub(super) fn take_now(&mut self, id: ClientId, amount: usize) -> bool {
        let Some(client) = self.clients.get(&id).filter(|client| !client.leaves) else { return false };
        let fits = self.queue.is_empty() && self.excess(Pool::Answers, client.source, amount) == (0, 0);
        if fits {
            self.add(id, Pool::Answers, amount);
        }
        fits
    }

    /// Ends the wait of a connection for room for an answer.
    pub(super) fn give_up(&mut self, id: ClientId) {
        self.queue.remove(&id);
    }

    /// Releases an amount of a pool that a connection holds.
    pub(super) fn give_back(&mut self, id: ClientId, pool: Pool, amount: usize) {
        let held = self.clients.get(&id).map_or(0, |client| client.held[pool as usize]);
        debug_assert!(held >= amount, "{id} gives back more than it holds");
        self.sub(id, pool, amount.min(held));
    }

    /// Returns the connection to try next among those that wait for room for an answer; `None`: none waits.
    pub(super) fn first_in_line(&self) -> Option<ClientId> {
        let weight = |id: &ClientId| {
            let source = self.clients.get(id)?.source;
            Some(self.sources.get(&source).map_or(0, |sums| sums.held[Pool::Answers as usize]))
        };
        let waiting =
            self.queue.iter().map(|(id, (ticket, _))| (weight(id).unwrap_or(usize::MAX), *ticket, *id));
        waiting.min().map(|(_, _, id)| id)
    }

    /// Whether the maximum number of connections is reached, those asked to close included. Then one of the latter is
    /// about to end.
    pub(super) fn is_crowded(&self) -> bool {
        let limits = &self.limits;
        self.clients.len() >= limits.pools[Pool::Connections as usize] + limits.reserve + limits.ending
    }

    /// Returns the number of a source's connections that have a regular place and were not asked to close.
    pub(super) fn staying(&self, source: Source) -> usize {
        let place = Pool::Connections as usize;
        self.sources.get(&source).map_or(0, |sums| sums.held[place] - sums.leaving[place])
    }

    /// Returns the amount of a pool that all connections of the door hold.
    pub(super) fn held(&self, pool: Pool) -> usize {
        self.all.held[pool as usize]
    }

    fn add(&mut self, id: ClientId, pool: Pool, amount: usize) {
        let (place, Some(client)) = (pool as usize, self.clients.get_mut(&id)) else { return };
        client.held[place] += amount;
        self.all.held[place] += amount;
        self.sources.entry(client.source).or_default().held[place] += amount;
    }

    fn sub(&mut self, id: ClientId, pool: Pool, amount: usize) {
        let (place, Some(client)) = (pool as usize, self.clients.get_mut(&id)) else { return };
        client.held[place] -= amount;
        let Some(of_source) = self.sources.get_mut(&client.source) else { return };
        for sums in [&mut self.all, of_source] {
            sums.held[place] -= amount;
            if client.leaves {
                sums.leaving[place] -= amount;
            }
        }
        if of_source.held == [0; POOLS] {
            self.sources.remove(&client.source);
        }
    }

    /// Marks a connection to be asked to close: what it holds will become free.
    fn fell(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id).filter(|client| !client.leaves) else { return };
        client.leaves = true;
        self.queue.remove(&id);
        if client.in_reserve {
            self.in_reserve -= 1;
        }
        let of_source = self.sources.get_mut(&client.source);
        for sums in of_source.into_iter().chain([&mut self.all]) {
            for (leaving, held) in sums.leaving.iter_mut().zip(client.held) {
                *leaving += held;
            }
        }
        self.felled.push(id);
    }

    /// Returns by how much `amount` more would exceed a pool's limit: in total, and for the source.
    fn excess(&self, pool: Pool, source: Source, amount: usize) -> (usize, usize) {
        let (place, limit) = (pool as usize, self.limits.pools[pool as usize]);
        let of_source = self.sources.get(&source).map_or(0, |sums| sums.held[place]);
        let share = limit - limit / 4;
        ((self.all.held[place] + amount).saturating_sub(limit), (of_source + amount).saturating_sub(share))
    }

    /// Checks whether `amount` more fits; if not, chooses connections to close, in the order of [`Standing`].
    fn make_room(&mut self, pool: Pool, id: ClientId, source: Source, amount: usize, now: Duration) -> Room {
        let place = pool as usize;
        loop {
            let (in_all, at_source) = self.excess(pool, source, amount);
            if (in_all, at_source) == (0, 0) {
                return Room::Granted;
            }
            let leaving_at_source = self.sources.get(&source).map_or(0, |sums| sums.leaving[place]);
            let enough_leave = in_all <= self.all.leaving[place] && at_source <= leaving_at_source;
            if enough_leave {
                // A new connection is served when the other one has ended; bytes have to be waited for.
                return if pool == Pool::Connections { Room::Granted } else { Room::Later };
            }
            let only_source = at_source > leaving_at_source;
            match self.next_victim(pool, source, amount, only_source, now) {
                Some(victim) if victim == id => return Room::Refused,
                Some(victim) => self.fell(victim),
                // A client that does not read may soon reach the stall limit; then its connection is asked to close.
                None if pool == Pool::Answers => return Room::Later,
                None => return Room::Refused,
            }
        }
    }

    /// Returns the connection to close for one of `source`: of the first class in [`Standing`], from the source that
    /// holds most. No source displaces one that holds less. `None`: none may be closed.
    fn next_victim(
        &self,
        pool: Pool,
        source: Source,
        amount: usize,
        only_source: bool,
        now: Duration,
    ) -> Option<ClientId> {
        let place = pool as usize;
        let weight = |source: &Source| {
            self.sources.get(source).map_or(0, |sums| sums.held[place] - sums.leaving[place])
        };
        let mine = weight(&source);
        let candidates = self.clients.iter().filter_map(|(id, client)| {
            let is_mine = client.source == source;
            if client.leaves || client.held[place] == 0 || (only_source && !is_mine) {
                return None;
            }
            let its = weight(&client.source);
            let outweighs = its > 2 * (mine + amount);
            let stalled = client.stalled_since.filter(|since| *since + self.limits.stall <= now);
            let (standing, since) = match (client.phase, stalled) {
                (Phase::Waiting, _)
                    if pool == Pool::Connections
                        && !outweighs
                        && now < client.since.saturating_add(YOUTH) =>
                {
                    (Standing::Young, client.since)
                }
                (Phase::Waiting, _) if matches!(pool, Pool::Connections | Pool::Bodies) => {
                    (Standing::Waiting, client.since)
                }
                (_, Some(since)) => (Standing::Stalled, since),
                (Phase::Streaming, None)
                    if matches!(pool, Pool::Connections | Pool::Interests) && outweighs =>
                {
                    (Standing::Outweighed, Duration::MAX.saturating_sub(client.since))
                }
                _ => return None,
            };
            (is_mine || its >= mine).then_some((standing, Reverse(its), since, *id))
        });
        candidates.min().map(|(.., id)| id)
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
