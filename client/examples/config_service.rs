//! A service that reloads its configuration while it runs.
//!
//! ```sh
//! cargo run -p kvgossip-client --example config_service -- root.pub http://127.0.0.1:7948 http://127.0.0.1:7958
//! ```
//!
//! It reads `/app/web/**`. Every change prints the configuration as a whole; a lost agent is said once and stops nothing.

use kvgossip_client::{Change, Client, MatchStatus};
use kvgossip_grants::PublicKey;
use std::collections::BTreeMap;
use std::error::Error;

/// What the service runs with, parsed once for each change.
#[derive(Debug, PartialEq)]
struct Config {
    greeting: String,
    workers: u32,
}

impl Config {
    /// Values that do not parse keep what was before: a typing error must not take the service down.
    fn read(values: &BTreeMap<String, String>, before: &Self) -> Self {
        let text = |name: &str| values.get(name).cloned();
        Self {
            greeting: text("/app/web/greeting").unwrap_or_else(|| "hello".to_owned()),
            workers: text("/app/web/workers").map_or(4, |text| text.trim().parse().unwrap_or(before.workers)),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let root = args.next().ok_or("usage: config_service ROOT.pub AGENT...")?;
    let mut builder = Client::builder().root(PublicKey::from_pem(&std::fs::read_to_string(root)?)?);
    for agent in args {
        builder = builder.endpoint(agent.parse()?);
    }
    let client = builder.build()?;

    let mut settings = client.subscribe_matching(["/app/web/**"])?;
    // Whether to wait for the first complete answer is the service's own choice; this one does.
    settings.ready().await?;
    let mut status = client.subscribe_matching(["/app/web/**"])?;

    let mut values = BTreeMap::new();
    let mut config = Config { greeting: String::new(), workers: 0 };
    loop {
        while let Some(change) = settings.pop() {
            apply(&mut values, &change);
        }
        let new = Config::read(&values, &config);
        if new != config {
            config = new;
            println!("running with {config:?}");
        }
        tokio::select! {
            change = settings.next() => apply(&mut values, &change?),
            changed = status.next_status() => {
                if let MatchStatus { dirty: Some(reason), .. } = changed? {
                    println!("this may not be the latest: {}", reason.as_str());
                }
            }
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

fn apply(values: &mut BTreeMap<String, String>, change: &Change) {
    match change {
        Change::Added { entry, .. } | Change::Updated { entry, .. } => {
            values.insert(entry.key.to_string(), String::from_utf8_lossy(&entry.value).into_owned());
        }
        Change::Removed { key, cause } => {
            println!("{key} was taken back: {}", cause.as_str());
            values.remove(key.as_str());
        }
    }
}
