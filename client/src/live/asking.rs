//! Requests to other agents and transfers of facts, each in a task of its own so that they run concurrently.

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

/// What a task received from an agent.
pub(super) enum Said {
    /// Part of the events of an agent's answer.
    Events(Vec<Event>),
    /// The agent's answer failed before it was complete.
    Failed(ClientError),
    /// Facts that the agent says it holds, out of those handed to it, and the commit by which it holds them.
    Handed(BTreeSet<FactId>, Option<CommitMark>),
}

/// Message from a task, with the agent's index in the client's list (`place`) and the number of the task.
pub(super) struct Message {
    pub(super) place: usize,
    task: u64,
    pub(super) said: Said,
}

/// Question to one agent whose answer is not complete yet.
struct UnderWay {
    task: u64,
    question: Question,
    handle: AbortHandle,
}

/// All running questions and handovers of one client. Dropping it aborts them.
pub(super) struct Asking {
    tasks: JoinSet<()>,
    tell: mpsc::Sender<Message>,
    told: mpsc::Receiver<Message>,
    last_task: u64,
    /// Number of the task of the most recent handover; `None` if there was none, or its agent is no longer
    /// connected.
    handing: Option<u64>,
    /// Open questions by the agent's index in the client's list, at most one per agent.
    questions: BTreeMap<usize, UnderWay>,
}

impl Asking {
    pub(super) fn new() -> Self {
        // Tasks that find the channel full wait, in order of arrival.
        let (tell, told) = mpsc::channel(MAX_UNREAD_ANSWERS);
        Self { tasks: JoinSet::new(), tell, told, last_task: 0, handing: None, questions: BTreeMap::new() }
    }

    /// Sends a watch request to the agent at index `place` of the client's list. The answer arrives as
    /// messages.
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
                // The part over the limit is still sent, and rejected by the receiver.
                while bytes <= MAX_ANSWER_EVENTS_BYTES {
                    let events = stream.next().await?;
                    bytes += events.iter().map(|event| event.data.len()).sum::<usize>();
                    let said = Said::Events(events);
                    // Fails if the client is gone, which also ends this task.
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

    /// Hands facts to the agent at index `place` of the client's list. Only those marked `true` are reported
    /// back.
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

    /// Waits for the next message from any task. Cancel-safe.
    pub(super) async fn next(&mut self) -> Message {
        match self.told.recv().await {
            Some(message) => message,
            // Cannot happen while this holds a sender.
            None => std::future::pending().await,
        }
    }

    /// Returns the question that a message answers; `None` if that question has ended.
    pub(super) fn question(&mut self, message: &Message) -> Option<&mut Question> {
        let under_way = self.questions.get_mut(&message.place)?;
        (under_way.task == message.task).then_some(&mut under_way.question)
    }

    /// Returns whether a message reports on the most recent handover, to an agent that is still connected.
    pub(super) fn is_of_last_hand(&self, message: &Message) -> bool {
        self.handing == Some(message.task)
    }

    /// Discards the result of the current handover, because its agent is no longer connected.
    pub(super) fn forget_hand(&mut self) {
        self.handing = None;
    }

    /// Aborts the question to the agent at index `place` of the client's list.
    pub(super) fn end(&mut self, place: usize) {
        if let Some(under_way) = self.questions.remove(&place) {
            under_way.handle.abort();
        }
    }

    /// Aborts all questions. Returns the indexes of the agents asked in the client's list.
    pub(super) fn end_all(&mut self) -> Vec<usize> {
        let asked: Vec<usize> = self.questions.keys().copied().collect();
        asked.iter().for_each(|place| self.end(*place));
        asked
    }

    /// Removes finished tasks from the set of tasks.
    fn tidy(&mut self) {
        while self.tasks.try_join_next().is_some() {}
    }
}

/// Returns whether the agent says that it holds the fact, or one that supersedes it.
fn is_taken(row: &VerdictRow) -> bool {
    matches!(row.verdict.as_str(), "merged" | "moot")
}
