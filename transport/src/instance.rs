//! The running process behind a replica's key.
//!
//! Two processes with one copied key are one replica id and look like one that reconnects. Each endpoint therefore draws a
//! number when it is bound, and tells it in both directions of a handshake: the dialler in TLS's server name, the dialled
//! side in its welcome. It proves nothing; it tells apart.

use std::fmt;
use std::sync::OnceLock;

/// What follows the number in a server name.
const SUFFIX: &str = ".kvgossip.invalid";

/// The number of an endpoint, drawn when it was bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance(u64);

impl Instance {
    /// The instance of this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The server name by which a dialler tells its instance.
    pub(crate) fn server_name(self) -> String {
        format!("i{self}{SUFFIX}")
    }

    /// The instance that a server name tells, if it tells one.
    pub(crate) fn of_server_name(name: &str) -> Option<Self> {
        let digits = name.strip_prefix('i')?.strip_suffix(SUFFIX)?;
        let canonical =
            digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        canonical.then(|| u64::from_str_radix(digits, 16).ok()).flatten().map(Self)
    }
}

impl fmt::Display for Instance {
    /// 16 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What one handshake of a dialler tells about its instance; empty until its first message was read.
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
