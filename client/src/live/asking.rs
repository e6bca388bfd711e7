//! Questions to other agents, and facts on their way to one: each in a task of its own, so that none waits for another.

use super::others::Question;
use super::sse::Event;
use super::stream::EventStream;
use super::{MAX_ANSWER_EVENTS_BYTES, MAX_ANSWER_TIME, MAX_UNREAD_ANSWERS};
use crate::agent::AgentClient;
use crate::error::ClientError;
use kvgossip_api::{CommitMark, VerdictRow, WatchRequest};
use kvgossip_grants::{Fact, FactId};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

/// What a task says.
pub(super) enum Said {
    /// Of an answer.
    Events(Vec<Event>),
    /// An answer ended before it was whole.
    Failed(ClientError),
    /// The facts that an agent says it holds, of those that it was handed, and since which commit.
    Handed(BTreeSet<FactId>, Option<CommitMark>),
}

/// One of what a task says: which agent, and which task.
pub(super) struct Message {
    pub(super) place: usize,
    task: u64,
    pub(super) said: Said,
}

/// A question that is under way.
struct UnderWay {
    task: u64,
    question: Question,
    handle: AbortHandle,
}

/// All that is under way; dropped, it ends.
pub(super) struct Asking {
    tasks: JoinSet<()>,
    tell: mpsc::Sender<Message>,
    told: mpsc::Receiver<Message>,
    last_task: u64,
    /// The task that hands facts to the connected agent.
    handing: Option<u64>,
    /// By place: one question each.
    questions: BTreeMap<usize, UnderWay>,
}

impl Asking {
    pub(super) fn new() -> Self {
        // Whoever finds it full waits, and each in turn has its place.
        let (tell, told) = mpsc::channel(MAX_UNREAD_ANSWERS);
        Self { tasks: JoinSet::new(), tell, told, last_task: 0, handing: None, questions: BTreeMap::new() }
    }

    /// Asks an agent; the answer comes in messages.
    pub(super) fn ask(
        &mut self,
        place: usize,
        agent: &AgentClient,
        (request, question): (WatchRequest, Question),
        silence: Duration,
    ) {
        self.tidy();
        self.last_task += 1;
        let (http, tell, task) = (agent.http().clone(), self.tell.clone(), self.last_task);
        let endpoint = agent.endpoint().clone();
        let asked = async move {
            let answer = async {
                let mut stream = EventStream::open(http.clone(), request, silence).await?;
                let mut bytes = 0;
                // The part that goes beyond the limit is sent, and refused where it is taken in.
                while bytes <= MAX_ANSWER_EVENTS_BYTES {
                    let events = stream.next().await?;
                    bytes += events.iter().map(|event| event.data.len()).sum::<usize>();
                    let said = Said::Events(events);
                    // It fails when the client is gone, which ends this task, too.
                    let _ = tell.send(Message { place, task, said }).await;
                }
                Err(http.unexpected(format!("an answer of more than {MAX_ANSWER_EVENTS_BYTES} bytes")))
            };
            let ended: Result<Result<Infallible, ClientError>, _> = timeout(MAX_ANSWER_TIME, answer).await;
            let error = match ended {
                Ok(Ok(never)) => match never {},
                Ok(Err(error)) => error,
                Err(_) => ClientError::Timeout { endpoint, after: MAX_ANSWER_TIME },
            };
            let _ = tell.send(Message { place, task, said: Said::Failed(error) }).await;
        };
        let handle = self.tasks.spawn(asked);
        if let Some(before) = self.questions.insert(place, UnderWay { task, question, handle }) {
            before.handle.abort();
        }
    }

    /// Hands facts to an agent. Those with `true` are asked after.
    pub(super) fn hand(&mut self, place: usize, agent: &AgentClient, facts: Vec<(Fact, bool)>) {
        self.tidy();
        self.last_task += 1;
        self.handing = Some(self.last_task);
        let (agent, tell, task) = (agent.with_timeout(MAX_ANSWER_TIME), self.tell.clone(), self.last_task);
        self.tasks.spawn(async move {
            let (facts, asked): (Vec<Fact>, Vec<bool>) = facts.into_iter().unzip();
            let (verdicts, commit) = agent.hand_facts(&facts).await.unwrap_or_default();
            let rows = facts.iter().zip(asked).zip(&verdicts);
            let taken =
                rows.filter(|((_, asked), row)| *asked && is_taken(row)).map(|((fact, _), _)| fact.id());
            let said = Said::Handed(taken.collect(), commit);
            let _ = tell.send(Message { place, task, said }).await;
        });
    }

    /// The next message. May be dropped and called again at any time.
    pub(super) async fn next(&mut self) -> Message {
        match self.told.recv().await {
            Some(message) => message,
            // Not while this holds a sender.
            None => std::future::pending().await,
        }
    }

    /// The question that a message belongs to; `None` if that is over.
    pub(super) fn question(&mut self, message: &Message) -> Option<&mut Question> {
        let under_way = self.questions.get_mut(&message.place)?;
        (under_way.task == message.task).then_some(&mut under_way.question)
    }

    /// Whether a message is of the facts that were handed over last, to an agent that has been connected ever since.
    pub(super) fn is_of_last_hand(&self, message: &Message) -> bool {
        self.handing == Some(message.task)
    }

    /// What was handed over does not count any more: its agent is not connected.
    pub(super) fn forget_hand(&mut self) {
        self.handing = None;
    }

    /// Ends the question to an agent.
    pub(super) fn end(&mut self, place: usize) {
        if let Some(under_way) = self.questions.remove(&place) {
            under_way.handle.abort();
        }
    }

    /// Ends all questions; gives the agents that were asked.
    pub(super) fn end_all(&mut self) -> Vec<usize> {
        let asked: Vec<usize> = self.questions.keys().copied().collect();
        asked.iter().for_each(|place| self.end(*place));
        asked
    }

    /// Forgets tasks that have ended.
    fn tidy(&mut self) {
        while self.tasks.try_join_next().is_some() {}
    }
}

/// Whether an agent says that it holds the fact, or something that supersedes it.
fn is_taken(row: &VerdictRow) -> bool {
    matches!(row.verdict.as_str(), "merged" | "moot")
}
