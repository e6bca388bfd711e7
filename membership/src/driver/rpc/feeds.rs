//! Feeds that continue after the reply: event streams, answers to queries, log lines.

use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    io,
    net::SocketAddr,
    sync::Arc,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::writer::Writer;
use crate::{
    core::{Event, Query},
    driver::{Answer, Answers},
    rpc::{
        Coalesced,
        message::{Bin, LogRecord, Member, MemberEvent, QueryEvent, QueryRecord, UserEvent},
        reply_with,
    },
    wire::field::Field,
};

/// Receiver that ends a feed when its sender is dropped.
type Stopped = oneshot::Receiver<()>;

/// Subscriptions of one connection, by the numbers of their requests. Dropping the value ends all
/// subscriptions.
pub(super) struct Feeds {
    tasks: JoinSet<(u64, io::Result<()>)>,
    stops: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Feeds {
    pub(super) fn new() -> Self {
        Self { tasks: JoinSet::new(), stops: BTreeMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.stops.len()
    }

    pub(super) fn contains(&self, seq: u64) -> bool {
        self.stops.contains_key(&seq)
    }

    /// Starts a feed under the number `seq` of the request that asked for it.
    pub(super) fn start<F>(&mut self, seq: u64, feed: impl FnOnce(Stopped) -> F)
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let feed = feed(stopped);
        self.stops.insert(seq, stop);
        self.tasks.spawn(async move { (seq, feed.await) });
    }

    /// Waits until any feed ends; forever if there is none. An error means that the connection cannot be used
    /// any more.
    pub(super) async fn ended(&mut self) -> io::Result<()> {
        match self.tasks.join_next().await {
            Some(Ok((seq, result))) => {
                self.stops.remove(&seq);
                result
            }
            Some(Err(_)) => Err(io::Error::other("a subscription ended unexpectedly")),
            None => std::future::pending().await,
        }
    }

    /// Ends the feed of the request number `seq`. The feed writes nothing after this returns.
    pub(super) async fn stop(&mut self, seq: u64) -> io::Result<()> {
        if let Some(stop) = self.stops.get_mut(&seq) {
            // Replaced rather than removed, so that the number stays in use until the task has ended.
            drop(std::mem::replace(stop, oneshot::channel().0));
            while self.contains(seq) {
                self.ended().await?;
            }
        }
        Ok(())
    }
}

/// Queries that were sent to a client, for the client's `respond` requests; at most `most`.
#[derive(Clone)]
pub(super) struct Asked {
    inner: Arc<Mutex<Numbered>>,
    most: usize,
}

/// Most recent queries sent to a client, each with a number that is unique in the connection.
#[derive(Default)]
struct Numbered {
    last: u64,
    queries: VecDeque<(u64, Query)>,
}

impl Asked {
    pub(super) fn new(most: usize) -> Self {
        Self { inner: Arc::default(), most: most.max(1) }
    }

    fn remember(&self, query: Query) -> u64 {
        let mut inner = self.inner.lock();
        inner.last += 1;
        if inner.queries.len() >= self.most {
            inner.queries.pop_front();
        }
        let id = inner.last;
        inner.queries.push_back((id, query));
        id
    }

    pub(super) fn find(&self, id: u64) -> Option<Query> {
        let inner = self.inner.lock();
        inner.queries.iter().find(|(own, _)| *own == id).map(|(_, query)| query.clone())
    }
}

/// Event stream of a client: writes the events that its filter selects.
pub(super) struct EventFeed {
    pub(super) seq: u64,
    pub(super) client: SocketAddr,
    pub(super) writer: Writer,
    pub(super) asked: Asked,
    pub(super) events: mpsc::Receiver<Coalesced>,
}

impl EventFeed {
    pub(super) async fn run(mut self, mut stopped: Stopped) -> io::Result<()> {
        loop {
            let record = tokio::select! {
                biased;
                _ = &mut stopped => return Ok(()),
                record = self.events.recv() => record,
            };
            // The member has ended; end the connection too, so that the client notices.
            let record = record.ok_or(io::ErrorKind::ConnectionAborted)?;
            if let Coalesced::Lagged { dropped } = record {
                tracing::warn!(client = %self.client, dropped, "events for an RPC client were thrown away: it does not read in time");
            } else if let Some(record) = self.record(record) {
                self.writer.send(&record).await?;
            }
        }
    }

    fn record(&self, record: Coalesced) -> Option<Vec<u8>> {
        Some(match record {
            Coalesced::Members { kind, members } => {
                let members = members.iter().map(Member::from).collect::<Vec<_>>().into();
                self.bytes(&MemberEvent { event: kind.into(), members })
            }
            Coalesced::Event(Event::UserEvent { ltime, name, payload, coalesce }) => {
                let event = "user".into();
                self.bytes(&UserEvent { coalesce, event, ltime, name, payload: some(payload) })
            }
            Coalesced::Event(Event::Query(query)) => {
                let (ltime, name, payload) = (query.id.ltime, query.name.clone(), query.payload.clone());
                let (event, id) = ("query".into(), self.asked.remember(query));
                self.bytes(&QueryEvent { event, id, ltime, name, payload: some(payload) })
            }
            _ => return None,
        })
    }

    fn bytes(&self, record: &impl Field) -> Vec<u8> {
        reply_with(self.seq, "", record)
    }
}

/// Encodes a payload as Serf's agents do: nil if it is empty.
fn some(payload: Vec<u8>) -> Bin {
    Bin((!payload.is_empty()).then_some(payload))
}

/// Writes the answers to a query to the client as they arrive, and a record when the query ends.
pub(super) async fn answers(
    seq: u64,
    writer: Writer,
    mut answers: Answers,
    mut stopped: Stopped,
) -> io::Result<()> {
    loop {
        let answer = tokio::select! {
            biased;
            _ = &mut stopped => return Ok(()),
            answer = answers.next() => answer,
        };
        let is_done = answer.is_none();
        let record = match answer {
            Some(Answer::Ack(from)) => QueryRecord { kind: "ack".into(), from, ..QueryRecord::default() },
            Some(Answer::Response { from, payload }) => {
                QueryRecord { kind: "response".into(), from, payload: payload.into() }
            }
            None => QueryRecord { kind: "done".into(), ..QueryRecord::default() },
        };
        writer.send(&reply_with(seq, "", &record)).await?;
        if is_done {
            return Ok(());
        }
    }
}

/// Writes log lines to the client as they arrive.
pub(super) async fn lines(
    seq: u64,
    writer: Writer,
    mut lines: mpsc::Receiver<Arc<str>>,
    mut stopped: Stopped,
) -> io::Result<()> {
    loop {
        let line = tokio::select! {
            biased;
            _ = &mut stopped => return Ok(()),
            line = lines.recv() => line,
        };
        let Some(line) = line else { return Ok(()) };
        writer.send(&reply_with(seq, "", &LogRecord { log: (&*line).into() })).await?;
    }
}
