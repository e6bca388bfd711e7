//! Writing of many entries: signed here on all cores, or by the agent; sent in portions, or written to a file.

use crate::error::{Failure, Result};
use crate::room;
use crate::sign::{Identity, OutFile, refusal};
use crate::{clocks, codes};
use bytes::Bytes;
use kvgossip_client::AgentClient;
use kvgossip_engine::View;
use kvgossip_grants::{ClusterId, Code, EntryDraft, EntryFact, EntryId, Explanation, Fact, Key, Timestamp};
use std::num::NonZero;
use std::thread;
use tokio::task::JoinSet;

/// Maximum number of concurrent writes when the agent signs.
const PUTS_AT_A_TIME: usize = 16;

/// An entry to be signed and written.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) key: Key,
    /// Value; `None`: unset the key.
    pub(crate) value: Option<Bytes>,
}

/// The result of a draft: the entry's id, or a refusal.
pub(crate) type Written = Result<EntryId, Refused>;

/// Stable code and reason of a draft that was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: String,
    pub(crate) why: String,
}

impl Refused {
    fn new(code: Code) -> Self {
        Self { code: code.as_str().to_owned(), why: code.help().to_owned() }
    }
}

/// Reason of a refusal for an entity without any grant that covers the key.
pub(crate) const NO_GRANT: &str = "it has no grant that is known: ask for one, or sync with a replica that knows it \
                                   (`kvgossip sync PEER`)";

/// The signer and the destination of entries.
pub(crate) enum Writer<'a> {
    /// This process signs and sends to the agent.
    Here(&'a Identity, &'a AgentClient),
    /// This process signs and writes to a file.
    File(&'a Identity, OutFile),
    /// The agent signs.
    There(&'a AgentClient),
}

impl Writer<'_> {
    /// Writes drafts of different keys. `view`: what is known of the keys; `now`: the time of the entries.
    ///
    /// # Errors
    /// When nothing more can be written. Entries written before remain.
    pub(crate) async fn write(
        &mut self,
        view: &View,
        now: Timestamp,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Written>> {
        match self {
            Self::There(client) => put(client, drafts).await,
            Self::Here(identity, client) => {
                let signed = sign(identity, view, now, drafts)?;
                let facts: Vec<Fact> = signed.iter().flatten().cloned().map(Fact::Entry).collect();
                let verdicts = room::offer(&facts, async |part| client.put_facts(part).await).await?;
                let mut verdicts = verdicts.iter();
                let written = signed.into_iter().map(|fact| {
                    let id = fact?.id();
                    let refused = verdicts.next().and_then(refusal);
                    refused.map_or(Ok(id), |(code, _, why)| Err(Refused { code, why }))
                });
                Ok(written.collect())
            }
            Self::File(identity, out) => {
                let signed = sign(identity, view, now, drafts)?;
                for fact in signed.iter().flatten() {
                    out.push(&Fact::Entry(fact.clone()))?;
                }
                Ok(signed.into_iter().map(|fact| fact.map(|fact| fact.id())).collect())
            }
        }
    }

    /// Makes the file of a [`Writer::File`] durable; does nothing for other writers.
    pub(crate) fn finish(self) -> Result<()> {
        match self {
            Self::File(_, out) => out.finish(),
            Self::Here(..) | Self::There(_) => Ok(()),
        }
    }
}

/// Returns the entry for a draft under `identity`, or why it is not permitted.
pub(crate) fn plan(
    identity: &Identity,
    view: &View,
    now: Timestamp,
    draft: &Draft,
) -> Result<EntryDraft, Refused> {
    let signer = identity.entity();
    let grant = match view.authority().explain(&draft.key, signer, now) {
        Explanation::Root => None,
        Explanation::Accepted(chain) => chain.last().map(|link| link.grant),
        Explanation::Rejected(chains) => {
            return Err(match chains.first() {
                Some(nearest) => Refused::new(nearest.code),
                None => Refused { why: NO_GRANT.to_owned(), ..Refused::new(Code::GrantUnknown) },
            });
        }
    };
    let timestamp = view.stamp(&draft.key, grant.as_ref(), now);
    let timestamp = clocks::stamp(timestamp.as_micros(), now.as_micros())
        .map_err(|failure| Refused { code: failure.code().into(), why: failure.message().into() })?;
    Ok(EntryDraft { key: draft.key.clone(), value: draft.value.clone(), timestamp, grant })
}

type Signed = Result<EntryFact, Refused>;

/// Signs on all cores: a signature takes at least half a millisecond.
fn sign(identity: &Identity, view: &View, now: Timestamp, drafts: Vec<Draft>) -> Result<Vec<Signed>> {
    let cluster = view.authority().cluster();
    let planned: Vec<Result<EntryDraft, Refused>> =
        drafts.iter().map(|draft| plan(identity, view, now, draft)).collect();
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let job = planned.len().div_ceil(cores).max(1);
    thread::scope(|scope| {
        let jobs: Vec<_> = planned
            .chunks(job)
            .map(|part| {
                scope.spawn(move || {
                    part.iter().map(|draft| sign_one(identity, cluster, draft)).collect::<Result<Vec<_>>>()
                })
            })
            .collect();
        let mut signed = Vec::with_capacity(planned.len());
        for job in jobs {
            signed.extend(job.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(signed)
    })
}

fn sign_one(identity: &Identity, cluster: ClusterId, draft: &Result<EntryDraft, Refused>) -> Result<Signed> {
    match draft {
        Ok(draft) => identity.sign_entry(cluster, draft.clone()).map(Ok),
        Err(refused) => Ok(Err(refused.clone())),
    }
}

/// Lets the agent sign, several entries at a time.
async fn put(client: &AgentClient, drafts: Vec<Draft>) -> Result<Vec<Written>> {
    let mut written: Vec<Option<Written>> = vec![None; drafts.len()];
    let mut drafts = drafts.into_iter().enumerate();
    let mut running = JoinSet::new();
    loop {
        while running.len() < PUTS_AT_A_TIME
            && let Some((place, draft)) = drafts.next()
        {
            let client = client.clone();
            running.spawn(async move {
                let done = match draft.value {
                    Some(value) => client.put(&draft.key, value, None).await,
                    None => client.delete(&draft.key, None).await,
                };
                (place, done)
            });
        }
        let Some(done) = running.join_next().await else { break };
        let (place, done) = done.map_err(|error| Failure::new(codes::INTERNAL, error.to_string()))?;
        written[place] = Some(match done {
            Ok(written) => Ok(written.entry),
            Err(error) => {
                let why = error.to_string();
                let failure = Failure::from(error);
                if !is_about_one_key(failure.code()) {
                    return Err(failure);
                }
                Err(Refused { code: failure.code().to_owned(), why })
            }
        });
    }
    Ok(written.into_iter().flatten().collect())
}

/// Whether a refusal concerns only its key. After one for lack of room, a smaller write may still succeed.
fn is_about_one_key(code: &str) -> bool {
    code == room::NO_ROOM
        || ["entry.", "grant.", "fact.", "key.", "value."].iter().any(|kind| code.starts_with(kind))
}
