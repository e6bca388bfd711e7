//! A fake agent that sends whatever events a test gives it.

use crate::agents::{entry, grant, identity, root};
use base64::prelude::{BASE64_STANDARD, Engine};
use kvgossip_agent::now;
use kvgossip_grants::{Fact, GrantId, Signer, Timestamp};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Answers every request with the same events, and keeps the stream open for further ones.
pub struct Liar {
    /// Address of the fake agent, for clients.
    pub address: SocketAddr,
    told: Arc<watch::Sender<String>>,
    streams: Arc<AtomicUsize>,
}

impl Liar {
    /// Starts a fake agent that sends these events first.
    pub async fn telling(events: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (told, streams) = (Arc::new(watch::Sender::new(events)), Arc::new(AtomicUsize::new(0)));
        let liar = Self { address, told: told.clone(), streams: streams.clone() };
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                streams.fetch_add(1, Ordering::SeqCst);
                let mut told = told.subscribe();
                tokio::spawn(async move {
                    let mut head = vec![0; 65_536];
                    let _ = stream.read(&mut head).await;
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
                    let _ = stream.write_all(head.as_bytes()).await;
                    let mut sent = 0;
                    loop {
                        let rest = told.borrow_and_update()[sent..].to_owned();
                        sent += rest.len();
                        if stream.write_all(rest.as_bytes()).await.is_err() || told.changed().await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        liar
    }

    /// Sends further events on every stream.
    pub fn say(&self, events: &str) {
        self.told.send_modify(|told| told.push_str(events));
    }

    /// Returns the number of streams that clients have opened so far.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }
}

/// Returns an event with authority facts.
pub fn authority_event(facts: &[Fact]) -> String {
    let records: Vec<_> = facts.iter().map(|fact| BASE64_STANDARD.encode(fact.to_record())).collect();
    format!("event: authority\ndata: {}\n\n", serde_json::json!({ "records_b64": records }))
}

/// Returns an event with an entry of a key, given as its record.
pub fn key_event(key: &str, record: &[u8], id: &str) -> String {
    let data = serde_json::json!({
        "key": key, "state": "present", "cause": { "kind": "current" },
        "entries": [id], "records_b64": [BASE64_STANDARD.encode(record)],
    });
    format!("event: key\ndata: {data}\n\n")
}

/// Returns the event that an honest agent sends for a key whose only entry is this one.
pub fn told(key: &str, fact: &Fact) -> String {
    key_event(key, &fact.to_record(), &fact.id().to_string())
}

/// Event that marks the end of the initial state.
pub const SYNCED: &str = "event: synced\ndata: {\"now_us\":0,\"resumed\":false}\n\n";

/// Returns events with invalid entries of a key: with a broken signature, under a grant for other keys, under a grant to
/// another entity, under no grant, and under an unknown grant. Each row has the code, the events to send before it, and
/// the event.
pub fn forgeries(key: &str) -> Vec<(&'static str, String, String)> {
    let (writer, stranger) = (identity(1), identity(2));
    let grant = grant(writer.public(), "/other/**", root(), None);
    let authority = authority_event(&[Fact::Grant(grant.clone())]);
    let unknown = untold_grant();
    let told = |fact: &Fact, spoil: bool| {
        let mut record = fact.to_record().to_vec();
        if spoil {
            record[9] ^= 1;
        }
        key_event(key, &record, &fact.id().to_string())
    };
    let entry = |signer, cites: Option<GrantId>| entry(key, b"forged", later(), signer, cites);
    let row = |code, event| (code, authority.clone(), event);
    vec![
        row("fact.bad_signature", told(&entry(root(), None), true)),
        row("entry.out_of_reach", told(&entry(&writer, Some(grant.id())), false)),
        row("entry.wrong_signer", told(&entry(&stranger, Some(grant.id())), false)),
        row("grant.not_root", told(&entry(&stranger, None), false)),
        row("grant.unknown", told(&entry(&writer, Some(unknown)), false)),
    ]
}

/// Returns the id of a grant that is never sent.
fn untold_grant() -> GrantId {
    grant(identity(1).public(), "/**", root(), None).id()
}

/// Returns the time one second from now.
pub fn later() -> Timestamp {
    now().saturating_add(1_000_000)
}
