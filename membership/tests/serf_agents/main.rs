//! This crate's member and real Serf agents in one cluster, in both directions.
//!
//! Needs the program `serf` (Debian's package `serf`, or a release of Serf) on the PATH.

mod bytes;
mod common;
mod departures;
mod exchange;
mod failures;
mod flood;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use kvgossip_membership::{
    Event, Text,
    driver::{Link, LinkFilter},
};

fn tags(pairs: &[(&str, &str)]) -> kvgossip_membership::Tags {
    pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
}

fn user_event(event: Event) -> Option<(Text, Vec<u8>)> {
    match event {
        Event::UserEvent { name, payload, .. } => Some((name, payload)),
        _ => None,
    }
}

/// A link filter with a switch, and the switch: `true` lets everything pass.
fn switch(blocked: fn(Link) -> bool) -> (LinkFilter, Arc<AtomicBool>) {
    let open = Arc::new(AtomicBool::new(true));
    let shared = open.clone();
    (Arc::new(move |link| shared.load(Ordering::Relaxed) || !blocked(link)), open)
}
