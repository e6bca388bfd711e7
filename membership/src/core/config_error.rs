//! Errors of a configuration.

use std::net::{IpAddr, SocketAddr};

/// Error of checking a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The name is empty or longer than 255 bytes.
    #[error("a member's name has 1 to 255 bytes")]
    Name,
    /// Other members cannot send to the advertised address: its IP address is unspecified or multicast, or its
    /// port is 0.
    #[error("cannot advertise {0}: an address and a port that others can send to are needed")]
    Advertise(SocketAddr),
    /// The advertised address is in none of the allowed networks.
    #[error("{0} is in none of the networks in which members' addresses have to lie")]
    NotAllowed(IpAddr),
    /// The label is longer than 255 bytes.
    #[error("a label has at most 255 bytes")]
    Label,
    /// The probe timeout is not shorter than the probe interval, so no time is left for indirect probes.
    #[error("the probe timeout must be shorter than the probe interval")]
    ProbeTimeout,
    /// An interval, timeout, multiplier or fan-out is out of its range: the member would flood others, or fail
    /// to find them.
    #[error("the {what} cannot be {given}; {least} to {most} are allowed")]
    Timing {
        /// Name of the setting, such as `probe interval`.
        what: &'static str,
        /// Configured value, with its unit if it is a duration.
        given: String,
        /// Smallest allowed value, with its unit if it is a duration.
        least: String,
        /// Largest allowed value, with its unit if it is a duration.
        most: String,
    },
    /// The size limit for events, queries or responses is out of its range: messages would be too long to send,
    /// or nothing useful would fit.
    #[error("the {what} size limit is {limit} bytes; {least} to {most} are allowed")]
    Limit {
        /// Kind of the messages that the limit applies to.
        what: &'static str,
        /// Configured value, in bytes.
        limit: usize,
        /// Smallest allowed value, in bytes.
        least: usize,
        /// Largest allowed value, in bytes.
        most: usize,
    },
    /// The encoded tags have this number of bytes; a member's metadata holds 512.
    #[error("the tags take {0} bytes, 512 are allowed")]
    Tags(usize),
}
