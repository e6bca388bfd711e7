//! Access rights of requests over TCP.

use kvgossip_grants::{Digest, value_hash};

/// The tokens and certificates that give rights over TCP. The Unix socket needs none.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    /// Hash of the token that gives all rights of the Unix socket; `None`: no such token.
    write: Option<Digest>,
    /// Hash of the token that gives the right to read; `None`: no such token.
    read: Option<Digest>,
    /// Whether a client certificate gives the right to read.
    certificates: bool,
}

/// The credentials that a request shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown<'a> {
    /// Bearer token of the request; `None`: the request has none.
    pub token: Option<&'a str>,
    /// Whether the client authenticated with a certificate of the configured authority.
    pub certificate: bool,
}

impl Rights {
    /// Creates rights from the token for everything, the token for reading, and whether certificates allow reading.
    pub fn new(write: Option<&str>, read: Option<&str>, certificates: bool) -> Self {
        let hash = |token: &str| value_hash(token.as_bytes());
        Self { write: write.map(hash), read: read.map(hash), certificates }
    }

    /// Whether reading over TCP requires a credential.
    pub fn guard_reads(&self) -> bool {
        self.read.is_some() || self.certificates
    }

    /// Whether a request that shows these credentials may read.
    pub fn may_read(&self, shown: Shown<'_>) -> bool {
        let by_certificate = self.certificates && shown.certificate;
        !self.guard_reads() || by_certificate || is_token(self.read, shown) || self.may_write(shown)
    }

    /// Whether the token of a request is one of the agent's.
    pub fn knows(&self, shown: Shown<'_>) -> bool {
        is_token(self.write, shown) || is_token(self.read, shown)
    }

    /// Whether a request may use the agent's identity, change the agent or make it dial.
    pub fn may_write(&self, shown: Shown<'_>) -> bool {
        is_token(self.write, shown)
    }
}

/// Whether a request shows the token with the hash `own`. Compares hashes in constant time, so that timing reveals
/// nothing about the token.
fn is_token(own: Option<Digest>, shown: Shown<'_>) -> bool {
    let (Some(own), Some(given)) = (own, shown.token) else { return false };
    let given = value_hash(given.as_bytes());
    own.as_bytes().iter().zip(given.as_bytes()).fold(0, |unequal, (a, b)| unequal | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_what() {
        let show = |token, certificate| Shown { token, certificate };
        let tokens = [None, Some("write"), Some("read"), Some("other"), Some("")];
        // Columns: write token, read token, certificates allowed; tokens that may read, whether a certificate may.
        for (write, read, certificates, reads, by_certificate) in [
            (None, None, false, &tokens[..], true),
            (Some("write"), None, false, &tokens[..], true),
            (None, Some("read"), false, &[Some("read")][..], false),
            (Some("write"), Some("read"), false, &[Some("write"), Some("read")], false),
            (Some("write"), None, true, &[Some("write")], true),
            (None, None, true, &[], true),
        ] {
            let rights = Rights::new(write, read, certificates);
            for token in tokens {
                let case = format!("{rights:?} {token:?}");
                assert_eq!(rights.may_read(show(token, false)), reads.contains(&token), "{case}");
                let known = token.is_some() && (token == write || token == read);
                assert_eq!(rights.knows(show(token, true)), known, "{case}");
                let reads = reads.contains(&token) || by_certificate;
                assert_eq!(rights.may_read(show(token, true)), reads, "{case}");
                for certificate in [false, true] {
                    let writes = write.is_some() && token == write;
                    assert_eq!(rights.may_write(show(token, certificate)), writes, "{case}");
                }
            }
        }
    }
}
