//! What members of a cluster send to each other, and what of it is lost.

use crate::node::{MEMBERS, NEAR, Place};
use kvgossip_testkit::serf::rpc::Client;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// 50 events a second.
const BETWEEN_EVENTS: Duration = Duration::from_millis(20);
/// 5 queries a second.
const BETWEEN_QUERIES: Duration = Duration::from_millis(200);
/// How long members may take to answer a query.
const QUERY: Duration = Duration::from_secs(3);
/// A run without any loss has no room for chance: so many of 1,000 may be lost beyond what Serf's agents lose.
const CHANCE_PER_MILLE: f64 = 1.0;

/// An event or a query: when, and who sent it.
struct Sent {
    when: Instant,
    by: usize,
    /// Who has acknowledged a query.
    acks: BTreeSet<String>,
}

/// The events and queries of a cluster.
pub(crate) struct Traffic {
    pub(crate) places: Vec<Arc<Place>>,
    /// By their numbers; none for those of which the sender may not have heard.
    events: Mutex<Vec<Option<Sent>>>,
    queries: Mutex<Vec<Sent>>,
    is_over: AtomicBool,
}

impl Traffic {
    pub(crate) fn new(places: Vec<Arc<Place>>) -> Arc<Self> {
        let (events, queries) = Default::default();
        Arc::new(Self { places, events, queries, is_over: AtomicBool::new(false) })
    }

    /// Sends among the members until it is stopped.
    pub(crate) fn start(self: &Arc<Self>) {
        tokio::spawn(self.clone().send_events());
        tokio::spawn(self.clone().send_queries());
    }

    pub(crate) fn stop(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// The next member that can send something.
    fn sender(&self, number: usize) -> usize {
        let mut order = (0..MEMBERS).map(|next| (number + next) % MEMBERS);
        order.find(|member| !self.places[*member].is_away()).expect("the first is always there")
    }

    /// Sends events, each time from another member, until it is over.
    async fn send_events(self: Arc<Self>) {
        let mut clients: Vec<Option<Client>> = (0..MEMBERS).map(|_| None).collect();
        let mut pace = tokio::time::interval(BETWEEN_EVENTS);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for number in 0.. {
            pace.tick().await;
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let (by, when) = (self.sender(number), Instant::now());
            let send = async {
                if clients[by].is_none() {
                    clients[by] = Client::connect(&self.places[by].rpc.address).await;
                }
                clients[by].as_mut()?.send_event("churn", (number as u64).to_be_bytes().to_vec()).await
            };
            let sent = tokio::time::timeout(QUERY, send).await.ok().flatten();
            if sent.is_none() {
                clients[by] = None;
            }
            let sent = sent.map(|()| Sent { when, by, acks: BTreeSet::new() });
            self.events.lock().expect("unpoisoned").push(sent);
        }
    }

    /// Asks everybody, each time from another member, until it is over.
    async fn send_queries(self: Arc<Self>) {
        let mut pace = tokio::time::interval(BETWEEN_QUERIES);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for number in 0.. {
            pace.tick().await;
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let (traffic, by, when) = (self.clone(), self.sender(number), Instant::now());
            tokio::spawn(async move {
                let ask = async {
                    Client::connect(&traffic.places[by].rpc.address).await?.acks("who", QUERY).await
                };
                if let Ok(Some(acks)) = tokio::time::timeout(QUERY + NEAR, ask).await {
                    traffic.queries.lock().expect("unpoisoned").push(Sent { when, by, acks });
                }
            });
        }
    }

    /// What should have arrived and what did not, of events and of acks.
    pub(crate) fn losses(&self) -> [Losses; 2] {
        let mut losses = [Losses::default(); 2];
        let heard: Vec<_> = self.places.iter().map(|place| place.heard.lock().expect("unpoisoned")).collect();
        let events = self.events.lock().expect("unpoisoned");
        let queries = self.queries.lock().expect("unpoisoned");
        let there = |sent: &Sent| {
            let is_there = |member: &usize| self.places[*member].was_there(sent.when);
            let all = is_there(&sent.by).then(|| (0..MEMBERS).filter(is_there));
            all.into_iter().flatten().collect::<Vec<_>>()
        };
        for (number, sent) in events.iter().enumerate() {
            for member in sent.iter().flat_map(there) {
                losses[0].count(heard[member].contains(&(number as u64)));
            }
        }
        for sent in queries.iter() {
            for member in there(sent) {
                losses[1].count(sent.acks.contains(&self.places[member].name));
            }
        }
        losses
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Losses {
    pub(crate) expected: usize,
    lost: usize,
}

impl Losses {
    fn count(&mut self, arrived: bool) {
        self.expected += 1;
        self.lost += usize::from(!arrived);
    }

    /// Whether no larger part was lost than at Serf's agents and a fifth more, but for chance.
    pub(crate) fn is_no_more_than(self, serf: Self) -> bool {
        // As if as much had been sent in both.
        let serf_lost = serf.lost as f64 * self.expected as f64 / serf.expected.max(1) as f64;
        let (lost, room) = (self.lost as f64, self.expected as f64 / 1_000.0 * CHANCE_PER_MILLE);
        // Counts of what happens rarely and at random differ by their roots.
        lost <= serf_lost * 1.2 + 3.0 * (lost + serf_lost).sqrt() + room
    }
}
