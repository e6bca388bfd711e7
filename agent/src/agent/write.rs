//! Writing a key under the agent's own identity.

use super::Agent;
use crate::committer::Condition;
use crate::condition::Precondition;
use crate::error::WriteError;
use bytes::Bytes;
use kvgossip_grants::{Code, EntryDraft, EntryFact, Explanation, Fact, Key, Signer, SigningKey, Verdict};
use std::sync::Arc;

/// Maximum number of attempts to stamp a write when concurrent writes take the same or a later timestamp.
const MAX_STAMPS: usize = 8;

impl Agent {
    /// Sets a key under the agent's own identity, or unsets it if `value` is `None`.
    ///
    /// `only_if` is checked against the entry that this agent shows at the moment of the write.
    pub async fn write(
        &self,
        key: Key,
        value: Option<Bytes>,
        only_if: Precondition,
    ) -> Result<EntryFact, WriteError> {
        let identity = self.inner.identity.clone().ok_or(WriteError::NoIdentity)?;
        if !only_if.is_empty() {
            self.check_complete()?;
        }
        let standing = self.inner.peers.clock_standing();
        if standing.is_contradicted() {
            return Err(WriteError::ClockContradicted(standing));
        }
        for _ in 0..MAX_STAMPS {
            let fact = self.sign(&identity, &key, value.clone()).await?;
            let offered = vec![Fact::Entry(fact.clone())];
            let waiting = self.inner.intake.waiting().clone();
            let condition = Condition { key: key.clone(), only_if: only_if.clone(), waiting };
            let condition = Some(condition).filter(|condition| !condition.only_if.is_empty());
            let verdicts = self.inner.intake.offer_if(offered, "put", self.direct(), condition).await?;
            match verdicts.first().copied() {
                // Two identical writes at the same time produce one entry.
                Some(Verdict::Merged | Verdict::Moot(Code::Known)) | None => return Ok(fact),
                // A concurrent write has the same timestamp or a later one.
                Some(Verdict::Moot(Code::Dominated)) => {}
                Some(verdict) => return Err(WriteError::Verdict(verdict)),
            }
        }
        Err(WriteError::Verdict(Verdict::Moot(Code::Dominated)))
    }

    async fn sign(
        &self,
        identity: &Arc<SigningKey>,
        key: &Key,
        value: Option<Bytes>,
    ) -> Result<EntryFact, WriteError> {
        let (view, now) = (self.store().view(), self.now());
        let signer = identity.public().entity();
        let grant = match view.authority().explain(key, signer, now) {
            Explanation::Root => None,
            Explanation::Accepted(chain) => chain.last().map(|link| link.grant),
            Explanation::Rejected(chains) => {
                self.check_complete()?;
                let code = chains.first().map_or(Code::GrantUnknown, |chain| chain.code);
                let message = format!(
                    "{} may not write {key}: {}",
                    signer.short(),
                    if chains.is_empty() { "no grant to it is known here" } else { code.help() }
                );
                return Err(WriteError::NotAuthorised { code, message });
            }
        };
        let timestamp = view.stamp(key, grant.as_ref(), now);
        let draft = EntryDraft { key: key.clone(), value, timestamp, grant };
        let (identity, cluster) = (identity.clone(), view.authority().cluster());
        let sign = move || EntryFact::sign(cluster, draft, identity.as_ref());
        let signed = tokio::task::spawn_blocking(sign).await.map_err(|_| WriteError::Signing)?;
        signed.map_err(|error| match error.code() {
            Some(code) => WriteError::Verdict(Verdict::Refused(code)),
            None => WriteError::Signing,
        })
    }
}
