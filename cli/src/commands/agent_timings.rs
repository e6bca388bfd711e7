//! Options for single timings of gossip, which override those of the profile.

use crate::codes;
use crate::error::{Failure, Result};
use crate::{text, time};
use clap::Args;
use kvgossip_membership::Timing;
use std::time::Duration;

/// Single timings. What is not given is the profile's.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Timings of gossip (of all members the same)")]
pub(super) struct TimingArgs {
    /// Interval between probes of a member; 10ms to 10m [default: 1s, with --profile wan 5s].
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    probe_interval: Option<Duration>,
    /// Time without an answer after which others are asked to probe, too; shorter than the interval [default: 500ms,
    /// wan 3s, local 200ms].
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    probe_timeout: Option<Duration>,
    /// How long a suspect has to defend itself, as a multiple of the probe interval that grows with the cluster; 1 to 100
    /// [default: 4, wan 6, local 3].
    #[arg(long, value_name = "N", value_parser = text::whole::<u32>)]
    suspicion_mult: Option<u32>,
    /// Interval between packets of news; 10ms to 1m [default: 200ms, wan 500ms, local 100ms].
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    gossip_interval: Option<Duration>,
    /// Number of members that get news at a time; 1 to 64 [default: 3, wan 4].
    #[arg(long, value_name = "N", value_parser = text::whole::<u16>)]
    gossip_nodes: Option<u16>,
    /// Number of times that a piece of news is sent, as a multiple of the logarithm of the cluster's size; 1 to 100
    /// [default: 4, local 2].
    #[arg(long, value_name = "N", value_parser = text::whole::<u32>)]
    retransmit_mult: Option<u32>,
    /// Interval between comparisons of all states with a random member, longer above 32 members; 1s to 1d [default:
    /// 30s, wan 60s, local 15s].
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    push_pull_interval: Option<Duration>,
    /// Interval between attempts to reach failed members; 100ms to 1d [default: 30s].
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    reconnect_interval: Option<Duration>,
    /// Time after which a failed member is forgotten; 1s to 3650d [default: 24h].
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    reconnect_timeout: Option<Duration>,
    /// Time after which a member that left is forgotten; 1s to 3650d [default: 24h].
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    tombstone_timeout: Option<Duration>,
    /// Maximum time for which each of the two steps of leaving waits for its message to go out; 100ms to 10m. An agent
    /// that is told to end waits at most 3s in all [default: 5s].
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    broadcast_timeout: Option<Duration>,
}

impl TimingArgs {
    /// Returns the name of one of these options on the command line that has no meaning without --bind; `None` if there
    /// is none.
    pub(super) fn without_bind(&self) -> Option<&'static str> {
        let given = [
            (self.probe_interval.is_some(), "--probe-interval"),
            (self.probe_timeout.is_some(), "--probe-timeout"),
            (self.suspicion_mult.is_some(), "--suspicion-mult"),
            (self.gossip_interval.is_some(), "--gossip-interval"),
            (self.gossip_nodes.is_some(), "--gossip-nodes"),
            (self.retransmit_mult.is_some(), "--retransmit-mult"),
            (self.push_pull_interval.is_some(), "--push-pull-interval"),
            (self.reconnect_interval.is_some(), "--reconnect-interval"),
            (self.reconnect_timeout.is_some(), "--reconnect-timeout"),
            (self.tombstone_timeout.is_some(), "--tombstone-timeout"),
            (self.broadcast_timeout.is_some(), "--broadcast-timeout"),
        ];
        given.into_iter().find(|(given, _)| *given).map(|(_, option)| option)
    }

    /// Returns the profile's timings, overridden by those given.
    pub(super) fn apply(&self, profile: Timing) -> Result<Timing> {
        let timing = Timing {
            probe_interval: self.probe_interval.unwrap_or(profile.probe_interval),
            probe_timeout: self.probe_timeout.unwrap_or(profile.probe_timeout),
            suspicion_mult: self.suspicion_mult.unwrap_or(profile.suspicion_mult),
            gossip_interval: self.gossip_interval.unwrap_or(profile.gossip_interval),
            gossip_fanout: self.gossip_nodes.map_or(profile.gossip_fanout, usize::from),
            retransmit_mult: self.retransmit_mult.unwrap_or(profile.retransmit_mult),
            push_pull_interval: self.push_pull_interval.unwrap_or(profile.push_pull_interval),
            reconnect_interval: self.reconnect_interval.unwrap_or(profile.reconnect_interval),
            reconnect_timeout: self.reconnect_timeout.unwrap_or(profile.reconnect_timeout),
            tombstone_timeout: self.tombstone_timeout.unwrap_or(profile.tombstone_timeout),
            broadcast_timeout: self.broadcast_timeout.unwrap_or(profile.broadcast_timeout),
            ..profile
        };
        timing.check().map_err(|error| Failure::new(codes::USAGE, error.to_string()))?;
        Ok(timing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, FromArgMatches};

    fn applied(args: &[&str], profile: Timing) -> Result<Timing> {
        let command = TimingArgs::augment_args(Command::new("agent").no_binary_name(true));
        let parsed = command.try_get_matches_from(args).expect("good options");
        TimingArgs::from_arg_matches(&parsed).expect("good values").apply(profile)
    }

    #[test]
    fn each_option_sets_its_own_timing_and_no_other() {
        let s = Duration::from_secs;
        let lan = Timing::lan;
        for (option, expected) in [
            ("--probe-interval=2s", Timing { probe_interval: s(2), ..lan() }),
            ("--probe-timeout=900ms", Timing { probe_timeout: Duration::from_millis(900), ..lan() }),
            ("--suspicion-mult=7", Timing { suspicion_mult: 7, ..lan() }),
            ("--gossip-interval=1s", Timing { gossip_interval: s(1), ..lan() }),
            ("--gossip-nodes=9", Timing { gossip_fanout: 9, ..lan() }),
            ("--retransmit-mult=5", Timing { retransmit_mult: 5, ..lan() }),
            ("--push-pull-interval=1m30s", Timing { push_pull_interval: s(90), ..lan() }),
            ("--reconnect-interval=10s", Timing { reconnect_interval: s(10), ..lan() }),
            ("--reconnect-timeout=72h0m0s", Timing { reconnect_timeout: s(72 * 3600), ..lan() }),
            ("--tombstone-timeout=1.5h", Timing { tombstone_timeout: s(5400), ..lan() }),
            ("--broadcast-timeout=10s", Timing { broadcast_timeout: s(10), ..lan() }),
        ] {
            assert_eq!(applied(&[option], lan()).expect(option), expected, "{option}");
        }
        assert_eq!(applied(&[], Timing::wan()).expect("nothing"), Timing::wan());
        let wan = applied(&["--probe-interval=4s"], Timing::wan()).expect("allowed");
        assert_eq!(wan, Timing { probe_interval: s(4), ..Timing::wan() });
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        for (options, named) in [
            (&["--probe-interval=1ms"][..], "the probe interval cannot be 1ms; 10ms to 10m are allowed"),
            // The profile's timeout is longer than this interval.
            (&["--probe-interval=500ms"], "the probe timeout must be shorter than the probe interval"),
            (&["--gossip-nodes=0"], "the number of gossip nodes cannot be 0"),
            (&["--reconnect-timeout=4000d"], "the reconnect timeout cannot be 4000d"),
        ] {
            let refused = applied(options, Timing::lan()).expect_err(named);
            assert_eq!(refused.code(), codes::USAGE);
            assert!(refused.message().contains(named), "{}", refused.message());
        }
        let both = ["--probe-interval=500ms", "--probe-timeout=100ms"];
        assert!(applied(&both, Timing::lan()).is_ok());
    }
}
