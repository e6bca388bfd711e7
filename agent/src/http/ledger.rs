//! Who holds what of one door, and who gives way when something is full. Knows no clock, no socket and no lock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// What is limited. Each is counted as it is really held, for each source and in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pool {
    /// Connections.
    Connections,
    /// Bytes of request bodies that have arrived and are not done with.
    Bodies,
    /// Bytes of large answers and events that are made or not read yet.
    Answers,
    /// Bytes of large watches: their keys and filters.
    Interests,
}

impl Pool {
    pub(crate) const ALL: [Self; POOLS] = [Self::Connections, Self::Bodies, Self::Answers, Self::Interests];

    /// As it stands in metrics.
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

/// An amount of each pool.
type Amounts = [usize; POOLS];

/// Names a connection.
pub(super) type ClientId = u64;

/// Where a connection comes from. Whoever has an IPv6 address has the 2^64 beside it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// The Unix socket.
    Socket,
    /// An address of version 4, or the first 64 bits of one of version 6.
    Address(IpAddr),
}

impl Source {
    pub(super) fn of(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The client has to send or to read something.
    Waiting,
    /// The agent works on a request.
    Working,
    /// The agent tells what changes.
    Streaming,
}

/// Which connections a request for room can end, the first ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// Its client has to do something, the one that has had the longest time first.
    Waiting,
    /// Its client does not read, the one that has not read for the longest time first.
    Stalled,
    /// It watches, and its source holds more than twice what the other one would; the youngest first.
    Outweighed,
    /// It has only just come, from a source that has no more than others: its request may be on its way.
    Young,
}

/// Who waits for less than this may still be sending: a handshake of TLS over a long way takes no longer.
const YOUTH: Duration = Duration::from_secs(2);

/// What came of asking for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// It is held now.
    Granted,
    /// Not now: somebody gives way, or may have to soon.
    Later,
    /// Whoever asks has to give way itself.
    Refused,
}

/// The limits of one door.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// Of each pool, in all. One source has three quarters of it at most, so that others find room at once.
    pub(super) pools: Amounts,
    /// Connections beyond those, for one short request each: there the oldest always gives way to a new one.
    pub(super) reserve: usize,
    /// Connections that were told to end and have not yet, beyond all places: as many newcomers do not wait for them.
    pub(super) ending: usize,
    /// Who has not read anything for so long, though there was something to read, can be ended to make room.
    pub(super) stall: Duration,
}

#[derive(Debug)]
struct Client {
    source: Source,
    in_reserve: bool,
    phase: Phase,
    /// The longer ago, the sooner it gives way.
    since: Duration,
    stalled_since: Option<Duration>,
    held: Amounts,
    /// It was told to end, and still holds what it holds.
    leaves: bool,
}

#[derive(Debug, Default)]
struct Sums {
    held: Amounts,
    /// Of that, what is held by those that were told to end.
    leaving: Amounts,
}

/// The connections of one door with all that they hold. Time counts from any fixed moment.
#[derive(Debug)]
pub(super) struct Ledger {
    limits: Limits,
    clients: BTreeMap<ClientId, Client>,
    /// Those that hold something.
    sources: HashMap<Source, Sums>,
    all: Sums,
    in_reserve: usize,
    /// Who waits for room among answers: how much and since when, as a number that grows.
    queue: BTreeMap<ClientId, (u64, usize)>,
    /// Those that have to be told to end.
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

    /// A connection comes; gives its name, and whether it stands in the reserve.
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

    /// It has ended and holds nothing any more.
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

    /// Gives those that have to be told to end, each once.
    pub(super) fn take_felled(&mut self) -> Vec<ClientId> {
        std::mem::take(&mut self.felled)
    }

    /// It does something else from now on, or waits since another time.
    pub(super) fn turn(&mut self, id: ClientId, phase: Phase, since: Duration) {
        if let Some(client) = self.clients.get_mut(&id) {
            (client.phase, client.since) = (phase, since);
        }
    }

    /// A write to it has begun to wait, or goes on.
    pub(super) fn stalled(&mut self, id: ClientId, since: Option<Duration>) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.stalled_since = since;
        }
    }

    /// Asks for more of a pool. Among answers the source that holds least comes first, and there who asked first.
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

    /// Asks for room among answers that is there now, for nobody else waits for it.
    pub(super) fn take_now(&mut self, id: ClientId, amount: usize) -> bool {
        let Some(client) = self.clients.get(&id).filter(|client| !client.leaves) else { return false };
        let fits = self.queue.is_empty() && self.excess(Pool::Answers, client.source, amount) == (0, 0);
        if fits {
            self.add(id, Pool::Answers, amount);
        }
        fits
    }

    /// It does not wait any more.
    pub(super) fn give_up(&mut self, id: ClientId) {
        self.queue.remove(&id);
    }

    /// Gives some of a pool back.
    pub(super) fn give_back(&mut self, id: ClientId, pool: Pool, amount: usize) {
        let held = self.clients.get(&id).map_or(0, |client| client.held[pool as usize]);
        debug_assert!(held >= amount, "{id} gives back more than it holds");
        self.sub(id, pool, amount.min(held));
    }

    /// Who has to be tried next among those that wait for room.
    pub(super) fn first_in_line(&self) -> Option<ClientId> {
        let weight = |id: &ClientId| {
            let source = self.clients.get(id)?.source;
            Some(self.sources.get(&source).map_or(0, |sums| sums.held[Pool::Answers as usize]))
        };
        let waiting =
            self.queue.iter().map(|(id, (ticket, _))| (weight(id).unwrap_or(usize::MAX), *ticket, *id));
        waiting.min().map(|(_, _, id)| id)
    }

    /// Whether there are as many connections as there may be, those that were told to end included: then one is about to.
    pub(super) fn is_crowded(&self) -> bool {
        let limits = &self.limits;
        self.clients.len() >= limits.pools[Pool::Connections as usize] + limits.reserve + limits.ending
    }

    /// How many connections of a source have a place and were not told to end.
    pub(super) fn staying(&self, source: Source) -> usize {
        let place = Pool::Connections as usize;
        self.sources.get(&source).map_or(0, |sums| sums.held[place] - sums.leaving[place])
    }

    /// How much of a pool is held in all.
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

    /// It is told to end: what it holds will be free.
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

    /// How much there would be too much of a pool with `amount` more: in all, and at one source.
    fn excess(&self, pool: Pool, source: Source, amount: usize) -> (usize, usize) {
        let (place, limit) = (pool as usize, self.limits.pools[pool as usize]);
        let of_source = self.sources.get(&source).map_or(0, |sums| sums.held[place]);
        let share = limit - limit / 4;
        ((self.all.held[place] + amount).saturating_sub(limit), (of_source + amount).saturating_sub(share))
    }

    /// Whether `amount` more fits; if not, has others end, if that is due.
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
                // Who comes is served when the other one has ended; bytes are waited for.
                return if pool == Pool::Connections { Room::Granted } else { Room::Later };
            }
            let only_source = at_source > leaving_at_source;
            match self.next_victim(pool, source, amount, only_source, now) {
                Some(victim) if victim == id => return Room::Refused,
                Some(victim) => self.fell(victim),
                // Who does not read now may still not read in a moment.
                None if pool == Pool::Answers => return Room::Later,
                None => return Room::Refused,
            }
        }
    }

    /// Whose end would make room, the heaviest source's first. No source makes a lighter one give way.
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
