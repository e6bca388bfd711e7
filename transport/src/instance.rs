//! Identifies the running process behind a replica's key.
//!
//! Two processes with a copied key have one replica id, and look like a single replica that reconnects. Each
//! endpoint therefore draws a random number when it is bound, and announces it in every handshake: the dialler
//! in the TLS server name, the dialled side in its welcome. The number is unauthenticated; it only
//! distinguishes processes.

use std::fmt;
use std::sync::OnceLock;

/// Suffix of the server name that carries an instance, after the number.
const SUFFIX: &str = ".kvgossip.invalid";

/// Random number of an endpoint, drawn when it is bound, which distinguishes processes that use one replica
/// key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance(u64);

impl Instance {
    /// Creates an instance from its number, received from a peer or drawn at random.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the instance as a number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Server name that carries this instance in a dial.
    pub(crate) fn server_name(self) -> String {
        format!("i{self}{SUFFIX}")
    }

    /// Parses the instance from the server name of a dial; `None` if the name carries none.
    pub(crate) fn of_server_name(name: &str) -> Option<Self> {
        let digits = name.strip_prefix('i')?.strip_suffix(SUFFIX)?;
        let canonical =
            digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        canonical.then(|| u64::from_str_radix(digits, 16).ok()).flatten().map(Self)
    }
}

impl fmt::Display for Instance {
    /// Writes the number as 16 lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Instance that the dialler of one handshake announces; empty until the dialler's first message has been read.
pub(crate) type Told = OnceLock<Instance>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_name_tells_the_instance_and_other_names_tell_none() {
        let instance = Instance::new(0x00ab_cdef_0123_4567);
        assert_eq!(instance.server_name(), "i00abcdef01234567.kvgossip.invalid");
        assert_eq!(Instance::of_server_name(&instance.server_name()), Some(instance));
        for other in [
            "replica.kvgossip.invalid",
            "iabcdef01234567.kvgossip.invalid",
            "i+0abcdef01234567.kvgossip.invalid",
            "i00ABCDEF01234567.kvgossip.invalid",
            "i00abcdef01234567",
            "",
        ] {
            assert_eq!(Instance::of_server_name(other), None, "{other}");
        }
    }
}
