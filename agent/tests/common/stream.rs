//! A watcher's stream, event by event.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use kvgossip_agent::Agent;
use kvgossip_agent::watch::{Feed, Interest};
use kvgossip_api::{KeyEvent, SyncedEvent, WatchRequest};
use std::collections::VecDeque;
use std::time::Duration;

/// Events as (id, name, data), read off a feed.
pub struct Stream {
    pub feed: Feed,
    ready: VecDeque<(Option<String>, String, serde_json::Value)>,
    pub last_id: Option<String>,
}

impl Stream {
    pub fn open(agent: &Agent, request: &WatchRequest, cursor: Option<&str>) -> Self {
        let interest = Interest::parse(request).expect("a good request");
        let feed = agent.hub().watch(interest, cursor).expect("room");
        Self { feed, ready: VecDeque::new(), last_id: None }
    }

    pub async fn next(&mut self) -> Option<(String, serde_json::Value)> {
        while self.ready.is_empty() {
            let chunk = tokio::time::timeout(Duration::from_secs(20), self.feed.next());
            let chunk = chunk.await.expect("an event in time")?;
            self.ready = events(std::str::from_utf8(&chunk).expect("text"));
        }
        let (id, name, data) = self.ready.pop_front()?;
        self.last_id = id.or(self.last_id.take());
        Some((name, data))
    }

    pub async fn key(&mut self) -> KeyEvent {
        let (name, data) = self.next().await.expect("no end");
        assert_eq!(name, "key", "{data}");
        serde_json::from_value(data).expect("a key event")
    }

    pub async fn synced(&mut self) -> SyncedEvent {
        let (name, data) = self.next().await.expect("no end");
        assert_eq!(name, "synced", "{data}");
        serde_json::from_value(data).expect("a synced event")
    }

    pub async fn expect(&mut self, name: &str) -> serde_json::Value {
        let (got, data) = self.next().await.expect("no end");
        assert_eq!(got, name, "{data}");
        data
    }
}

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

pub fn keys(keys: &[&str]) -> WatchRequest {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    WatchRequest { keys, heartbeat_ms: Some(200), ..Default::default() }
}

pub fn matching(globs: &[&str]) -> WatchRequest {
    let globs = globs.iter().map(|glob| (*glob).to_owned()).collect();
    WatchRequest { filters: vec![globs], heartbeat_ms: Some(200), ..Default::default() }
}
