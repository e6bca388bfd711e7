//! Real Serf agents, and members of this crate beside them.

use std::net::SocketAddr;

use kvgossip_membership::{Event, Membership, Options, Status, Text};
use tokio::sync::mpsc;

use kvgossip_testkit::{
    serf::{Agent, GOSSIP_PORT, fresh_ip},
    wait::{PATIENCE, eventually},
};

/// A member of this crate, with the events it has heard.
pub(crate) struct Ours {
    pub(crate) member: Membership,
    events: mpsc::Receiver<Event>,
}

impl Ours {
    /// Starts a member on an address of its own.
    pub(crate) async fn start(name: &str, adapt: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::new(name, SocketAddr::from((fresh_ip(), GOSSIP_PORT)));
        adapt(&mut options);
        let (member, events) = Membership::start(options).await.expect("starts");
        Self { member, events }
    }

    pub(crate) async fn join(&self, agent: &Agent) {
        assert_eq!(self.member.join(&[agent.addr], false).await.expect("joins"), 1);
    }

    pub(crate) async fn status(&self, name: impl AsRef<[u8]>) -> Option<Status> {
        self.member.member(name).await.expect("runs").map(|member| member.status)
    }

    /// Waits until this member gives another that status.
    pub(crate) async fn sees(&self, name: impl AsRef<[u8]>, status: Status) {
        let name = Text::from(name.as_ref());
        let what = format!("ours sees {name} as {status:?}");
        eventually(&what, async || self.status(&name).await == Some(status)).await;
    }

    /// The next event that `pick` takes; others are passed over.
    pub(crate) async fn event<T>(&mut self, what: &str, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        let next = async {
            loop {
                let event = self.events.recv().await.expect("the member runs");
                if let Some(value) = pick(event) {
                    return value;
                }
            }
        };
        tokio::time::timeout(PATIENCE, next)
            .await
            .unwrap_or_else(|_| panic!("no event within {PATIENCE:?}: {what}"))
    }

    /// All events that wait.
    pub(crate) fn drain(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }
}
