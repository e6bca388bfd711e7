//! Options of `kvgossip agent` that Serf's agents have under the same name and with the same meaning.

use super::agent_timings::TimingArgs;
use crate::codes;
use crate::error::{Failure, Result};
use crate::files::unreadable;
use crate::text;
use clap::{Args, ValueEnum};
use kvgossip_agent::files::read_own;
use kvgossip_agent::gossip::{EventHandler, GossipConfig, MAX_HANDLERS, read_tags};
use kvgossip_membership::core::Snapshot;
use kvgossip_membership::{IpNet, Limits, Timing};
use std::io;
use std::path::{Path, PathBuf};

/// Maximum size of a snapshot that is read, in bytes; Serf's agents compact their snapshots far below.
const MAX_SNAPSHOT_BYTES: usize = 4 << 20;

/// Options that Serf's agents have, too.
#[derive(Clone, Debug, Args)]
pub(super) struct SerfArgs {
    /// A command to run for events of the gossip, as Serf's agents run it. EVENT is member-join, member-leave,
    /// member-failed, member-update, member-reap, user, user:NAME, query, query:NAME or *, or several with commas;
    /// without EVENT the command runs for all. It gets the event in its environment (SERF_EVENT, ...) and on its
    /// standard input. If it succeeds, its output answers a query, at most 1,024 bytes with the rest of the answer.
    /// For each option one command runs at a time, and further events wait. Repeatable.
    #[arg(long = "event-handler", value_name = "[EVENT=]COMMAND", value_parser = handler)]
    handlers: Vec<EventHandler>,
    /// A file with this member's tags, a JSON object of texts. The agent stores changes of the tags there.
    #[arg(long, value_name = "FILE", conflicts_with = "tags")]
    tags_file: Option<PathBuf>,
    /// Kind of network that gossip is timed for: members far apart need longer waits before they count as failed. All
    /// members should have the same.
    #[arg(long, value_enum, default_value = "lan")]
    profile: Profile,
    /// A label in clear before all packets of gossip. Packets with another label, or with none, are refused.
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// Networks of members' addresses: members with other addresses are not taken in. Repeatable, or with commas
    /// [default: any address].
    #[arg(long, value_name = "NETWORK", value_delimiter = ',', value_parser = network)]
    cidrs_allowed: Vec<IpNet>,
    /// Also deliver user events from before this member joined.
    #[arg(long)]
    replay: bool,
    /// Rejoin the members of the last run although it ended by leaving.
    #[arg(long)]
    rejoin: bool,
    /// File in which this member remembers the others, and how far it had received events [default: gossip-members in
    /// the data directory].
    #[arg(long, value_name = "FILE")]
    snapshot: Option<PathBuf>,
    /// The longest user event that this member sends, in bytes: its name and payload, and their encoding of some 30 bytes. 64 to
    /// 9216; more than some 1,300 bytes go over TCP [default: 512].
    #[arg(long, value_name = "BYTES", value_parser = text::whole::<usize>)]
    user_event_size_limit: Option<usize>,
    /// The longest query that this member asks, in bytes, with its encoding and its filters; 1024 to 9216 [default: 1024].
    #[arg(long, value_name = "BYTES", value_parser = text::whole::<usize>)]
    query_size_limit: Option<usize>,
    /// The longest answer that this member gives to a query, in bytes, with its encoding; 512 to 9216 [default: 1024].
    #[arg(long, value_name = "BYTES", value_parser = text::whole::<usize>)]
    query_response_size_limit: Option<usize>,
    // The last one, because its heading applies to all that follow.
    #[command(flatten)]
    timings: TimingArgs,
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

/// Parses `ADDRESS/BITS`, or a single address.
fn network(text: &str) -> std::result::Result<IpNet, String> {
    let network = text.parse().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
    network.map_err(|_| format!("{text:?} is no network: write 10.0.0.0/8 or fd00::/8, or a single address"))
}

impl SerfArgs {
    /// Returns the name of one of these options on the command line that has no meaning without --bind; `None` if there
    /// is none.
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
            (self.user_event_size_limit.is_some(), "--user-event-size-limit"),
            (self.query_size_limit.is_some(), "--query-size-limit"),
            (self.query_response_size_limit.is_some(), "--query-response-size-limit"),
        ];
        let own = given.into_iter().find(|(given, _)| *given).map(|(_, option)| option);
        own.or_else(|| self.timings.without_bind())
    }

    fn limits(&self) -> Result<Limits> {
        let default = Limits::default();
        let limits = Limits {
            user_event: self.user_event_size_limit.unwrap_or(default.user_event),
            query: self.query_size_limit.unwrap_or(default.query),
            response: self.query_response_size_limit.unwrap_or(default.response),
        };
        limits.check().map_err(|error| Failure::new(codes::USAGE, error.to_string()))?;
        Ok(limits)
    }

    /// Applies the options to the gossip configuration.
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
        config.timing = self.timings.apply(self.profile.timing())?;
        config.limits = self.limits()?;
        config.label = self.label.clone().unwrap_or_default();
        config.allowed.clone_from(&self.cidrs_allowed);
        config.replay = self.replay;
        config.rejoin_after_leave = self.rejoin;
        if let Some(path) = &self.snapshot {
            check_snapshot(path)?;
            config.snapshot = Some(path.clone());
        }
        Ok(())
    }
}

/// Rejects an existing file that is not a gossip snapshot, because the agent would overwrite it.
fn check_snapshot(path: &Path) -> Result<()> {
    let bytes = match read_own(path, MAX_SNAPSHOT_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unreadable(path, &error)),
    };
    if Snapshot::recognizes(&bytes) {
        return Ok(());
    }
    let text =
        format!("{} is no snapshot of a Serf agent or of this one, and is left as it is", path.display());
    Err(Failure::new(codes::FILE_READ, text)
        .note("name the file of a snapshot with --snapshot, or one that is not there yet"))
}
