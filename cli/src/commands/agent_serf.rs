//! What `kvgossip agent` is told about gossip by those who know Serf's agents: options of the same name and meaning.

use crate::codes;
use crate::error::{Failure, Result};
use clap::{Args, ValueEnum};
use kvgossip_agent::gossip::{EventHandler, GossipConfig, MAX_HANDLERS, read_tags};
use kvgossip_membership::{IpNet, Timing};
use std::path::PathBuf;

/// Options that Serf's agents have, too.
#[derive(Clone, Debug, Args)]
pub(super) struct SerfArgs {
    /// A command that is run for what gossip tells, as Serf's agents run it: EVENT is member-join, member-leave, member-failed,
    /// member-update, member-reap, user, user:NAME, query, query:NAME or *, several with commas; all without. It is told of
    /// the event in its environment (SERF_EVENT, ...) and on its standard input; what it writes answers a query if it succeeds,
    /// at most 1,024 bytes with the rest of the answer.
    /// One runs at a time for each option, others wait. Repeatable.
    #[arg(long = "event-handler", value_name = "[EVENT=]COMMAND", value_parser = handler)]
    handlers: Vec<EventHandler>,
    /// A file with this member's tags, a JSON object of texts. Changes of the tags are stored there.
    #[arg(long, value_name = "FILE", conflicts_with = "tags")]
    tags_file: Option<PathBuf>,
    /// For what network gossip is timed: members far apart need longer waits before they are taken for failed. All members have
    /// the same.
    #[arg(long, value_enum, default_value = "lan")]
    profile: Profile,
    /// A name in clear in front of all packets of gossip: members with another one, or with none, are not heard.
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// The networks in which members' addresses have to lie: others are not taken in, whoever names them. Repeatable, or with
    /// commas [default: any address].
    #[arg(long, value_name = "NETWORK", value_delimiter = ',', value_parser = network)]
    cidrs_allowed: Vec<IpNet>,
    /// Tell also of user events from before this member joined.
    #[arg(long)]
    replay: bool,
    /// Rejoin the members of the last run although it ended by leaving.
    #[arg(long)]
    rejoin: bool,
    /// The file in which this member remembers the others, and how far it had heard [default: gossip-members in the data
    /// directory].
    #[arg(long, value_name = "FILE")]
    snapshot: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// A local network.
    Lan,
    /// Links with round trips of hundreds of milliseconds.
    Wan,
    /// Members on one machine.
    Local,
}

impl Profile {
    fn timing(self) -> Timing {
        match self {
            Self::Lan => Timing::lan(),
            Self::Wan => Timing::wan(),
            Self::Local => Timing::local(),
        }
    }
}

fn handler(text: &str) -> std::result::Result<EventHandler, String> {
    text.parse().map_err(|error| format!("{error}"))
}

/// `ADDRESS/BITS`, or a single address.
fn network(text: &str) -> std::result::Result<IpNet, String> {
    let network = text.parse().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
    network.map_err(|_| format!("{text:?} is no network: write 10.0.0.0/8 or fd00::/8, or a single address"))
}

impl SerfArgs {
    /// An option that means nothing without --bind.
    pub(super) fn without_bind(&self) -> Option<&'static str> {
        let given = [
            (!self.handlers.is_empty(), "--event-handler"),
            (self.tags_file.is_some(), "--tags-file"),
            (self.profile != Profile::Lan, "--profile"),
            (self.label.is_some(), "--label"),
            (!self.cidrs_allowed.is_empty(), "--cidrs-allowed"),
            (self.replay, "--replay"),
            (self.rejoin, "--rejoin"),
            (self.snapshot.is_some(), "--snapshot"),
        ];
        given.into_iter().find(|(given, _)| *given).map(|(_, option)| option)
    }

    /// Puts everything into the agent's configuration.
    pub(super) fn apply(&self, config: &mut GossipConfig) -> Result<()> {
        if self.handlers.len() > MAX_HANDLERS {
            let message =
                format!("{} event handlers are too many, {MAX_HANDLERS} are allowed", self.handlers.len());
            return Err(
                Failure::new(codes::USAGE, message).note("let one command look at SERF_EVENT for several")
            );
        }
        config.handlers.clone_from(&self.handlers);
        if let Some(path) = &self.tags_file {
            config.tags =
                read_tags(path).map_err(|error| Failure::new(codes::FILE_READ, error.to_string()))?;
            config.tags_file = Some(path.clone());
        }
        config.timing = self.profile.timing();
        config.label = self.label.clone().unwrap_or_default();
        config.allowed.clone_from(&self.cidrs_allowed);
        config.replay = self.replay;
        config.rejoin_after_leave = self.rejoin;
        if let Some(path) = &self.snapshot {
            config.snapshot = Some(path.clone());
        }
        Ok(())
    }
}
