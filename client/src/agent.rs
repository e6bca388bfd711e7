//! HTTP API of one agent, as functions.

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

/// Client of one agent. Clones share its connections. Every function may fail with any [`ClientError`].
#[derive(Clone, Debug)]
pub struct AgentClient(Arc<Http>);

/// Id, time and grant of a written entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Id of the entry, a hash of its signed body.
    pub entry: EntryId,
    /// Timestamp signed in the entry, in microseconds since 1970 (UTC).
    pub timestamp: Timestamp,
    /// Grant that the entry cites; `None` if root signed it.
    pub grant: Option<GrantId>,
}

/// Value of a key as shown by an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The value: any bytes, at most `MAX_VALUE_BYTES` (1 MiB).
    pub value: Bytes,
    /// Entry that set the value.
    pub written: Written,
}

/// Encodes a fact's record as base64. This is a separate function so that the surrounding future is `Send`.
fn record_b64(fact: &Fact) -> String {
    BASE64_STANDARD.encode(fact.to_record())
}

/// Precondition of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfEntry {
    /// The key must be unset.
    None,
    /// The key must show this entry.
    Is(EntryId),
}

impl AgentClient {
    /// Creates a client of the agent at `endpoint`. It connects on the first request.
    pub fn new(endpoint: Endpoint) -> Self {
        Self(Arc::new(Http::new(endpoint)))
    }

    /// Returns a client that sends a bearer token. TCP requires one for changes to the agent, and for reads if
    /// the agent restricts them.
    #[must_use]
    pub fn with_token(&self, token: Token) -> Self {
        Self(Arc::new(self.0.with(|http| http.token = Some(token))))
    }

    /// Returns a client that verifies `https://` agents against these certificate authorities instead of the
    /// system's.
    #[must_use]
    pub fn with_authorities(&self, authorities: Authorities) -> Self {
        Self(Arc::new(self.0.with(|http| http.authorities = Some(authorities))))
    }

    /// Returns a client that presents this certificate to `https://` agents which grant the right to read by
    /// certificate.
    #[must_use]
    pub fn with_certificate(&self, certificate: ClientCertificate) -> Self {
        Self(Arc::new(self.0.with(|http| http.certificate = Some(certificate))))
    }

    /// Returns a client of the same agent with another time limit per request; the default is 30 s.
    #[must_use]
    pub fn with_timeout(&self, limit: Duration) -> Self {
        Self(Arc::new(self.0.with(|http| http.timeout = limit)))
    }

    pub(crate) fn http(&self) -> &Arc<Http> {
        &self.0
    }

    /// Endpoint at which this client reaches the agent.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    /// Reads the value shown for a key; `None` if the key is unset.
    pub async fn get(&self, key: &Key) -> Result<Option<Stored>, ClientError> {
        match self.0.ask(Ask::new(Method::GET, path_of(key))).await {
            Ok(answer) => Ok(Some(Stored { written: self.written(&answer.headers)?, value: answer.body })),
            Err(ClientError::Refused { code, .. }) if code == "key.unset" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets a value; the agent signs with its own identity.
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

    /// Deletes a key; the agent signs with its own identity.
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

    /// Lists one page of keys.
    pub async fn keys(&self, query: &KeysQuery) -> Result<KeysPage, ClientError> {
        self.read(format!("/v1/keys?{}", query.to_query())).await
    }

    /// Lists one page of signed facts.
    pub async fn facts(&self, query: &FactsQuery) -> Result<FactsPage, ClientError> {
        self.read(format!("/v1/facts?{}", query.to_query())).await
    }

    /// Reads an entry with its value, without verifying it; `None` if it is not live at the agent.
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

    /// Offers facts with their full chains, such as those of an export; the agent judges them like facts of a
    /// peer. They are sent in as few requests as their sizes allow. Returns one verdict per fact, in order. If
    /// a later request fails, the effects of earlier ones stay.
    pub async fn post_facts(&self, facts: &[Fact]) -> Result<Vec<VerdictRow>, ClientError> {
        self.post_batches("/v1/facts", facts).await
    }

    /// Offers freshly signed facts. Beyond the checks of [`AgentClient::post_facts`], the agent refuses expired
    /// chains, floors that reach into the future, and values over its own limit. Requests and verdicts are as
    /// for that function.
    pub async fn put_facts(&self, facts: &[Fact]) -> Result<Vec<VerdictRow>, ClientError> {
        self.post_batches("/v1/facts?direct=true", facts).await
    }

    /// Like [`AgentClient::post_facts`], and also returns the agent's commit by which all the facts are
    /// durable.
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
        // Collected before the first await, because a borrowing iterator would make the future not spawnable.
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

    /// Lists all live grants and effective revocations, over all pages.
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

    /// Explains whether and why `entity` may write `key`.
    pub async fn explain(&self, entity: EntityId, key: &Key) -> Result<ExplainResponse, ClientError> {
        let request = ExplainRequest { entity: entity.to_string(), key: key.to_string() };
        self.post("/v1/explain", &request, None).await
    }

    /// Finds grants under which `issuer` could grant `pattern` to another entity.
    pub async fn plan(&self, issuer: EntityId, pattern: &KeyGlob) -> Result<PlanResponse, ClientError> {
        let request = PlanRequest { issuer: issuer.to_string(), pattern: pattern.to_string() };
        self.post("/v1/plan", &request, None).await
    }

    /// Reads the agent's status.
    pub async fn status(&self) -> Result<StatusResponse, ClientError> {
        self.read("/v1/status").await
    }

    /// Reads the digest over the keys under `prefix`.
    pub async fn digest(&self, prefix: &PathPrefix) -> Result<DigestResponse, ClientError> {
        self.read(format!("/v1/digest?{}", pair("prefix", prefix.as_str()))).await
    }

    /// Lists the facts that the agent refused recently, newest first.
    pub async fn refusals(&self) -> Result<RefusalsResponse, ClientError> {
        self.read("/v1/refusals").await
    }

    /// Makes the agent compare itself with a peer without any transfer; waits at most `limit`. The peer is
    /// named as for [`AgentClient::sync`].
    pub async fn diff(
        &self,
        peer: &str,
        prefix: Option<&PathPrefix>,
        limit: Duration,
    ) -> Result<DiffResponse, ClientError> {
        let request = DiffRequest { peer: peer.to_owned(), prefix: prefix.map(ToString::to_string) };
        self.post("/v1/diff", &request, Some(limit)).await
    }

    /// Makes the agent run a sync session with a peer, and waits for its end, at most `limit`. The peer is
    /// `[ID@]ADDR:PORT`, or a prefix of a connected peer's id.
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

/// Request path of a key, spelled as is: nothing is encoded or decoded.
fn path_of(key: &Key) -> String {
    format!("/v1/kv{key}")
}
