//! Client of several agents: live subscriptions, reads and signed writes.

use crate::agent::{AgentClient, Written};
use crate::clock::{self, Clock};
use crate::error::ClientError;
use crate::live::handles::{Matching, Subscription};
use crate::live::registry::Shared;
use crate::live::state::{Entry, Rejection, Trouble};
use crate::live::union::Union;
use crate::op_error::OpError;
use bytes::Bytes;
use kvgossip_api::{ExplainResponse, FIRST_SYNC, StatusResponse, VerdictRow};
use kvgossip_grants::{
    ClusterId, Code, EntityId, EntryDraft, EntryFact, Fact, Filter, FilterError, GrantId, Key,
    MAX_AHEAD_MICROS, PublicKey, Signer, SigningKey, Timestamp,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Maximum lead of an agent's clock over this machine's, in microseconds. Beyond it nothing is signed, because
/// other replicas hold back entries that far ahead, and a timestamp in the far future would win over every
/// later write.
pub const MAX_AGENT_AHEAD_US: u64 = MAX_AHEAD_MICROS;
/// Maximum number of attempts to stamp and send one write when other writes overtake it.
const MAX_STAMPS: usize = 8;

/// Client of the agents of one cluster. Clones share everything; subscriptions stop when the last clone is
/// dropped.
#[derive(Clone, Debug)]
pub struct Client(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) agents: Vec<AgentClient>,
    pub(crate) root: Option<PublicKey>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) timeout: Duration,
    pub(crate) clock: Clock,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.closed.send_replace(true);
    }
}

impl Client {
    /// Subscribes to a key, whether set or not. Subscriptions to one key share their cost.
    pub fn subscribe(&self, key: &Key) -> Subscription {
        Subscription::new(self.0.shared.clone(), key)
    }

    /// Subscribes to all keys that an ordered filter includes, such as `["/my/**", "!/my/tmp/**"]`.
    ///
    /// # Errors
    /// Fails if a text is not a valid glob, or if there are more than `MAX_FILTER_GLOBS` (64) globs.
    pub fn subscribe_matching<I>(&self, globs: I) -> Result<Matching, FilterError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        Ok(self.subscribe_filter(&Filter::parse(globs)?))
    }

    /// Like [`Client::subscribe_matching`], with a parsed filter.
    pub fn subscribe_filter(&self, filter: &Filter) -> Matching {
        Matching::new(self.0.shared.clone(), filter)
    }

    /// Returns the number of rejected statements of agents since the client was created, and the most recent
    /// ones, at most `MAX_REJECTIONS` (64), oldest first.
    pub fn rejections(&self) -> (u64, Vec<Rejection>) {
        self.0.shared.rejections.borrow().clone()
    }

    /// Returns a receiver that is notified of each change of [`Client::rejections`].
    pub fn watch_rejections(&self) -> tokio::sync::watch::Receiver<(u64, Vec<Rejection>)> {
        self.0.shared.rejections.subscribe()
    }

    /// Returns a receiver of the endpoint of the agent that subscriptions come from at present; `None` while
    /// none is connected.
    pub fn watch_connection(&self) -> tokio::sync::watch::Receiver<Option<String>> {
        self.0.shared.connected.subscribe()
    }

    /// Returns a receiver of the last problem with an agent; `None` once an agent is in step. A problem with
    /// the code [`Trouble::BEHIND`] stays until the agent it names is in step.
    pub fn watch_trouble(&self) -> tokio::sync::watch::Receiver<Option<Trouble>> {
        self.0.shared.trouble.subscribe()
    }

    /// Reads the verified entry that sets a key; `None` if the key is unset. The key stays subscribed for the
    /// grace delay, so that reading it again is immediate.
    ///
    /// # Errors
    /// [`OpError::NotReady`] if no agent gives a verified answer in time, [`OpError::FirstSync`] if the agents
    /// that answer have never completed a comparison with a peer, [`OpError::Early`] if they hold back an entry
    /// of the key until it is due, [`OpError::NotAllowed`] if the client lacks the right to read,
    /// [`OpError::Closed`] if the client was dropped.
    pub async fn get(&self, key: &Key) -> Result<Option<Entry>, OpError> {
        let mut subscription = self.subscribe(key);
        let ready = tokio::time::timeout(self.0.timeout, subscription.ready()).await;
        let state = ready.map_err(|_| self.not_ready(key.to_string(), |early| early == key))??;
        Ok(state.value.entry().cloned())
    }

    /// Reads the verified entries of all keys that a filter includes. A result of up to 1024 keys stays
    /// subscribed for the grace delay; a larger one is loaded again next time.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn list(&self, filter: &Filter) -> Result<BTreeMap<Key, Entry>, OpError> {
        let mut matching = Matching::for_a_look(self.0.shared.clone(), filter);
        let ready = tokio::time::timeout(self.0.timeout, matching.ready()).await;
        ready.map_err(|_| self.not_ready(format!("{filter:?}"), |early| filter.includes(early)))??;
        Ok(matching.entries())
    }

    /// Returns a reader that asks at least this many agents (at least one) on every read, and merges what they
    /// hold: for programs that do not want to trust a single agent about what is unset or latest. It keeps
    /// nothing between reads.
    pub fn asking(&self, agents: usize) -> Union {
        Union {
            agents: self.0.agents.clone(),
            root: self.0.root.clone(),
            clock: self.0.clock.clone(),
            wanted: agents.max(1),
            limit: self.0.timeout,
        }
    }

    fn not_ready(&self, what: String, covers: impl Fn(&Key) -> bool) -> OpError {
        let after = self.0.timeout;
        let since = self.0.clock.now().saturating_sub(u64::try_from(after.as_micros()).unwrap_or(u64::MAX));
        let is_early = |rejection: &Rejection| {
            let lately = rejection.code == Rejection::EARLY && rejection.at >= since;
            lately && rejection.key.as_ref().is_some_and(&covers)
        };
        if self.rejections().1.iter().any(is_early) {
            return OpError::Early { what, after };
        }
        match self.0.shared.trouble.borrow().clone() {
            Some(trouble) if trouble.code == FIRST_SYNC => OpError::FirstSync { what, after },
            Some(trouble) if trouble.is_of_rights() => {
                OpError::NotAllowed { what, after, code: trouble.code, message: trouble.message }
            }
            _ => OpError::NotReady { what, after },
        }
    }

    /// Sets a key, signed in this process; the private key never leaves it. The client asks an agent which
    /// grant to cite. On return the entry is durable at one agent.
    ///
    /// # Errors
    /// Fails if no agent can be reached, the agent belongs to another cluster, its clock is too far ahead, the
    /// signer may not write the key, the value is too large, signing fails, or the agent does not accept the
    /// entry.
    pub async fn set(
        &self,
        key: &Key,
        value: impl Into<Bytes>,
        signer: &SigningKey,
    ) -> Result<Written, OpError> {
        self.write(key, Some(value.into()), signer).await
    }

    /// Deletes a key, signed in this process.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn delete(&self, key: &Key, signer: &SigningKey) -> Result<Written, OpError> {
        self.write(key, None, signer).await
    }

    async fn write(&self, key: &Key, value: Option<Bytes>, signer: &SigningKey) -> Result<Written, OpError> {
        let mut refusal = None;
        for _ in 0..MAX_STAMPS {
            let fact = self.sign(key, value.clone(), signer).await?;
            let (id, timestamp, grant) = (fact.id(), fact.entry().timestamp, fact.entry().grant);
            let facts: Arc<[Fact]> = [Fact::Entry(fact)].into();
            // The same signed entry can be posted twice, so the next agent is asked if one fails.
            let verdicts = self
                .ask(|agent| {
                    let facts = facts.clone();
                    async move { agent.put_facts(&facts).await }
                })
                .await?;
            match verdicts.first().map(|row| (row, row.code.as_deref())) {
                None | Some((_, Some("fact.known"))) => return Ok(Written { entry: id, timestamp, grant }),
                Some((row, _)) if row.verdict == "merged" => {
                    return Ok(Written { entry: id, timestamp, grant });
                }
                // Another write in between took the same timestamp or a later one.
                Some((row, Some("entry.dominated"))) => refusal = Some(row.clone()),
                Some((row, _)) => return Err(not_taken(row)),
            }
        }
        Err(refusal.as_ref().map_or(OpError::Signing, not_taken))
    }

    async fn sign(&self, key: &Key, value: Option<Bytes>, signer: &SigningKey) -> Result<EntryFact, OpError> {
        let entity = signer.public().entity();
        let told = self.explain(entity, key).await?;
        let cluster: ClusterId = told.cluster.parse().map_err(|_| OpError::ForeignCluster)?;
        if self.0.root.as_ref().is_some_and(|root| root.cluster() != cluster) {
            return Err(OpError::ForeignCluster);
        }
        if !told.accepted {
            let first = told.rejected.first();
            return Err(OpError::NotAuthorised {
                entity,
                key: key.clone(),
                code: first.map_or("grant.unknown", |row| &row.code).to_owned(),
                message: first.map_or("no grant to it is known at the agent", |row| &row.message).to_owned(),
            });
        }
        let read = |micros| Timestamp::from_micros(micros).map_err(|_| OpError::ClockSkew);
        let (theirs, timestamp) = (read(told.now_us)?, read(told.stamp_us)?);
        if theirs > clock::system().saturating_add(MAX_AGENT_AHEAD_US) {
            return Err(OpError::ClockSkew);
        }
        if timestamp > theirs.saturating_add(MAX_AHEAD_MICROS) {
            let (code, message) = (Code::NotYet.as_str().to_owned(), Code::NotYet.help().to_owned());
            return Err(OpError::NotTaken { code, message });
        }
        let grant: Option<GrantId> = match told.chain.last() {
            Some(link) => Some(link.grant.parse().map_err(|_| OpError::Signing)?),
            None => None,
        };
        let draft = EntryDraft { key: key.clone(), value, timestamp, grant };
        EntryFact::sign(cluster, draft, signer).map_err(|error| match error.code() {
            Some(_) => OpError::ValueTooLarge,
            None => OpError::Signing,
        })
    }

    /// Asks an agent whether and why `entity` may write `key`.
    ///
    /// # Errors
    /// Fails if no agent can be reached.
    pub async fn explain(&self, entity: EntityId, key: &Key) -> Result<ExplainResponse, OpError> {
        self.ask(|agent| {
            let key = key.clone();
            async move { agent.explain(entity, &key).await }
        })
        .await
    }

    /// Reads the status of the first agent that answers.
    ///
    /// # Errors
    /// Fails if no agent can be reached.
    pub async fn status(&self) -> Result<StatusResponse, OpError> {
        self.ask(|agent| async move { agent.status().await }).await
    }

    /// Asks the agents in order until one answers, positively or negatively.
    async fn ask<T, F>(&self, question: impl Fn(AgentClient) -> F) -> Result<T, OpError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let mut last = None;
        for agent in &self.0.agents {
            match question(agent.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error @ ClientError::Refused { status, .. }) if status < 500 => return Err(error.into()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(|| self.not_ready("anything".to_owned(), |_| false), OpError::from))
    }
}

fn not_taken(row: &VerdictRow) -> OpError {
    let code = row.code.clone().unwrap_or_else(|| row.verdict.clone());
    OpError::NotTaken { message: row.message.clone().unwrap_or_else(|| code.clone()), code }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Futures that programs await must be spawnable.
    #[test]
    fn every_operation_can_be_spawned() {
        fn spawnable<T: Send>(_: impl Fn(&'static Client, &'static Key, &'static SigningKey) -> T) {}
        spawnable(|client, key, _| client.get(key));
        spawnable(|client, key, signer| client.set(key, "v", signer));
        spawnable(|client, key, signer| client.delete(key, signer));
        spawnable(|client, key, signer| client.explain(signer.public().entity(), key));
        spawnable(|client, _, _| client.status());
        spawnable(|client, key, _| async { client.asking(2).get(key).await });
        spawnable(|client, key, signer| async {
            client.asking(2).explain(signer.public().entity(), key).await
        });
    }
}
