//! Reads a watcher's stream event by event.

use crate::wait::soon;
use kvgossip_agent::Agent;
use kvgossip_agent::watch::{Feed, Interest};
use kvgossip_api::{KeyEvent, SyncedEvent, WatchRequest};
use std::collections::VecDeque;

/// Reads events as (id, name, data) from a feed.
pub struct Stream {
    /// Source of the bytes of the stream.
    pub feed: Feed,
    ready: VecDeque<(Option<String>, String, serde_json::Value)>,
    /// Id of the last event that had one: the cursor from which a new stream continues.
    pub last_id: Option<String>,
}

impl Stream {
    /// Starts to watch at an agent, from a cursor if one is given.
    pub fn open(agent: &Agent, request: &WatchRequest, cursor: Option<&str>) -> Self {
        let interest = Interest::parse(request).expect("a good request");
        let feed = agent.hub().watch(interest, cursor).expect("room");
        Self { feed, ready: VecDeque::new(), last_id: None }
    }

    /// Returns name and data of the next event; `None` at the end.
    pub async fn next(&mut self) -> Option<(String, serde_json::Value)> {
        while self.ready.is_empty() {
            let chunk = soon(self.feed.next()).await?;
            self.ready = events(std::str::from_utf8(&chunk).expect("text"));
        }
        let (id, name, data) = self.ready.pop_front()?;
        self.last_id = id.or(self.last_id.take());
        Some((name, data))
    }

    /// Returns the next event, which must be about a key.
    pub async fn key(&mut self) -> KeyEvent {
        let (name, data) = self.next().await.expect("no end");
        assert_eq!(name, "key", "{data}");
        serde_json::from_value(data).expect("a key event")
    }

    /// Returns the next event, which must be `synced`.
    pub async fn synced(&mut self) -> SyncedEvent {
        let (name, data) = self.next().await.expect("no end");
        assert_eq!(name, "synced", "{data}");
        serde_json::from_value(data).expect("a synced event")
    }

    /// Returns the data of the next event, which must have this name.
    pub async fn expect(&mut self, name: &str) -> serde_json::Value {
        let (got, data) = self.next().await.expect("no end");
        assert_eq!(got, name, "{data}");
        data
    }
}

/// Parses a text into events as (id, name, data).
pub fn events(text: &str) -> VecDeque<(Option<String>, String, serde_json::Value)> {
    let blocks = text.split("\n\n").filter(|block| !block.is_empty() && !block.starts_with(':'));
    let event = |block: &str| {
        let field = |name: &str| {
            block.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
        };
        let data = serde_json::from_str(&field("data:").expect("data")).expect("JSON");
        (field("id:"), field("event:").expect("a name"), data)
    };
    blocks.map(event).collect()
}

/// Returns a request to watch these keys.
pub fn keys(keys: &[&str]) -> WatchRequest {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    WatchRequest { keys, heartbeat_ms: Some(200), ..Default::default() }
}

/// Returns a request to watch the keys that match one of these globs.
pub fn matching(globs: &[&str]) -> WatchRequest {
    let globs = globs.iter().map(|glob| (*glob).to_owned()).collect();
    WatchRequest { filters: vec![globs], heartbeat_ms: Some(200), ..Default::default() }
}
