//! One agent's HTTP API as functions.

use crate::batch::batches;
use crate::endpoint::Endpoint;
use crate::error::ClientError;
use crate::http::{Answer, Ask, Http};
use crate::query::{FactsQuery, KeysQuery, pair};
use crate::tls::{Authorities, ClientCertificate};
use crate::token::Token;
use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use hyper::{HeaderMap, Method};
use kvgossip_api::{
    CommitMark, DiffRequest, DiffResponse, DigestResponse, ExplainRequest, ExplainResponse, FactsPage,
    GrantsResponse, KeysPage, PlanRequest, PlanResponse, PostFacts, RefusalsResponse, StatusResponse,
    SyncReport, SyncRequest, VerdictRow, VerdictsResponse, header,
};
use kvgossip_grants::{
    ClusterId, EntityId, EntryFact, EntryId, Fact, GrantId, Key, KeyGlob, PathPrefix, Timestamp,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

const JSON: &str = "application/json";
const RAW: &str = "application/octet-stream";

/// One agent. Cloning shares its connections. Every function may fail with any [`ClientError`].
#[derive(Clone, Debug)]
pub struct AgentClient(Arc<Http>);

/// An entry's place in history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The entry.
    pub entry: EntryId,
    /// When it was written.
    pub timestamp: Timestamp,
    /// The grant that it cites; none for root.
    pub grant: Option<GrantId>,
}

/// A value as an agent holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The bytes.
    pub value: Bytes,
    /// The entry that set it.
    pub written: Written,
}

/// A function of its own, so that the future around it can move between threads.
fn record_b64(fact: &Fact) -> String {
    BASE64_STANDARD.encode(fact.to_record())
}

/// What must be current for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfEntry {
    /// The key is unset.
    None,
    /// This entry is shown.
    Is(EntryId),
}

impl AgentClient {
    /// A client of the agent at `endpoint`. Nothing is connected before the first request.
    pub fn new(endpoint: Endpoint) -> Self {
        Self(Arc::new(Http::new(endpoint)))
    }

    /// With a bearer token, which TCP needs for what changes the agent, and for reading where the agent guards that.
    #[must_use]
    pub fn with_token(&self, token: Token) -> Self {
        Self(Arc::new(self.0.with(|http| http.token = Some(token))))
    }

    /// With the authorities that the agent's certificate has to lead to, for `https://`; without them those of the system.
    #[must_use]
    pub fn with_authorities(&self, authorities: Authorities) -> Self {
        Self(Arc::new(self.0.with(|http| http.authorities = Some(authorities))))
    }

    /// With a certificate that is shown to the agent, for `https://`, where it gives the right to read by them.
    #[must_use]
    pub fn with_certificate(&self, certificate: ClientCertificate) -> Self {
        Self(Arc::new(self.0.with(|http| http.certificate = Some(certificate))))
    }

    /// With another limit of time for each answer.
    #[must_use]
    pub fn with_timeout(&self, limit: Duration) -> Self {
        Self(Arc::new(self.0.with(|http| http.timeout = limit)))
    }

    pub(crate) fn http(&self) -> &Arc<Http> {
        &self.0
    }

    /// Where the agent is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    /// The value that is shown; `None` if the key is unset.
    pub async fn get(&self, key: &Key) -> Result<Option<Stored>, ClientError> {
        match self.0.ask(Ask::new(Method::GET, path_of(key))).await {
            Ok(answer) => Ok(Some(Stored { written: self.written(&answer.headers)?, value: answer.body })),
            Err(ClientError::Refused { code, .. }) if code == "key.unset" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets a value, signed with the agent's own identity.
    pub async fn put(
        &self,
        key: &Key,
        value: Bytes,
        only_if: Option<IfEntry>,
    ) -> Result<Written, ClientError> {
        let mut ask = Ask::new(Method::PUT, path_of(key));
        ask.body = Some((RAW, value));
        self.write(ask, only_if).await
    }

    /// Unsets a key, signed with the agent's own identity.
    pub async fn delete(&self, key: &Key, only_if: Option<IfEntry>) -> Result<Written, ClientError> {
        self.write(Ask::new(Method::DELETE, path_of(key)), only_if).await
    }

    async fn write(&self, mut ask: Ask, only_if: Option<IfEntry>) -> Result<Written, ClientError> {
        if let Some(only_if) = only_if {
            ask.headers.push(match only_if {
                IfEntry::None => ("if-none-match", "*".to_owned()),
                IfEntry::Is(id) => ("if-match", format!("\"{id}\"")),
            });
        }
        self.written(&self.0.ask(ask).await?.headers)
    }

    /// A page of keys.
    pub async fn keys(&self, query: &KeysQuery) -> Result<KeysPage, ClientError> {
        self.read(format!("/v1/keys?{}", query.to_query())).await
    }

    /// A page of signed facts.
    pub async fn facts(&self, query: &FactsQuery) -> Result<FactsPage, ClientError> {
        self.read(format!("/v1/facts?{}", query.to_query())).await
    }

    /// An entry with its value, as a fact that is not verified; `None` if it does not stand at the agent.
    pub async fn entry(
        &self,
        cluster: ClusterId,
        key: &Key,
        id: &EntryId,
    ) -> Result<Option<EntryFact>, ClientError> {
        let query = format!("{}&{}", pair("key", key.as_str()), pair("entry", &id.to_string()));
        let page: FactsPage = self.read(format!("/v1/facts?{query}")).await?;
        let Some(row) = page.facts.first() else { return Ok(None) };
        let record = BASE64_STANDARD.decode(&row.record_b64).ok();
        match record.and_then(|record| Fact::from_record(cluster, &record).ok()) {
            Some(Fact::Entry(fact)) => Ok(Some(fact)),
            _ => Err(self.0.unexpected("a fact that does not read".into())),
        }
    }

    /// Offers facts that came whole, such as those of an export: they are judged like a peer's. They go in as few requests
    /// as their sizes allow. One verdict each, in order. If a later request fails, what the earlier ones brought stays.
    pub async fn post_facts(&self, facts: &[Fact]) -> Result<Vec<VerdictRow>, ClientError> {
        self.post_batches("/v1/facts", facts).await
    }

    /// Offers facts that were signed just now: beyond what [`AgentClient::post_facts`] refuses, the agent refuses chains
    /// that have expired, floors that reach into the future, and values over its own limit. Requests and verdicts are as
    /// there.
    pub async fn put_facts(&self, facts: &[Fact]) -> Result<Vec<VerdictRow>, ClientError> {
        self.post_batches("/v1/facts?direct=true", facts).await
    }

    /// As [`AgentClient::post_facts`], with the agent's last commit by which all of it is durable.
    pub(crate) async fn hand_facts(
        &self,
        facts: &[Fact],
    ) -> Result<(Vec<VerdictRow>, Option<CommitMark>), ClientError> {
        let records: Vec<String> = facts.iter().map(record_b64).collect();
        let (mut verdicts, mut commit) = (Vec::with_capacity(facts.len()), None);
        for batch in batches(records.into_iter()) {
            let answer = self.post_batch("/v1/facts", &batch).await?;
            commit = answer.commit.and_then(|text| text.parse().ok());
            verdicts.extend(answer.verdicts);
        }
        Ok((verdicts, commit))
    }

    async fn post_batches(&self, target: &str, facts: &[Fact]) -> Result<Vec<VerdictRow>, ClientError> {
        // Made before anything is awaited: a borrowing iterator would keep this from being spawned.
        let records: Vec<String> = facts.iter().map(record_b64).collect();
        let mut verdicts = Vec::with_capacity(facts.len());
        for batch in batches(records.into_iter()) {
            verdicts.extend(self.post_batch(target, &batch).await?.verdicts);
        }
        Ok(verdicts)
    }

    async fn post_batch(&self, target: &str, batch: &PostFacts) -> Result<VerdictsResponse, ClientError> {
        let answer: VerdictsResponse = self.post(target, batch, None).await?;
        let (asked, got) = (batch.records_b64.len(), answer.verdicts.len());
        if asked == got {
            Ok(answer)
        } else {
            Err(self.0.unexpected(format!("{got} verdicts on {asked} facts")))
        }
    }

    /// Live grants and the revocations that stand, all pages of them.
    pub async fn grants(&self) -> Result<GrantsResponse, ClientError> {
        let mut whole: GrantsResponse = self.read("/v1/grants").await?;
        while let Some(after) = whole.next.take() {
            let page: GrantsResponse = self.read(format!("/v1/grants?{}", pair("after", &after))).await?;
            if page.next.as_ref() == Some(&after) {
                return Err(self.0.unexpected("pages that do not advance".into()));
            }
            whole.grants.extend(page.grants);
            whole.revocations.extend(page.revocations);
            whole.next = page.next;
        }
        Ok(whole)
    }

    /// Whether and why `entity` may write `key`.
    pub async fn explain(&self, entity: EntityId, key: &Key) -> Result<ExplainResponse, ClientError> {
        let request = ExplainRequest { entity: entity.to_string(), key: key.to_string() };
        self.post("/v1/explain", &request, None).await
    }

    /// Under which grants `issuer` could give `pattern` away.
    pub async fn plan(&self, issuer: EntityId, pattern: &KeyGlob) -> Result<PlanResponse, ClientError> {
        let request = PlanRequest { issuer: issuer.to_string(), pattern: pattern.to_string() };
        self.post("/v1/plan", &request, None).await
    }

    /// What the agent says of itself.
    pub async fn status(&self) -> Result<StatusResponse, ClientError> {
        self.read("/v1/status").await
    }

    /// The digest over what lies under `prefix`.
    pub async fn digest(&self, prefix: &PathPrefix) -> Result<DigestResponse, ClientError> {
        self.read(format!("/v1/digest?{}", pair("prefix", prefix.as_str()))).await
    }

    /// Facts that were refused lately, newest first.
    pub async fn refusals(&self) -> Result<RefusalsResponse, ClientError> {
        self.read("/v1/refusals").await
    }

    /// Has the agent compare itself with a peer, as [`AgentClient::sync`] names it, and move nothing; waits at most `limit`.
    pub async fn diff(
        &self,
        peer: &str,
        prefix: Option<&PathPrefix>,
        limit: Duration,
    ) -> Result<DiffResponse, ClientError> {
        let request = DiffRequest { peer: peer.to_owned(), prefix: prefix.map(ToString::to_string) };
        self.post("/v1/diff", &request, Some(limit)).await
    }

    /// Has the agent run a sync session with a peer (`[ID@]ADDR:PORT`, or the beginning of a connected peer's id) and
    /// waits for its end, at most `limit`.
    pub async fn sync(
        &self,
        peer: &str,
        prefix: Option<&PathPrefix>,
        limit: Duration,
    ) -> Result<SyncReport, ClientError> {
        let request = SyncRequest { peer: peer.to_owned(), prefix: prefix.map(ToString::to_string) };
        self.post("/v1/sync", &request, Some(limit)).await
    }

    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        target: impl Into<String>,
    ) -> Result<T, ClientError> {
        self.json(&self.0.ask(Ask::new(Method::GET, target)).await?)
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        target: &str,
        body: &impl Serialize,
        limit: Option<Duration>,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| self.0.unexpected(format!("the question is no JSON: {error}")))?;
        let mut ask = Ask::new(Method::POST, target);
        ask.body = Some((JSON, body.into()));
        ask.timeout = limit;
        self.json(&self.0.ask(ask).await?)
    }

    fn json<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, ClientError> {
        serde_json::from_slice(&answer.body).map_err(|error| self.0.unexpected(format!("its JSON: {error}")))
    }

    fn written(&self, headers: &HeaderMap) -> Result<Written, ClientError> {
        let grant = self.header(headers, header::GRANT)?;
        let micros: u64 = self.parse(header::TIMESTAMP, self.header(headers, header::TIMESTAMP)?)?;
        let timestamp = Timestamp::from_micros(micros)
            .map_err(|error| self.0.unexpected(format!("header {}: {error}", header::TIMESTAMP)))?;
        Ok(Written {
            entry: self.parse(header::ENTRY, self.header(headers, header::ENTRY)?)?,
            timestamp,
            grant: if grant == "root" { None } else { Some(self.parse(header::GRANT, grant)?) },
        })
    }

    fn header<'a>(&self, headers: &'a HeaderMap, name: &str) -> Result<&'a str, ClientError> {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.ok_or_else(|| self.0.unexpected(format!("no header {name}")))
    }

    fn parse<T: FromStr<Err: std::fmt::Display>>(&self, name: &str, text: &str) -> Result<T, ClientError> {
        text.parse().map_err(|error| self.0.unexpected(format!("header {name}: {error}")))
    }
}

/// The key goes as it is spelled: nothing is encoded or decoded on the way.
fn path_of(key: &Key) -> String {
    format!("/v1/kv{key}")
}
