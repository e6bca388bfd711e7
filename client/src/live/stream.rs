//! Open watch at one agent, as a stream of events.

use super::sse::{Event, Parser};
use crate::error::ClientError;
use crate::http::{Ask, Http};
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use kvgossip_api::{CommitMark, WatchRequest};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Open watch at one agent.
#[derive(Debug)]
pub(crate) struct EventStream {
    http: Arc<Http>,
    body: Incoming,
    parser: Parser,
    silence: Duration,
    heard: Instant,
}

impl EventStream {
    /// Sends the watch request, and waits for the head of the response.
    pub(crate) async fn open(
        http: Arc<Http>,
        request: WatchRequest,
        silence: Duration,
    ) -> Result<Self, ClientError> {
        let body = serde_json::to_vec(&request)
            .map_err(|error| http.unexpected(format!("the question is no JSON: {error}")))?;
        let mut ask = Ask::new(Method::POST, "/v1/watch");
        ask.body = Some(("application/json", body.into()));
        ask.timeout = Some(silence);
        let body = http.open(ask).await?;
        Ok(Self { http, body, parser: Parser::default(), silence, heard: Instant::now() })
    }

    /// Returns whether no part of a further event has been read. If so after [`EventStream::next`] returned no
    /// event, the agent sent a heartbeat: it has nothing left to send.
    pub(crate) fn is_between_events(&self) -> bool {
        self.parser.is_between_events()
    }

    /// Commit up to which, by the last heartbeat, the agent has sent everything; `None` if it named none.
    pub(crate) fn told_up_to(&self) -> Option<CommitMark> {
        CommitMark::of_heartbeat(self.parser.comment())
    }

    /// Waits for the next events; the list may be empty after a heartbeat. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Vec<Event>, ClientError> {
        let endpoint = || self.http.endpoint.clone();
        let frame = timeout_at(self.heard + self.silence, self.body.frame()).await;
        let frame = frame.map_err(|_| ClientError::Timeout { endpoint: endpoint(), after: self.silence })?;
        let broken = |reason: String| ClientError::Broken { endpoint: endpoint(), reason };
        let frame = frame.ok_or_else(|| broken("the agent ended the stream".to_owned()))?;
        let frame = frame.map_err(|error| broken(error.to_string()))?;
        self.heard = Instant::now();
        let Some(bytes) = frame.data_ref() else { return Ok(Vec::new()) };
        self.parser.read(bytes).map_err(|error| self.http.unexpected(error.to_string()))
    }
}
