//! Feature flags that are read in a hot path: a lookup is a lock-free read of the last state.
//!
//! ```sh
//! cargo run -p kvgossip-client --example feature_flags -- root.pub unix:/var/lib/kvgossip/agent.sock /flags/new-search
//! ```
//!
//! Prints the flag once and then whenever it changes. A flag is on while its value is `on`; whatever is not known counts
//! as off, and a lost agent leaves the flag as it was.

use kvgossip_client::{Client, State, Subscription};
use kvgossip_grants::{Key, PublicKey};
use std::error::Error;

/// One flag.
struct Flag(Subscription);

impl Flag {
    fn is_on(&self) -> bool {
        Self::reads_as_on(&self.0.state())
    }

    fn reads_as_on(state: &State) -> bool {
        state.value.entry().is_some_and(|entry| entry.value == "on")
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [root, agent, key] = args.as_slice() else {
        return Err("usage: feature_flags ROOT.pub AGENT KEY".into());
    };
    let root = PublicKey::from_pem(&std::fs::read_to_string(root)?)?;
    let client = Client::builder().endpoint(agent.parse()?).root(root).build()?;

    let mut flag = Flag(client.subscribe(&Key::parse(key)?));
    flag.0.ready().await?;
    println!("{key} is {}", if flag.is_on() { "on" } else { "off" });
    let mut was = flag.is_on();
    loop {
        tokio::select! {
            changed = flag.0.changed() => { changed?; }
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
        let on = flag.is_on();
        if on != was {
            was = on;
            println!("{key} is {}", if on { "on" } else { "off" });
        }
    }
}
