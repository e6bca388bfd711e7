//! Single reads that ask several agents and merge what they hold.

use super::asking::{Asking, Said};
use super::core::Core;
use super::interests::What;
use super::others::Answer;
use super::root::first_root;
use super::sse::Event;
use super::state::Entry;
use crate::agent::AgentClient;
use crate::clock::Clock;
use crate::op_error::OpError;
use crate::unchecked::Unchecked;
use kvgossip_api::{ExplainResponse, Shown, SyncedEvent, event};
use kvgossip_grants::{Authority, EntityId, Filter, Key, PublicKey, RsaVerifier, Verifier};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Delay before one more agent is asked, while those asked do not answer.
const SPARE_AFTER: Duration = Duration::from_secs(2);
/// Id of the only interest of a read.
const ONLY: u64 = 0;

/// Reader that asks several agents. Their merged and verified facts are at least as recent as those of any
/// honest one among them. See [`Client::asking`](crate::Client::asking).
#[derive(Clone, Debug)]
pub struct Union {
    pub(crate) agents: Vec<AgentClient>,
    pub(crate) root: Option<PublicKey>,
    pub(crate) clock: Clock,
    /// Minimum number of agents whose answer must verify.
    pub(crate) wanted: usize,
    pub(crate) limit: Duration,
}

impl Union {
    /// Reads the newest valid entry of a key that any of the agents holds; `None` if the key is unset at all of
    /// them. A replica reached at two endpoints counts once.
    ///
    /// # Errors
    /// [`OpError::TooFew`] if fewer agents than required give an answer that verifies.
    pub async fn get(&self, key: &Key) -> Result<Option<Entry>, OpError> {
        Ok(self.ask(What::Key(key.clone())).await?.entry(key))
    }

    /// Reads all keys that a filter includes, with at most
    /// [`MAX_ANSWER_EVENTS_BYTES`](crate::MAX_ANSWER_EVENTS_BYTES) from each agent.
    ///
    /// # Errors
    /// As [`Union::get`].
    pub async fn list(&self, filter: &Filter) -> Result<BTreeMap<Key, Entry>, OpError> {
        let core = self.ask(What::Matching(filter.clone())).await?;
        let keys = core.keys_of(ONLY).into_iter();
        Ok(keys.filter_map(|key| core.entry(&key).map(|entry| (key, entry))).collect())
    }

    /// Explains whether and why `entity` may write `key`, by the merged authority facts of the agents.
    ///
    /// # Errors
    /// As [`Union::get`].
    pub async fn explain(&self, entity: EntityId, key: &Key) -> Result<ExplainResponse, OpError> {
        let core = self.ask(What::Key(key.clone())).await?;
        let newest = core.keys.get(key).and_then(|held| held.latest());
        let shown = Shown { current: core.entry(key).map(|entry| entry.id), newest };
        Ok(ExplainResponse::explain(&core.authority, entity, key, shown, self.clock.now()))
    }

    /// Asks as many agents as required, and another one for each that fails, until the time limit.
    async fn ask(&self, what: What) -> Result<Core, OpError> {
        let mut last = None;
        if self.wanted > self.agents.len() {
            return Err(self.too_few(0, last));
        }
        let until = Instant::now() + self.limit;
        let root = self.root(until).await?;
        let verifier: Box<dyn Verifier> =
            if self.root.is_some() { Box::new(RsaVerifier) } else { Box::new(Unchecked) };
        let mut core = Core::new(Authority::new(root), verifier, self.clock.now());
        core.add(ONLY, what);
        let (mut asking, mut answered, mut under_way) = (Asking::new(), 0, BTreeSet::new());
        let mut replicas = BTreeSet::new();
        let mut rest = self.agents.iter().enumerate();
        let (mut spares, mut spare_at) = (0, Instant::now() + SPARE_AFTER);
        while answered < self.wanted {
            while answered + under_way.len() < self.wanted + spares
                && let Some((place, agent)) = rest.next()
            {
                asking.ask(place, agent, core.question(&agent.endpoint().to_string()), self.limit);
                under_way.insert(place);
            }
            if under_way.is_empty() {
                return Err(self.too_few(answered, last));
            }
            let Ok(message) = timeout_at(until.min(spare_at), asking.next()).await else {
                if Instant::now() >= until {
                    let silent = self.silent(under_way.iter().map(|place| &self.agents[*place]));
                    let last = last.into_iter().chain([silent]).collect::<Vec<_>>().join("; ");
                    return Err(self.too_few(answered, Some(last)));
                }
                // An agent takes long: one more is asked, while there is one.
                (spares, spare_at) = (spares + 1, Instant::now() + SPARE_AFTER);
                continue;
            };
            let Some(question) = asking.question(&message) else { continue };
            let ended = match &message.said {
                Said::Events(events) => {
                    let heard =
                        events.iter().map(|event| core.hear_other(question, &event.name, &event.data));
                    let end = heard.into_iter().find(|answer| *answer != Ok(Answer::More));
                    end.map(|answer| match answer {
                        Ok(_) if question.is_proven() => {
                            // An agent that does not name its replica counts separately.
                            let replica = replica(events);
                            let is_new = replica.is_none_or(|replica| replicas.insert(replica));
                            is_new.then_some(()).ok_or_else(|| "it is a replica that has answered already".to_owned())
                        }
                        Ok(_) if question.told_early() => {
                            Err("it told an entry that is ahead of this machine's clock: one of the two clocks is wrong".to_owned())
                        }
                        Ok(_) => Err("it told something that does not verify".to_owned()),
                        Err(error) => Err(error.to_string()),
                    })
                }
                Said::Failed(error) => Some(Err(error.to_string())),
                Said::Handed(..) => None,
            };
            let Some(ended) = ended else { continue };
            asking.end(message.place);
            under_way.remove(&message.place);
            match ended {
                Ok(()) => answered += 1,
                Err(why) => last = Some(format!("{}: {why}", self.agents[message.place].endpoint())),
            }
        }
        Ok(core)
    }

    /// Returns the cluster's root key; a client that trusts its agents asks them for it.
    async fn root(&self, until: Instant) -> Result<PublicKey, OpError> {
        if let Some(root) = &self.root {
            return Ok(root.clone());
        }
        match timeout_at(until, first_root(self.agents.iter().cloned())).await {
            Ok(Ok(root)) => Ok(root),
            Ok(Err(last)) => Err(self.too_few(0, last.map(|(_, error)| error.to_string()))),
            Err(_) => Err(self.too_few(0, Some(self.silent(&self.agents)))),
        }
    }

    /// Message that names the agents which did not answer in time.
    fn silent<'a>(&self, agents: impl IntoIterator<Item = &'a AgentClient>) -> String {
        let names = agents.into_iter().map(|agent| agent.endpoint().to_string());
        let names = names.collect::<Vec<_>>().join(", ");
        format!("no answer in {} s from {names}", self.limit.as_secs_f64())
    }

    fn too_few(&self, answered: usize, last: Option<String>) -> OpError {
        OpError::TooFew { wanted: self.wanted, known: self.agents.len(), answered, last }
    }
}

/// Id of the replica that an agent reports in its answer; `None` if it reports none.
fn replica(events: &[Event]) -> Option<String> {
    let synced = events.iter().find(|it| it.name == event::SYNCED)?;
    serde_json::from_str::<SyncedEvent>(&synced.data).ok()?.replica
}
