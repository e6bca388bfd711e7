//! Errors of a configuration.

use std::net::{IpAddr, SocketAddr};

/// Error of checking a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The name is empty or longer than 255 bytes.
    #[error("a member's name has 1 to 255 bytes")]
    Name,
    /// The advertised address cannot be reached by others.
    #[error("cannot advertise {0}: an address and a port that others can send to are needed")]
    Advertise(SocketAddr),
    /// The advertised address is in none of the allowed networks.
    #[error("{0} is in none of the networks in which members' addresses have to lie")]
    NotAllowed(IpAddr),
    /// The label is longer than 255 bytes.
    #[error("a label has at most 255 bytes")]
    Label,
    /// The probe timeout leaves no time for indirect probes.
    #[error("the probe timeout must be shorter than the probe interval")]
    ProbeTimeout,
    /// A timing is out of its range: the member would flood others, or fail to find them.
    #[error("the {what} cannot be {given}; {least} to {most} are allowed")]
    Timing {
        /// Name of the timing.
        what: &'static str,
        /// Configured value.
        given: String,
        /// Minimum.
        least: String,
        /// Maximum.
        most: String,
    },
    /// A size limit is out of its range: messages would be too long to send, or nothing useful would fit.
    #[error("the {what} size limit is {limit} bytes; {least} to {most} are allowed")]
    Limit {
        /// Name of the limit.
        what: &'static str,
        /// Configured value, in bytes.
        limit: usize,
        /// Minimum, in bytes.
        least: usize,
        /// Maximum, in bytes.
        most: usize,
    },
    /// The tags do not fit into a member's metadata.
    #[error("the tags take {0} bytes, 512 are allowed")]
    Tags(usize),
}
