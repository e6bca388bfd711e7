//! The stable codes that the command line itself gives, and what each code makes the process end with.

use crate::error::Exit;
use kvgossip_client::ClientError;
use kvgossip_grants::Code;

/// What a code means to the command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodeInfo {
    /// The stable text.
    pub(crate) code: &'static str,
    /// What the process ends with.
    pub(crate) exit: Exit,
    /// What happened and what to do.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "printed in docs/errors.md, which a test keeps complete")
    )]
    pub(crate) help: &'static str,
}

macro_rules! own_codes {
    ($($name:ident = $code:literal, $exit:ident, $help:literal;)*) => {
        $(#[doc = $help] pub(crate) const $name: &str = $code;)*

        /// Codes of the command line itself.
        pub(crate) const OWN: &[CodeInfo] = &[$(CodeInfo { code: $name, exit: Exit::$exit, help: $help },)*];
    };
}

own_codes! {
    USAGE = "usage", Usage, "the command line is wrong; see `kvgossip help COMMAND`";
    KEY_MALFORMED = "key.malformed", Usage, "the text is not a key or a path prefix; the place is marked";
    GLOB_MALFORMED = "glob.malformed", Usage, "the text is not a key glob; the place is marked";
    ID_MALFORMED = "id.malformed", Usage, "the text is not an id; ids are 64 hexadecimal digits, and 8 or more name one where a grant or an entity is meant";
    TIME_MALFORMED = "time.malformed", Usage, "the text is not a time or a duration";
    TIME_PAST = "time.past", Usage, "the time must lie in the future";
    URL_MALFORMED = "url.malformed", Usage, "the text does not say where an agent is; write unix:PATH or http://HOST:PORT";
    FILE_READ = "file.unreadable", Error, "a file cannot be read; check its name and who may read it";
    FILE_WRITE = "file.unwritable", Error, "a file cannot be written; check the directory and the free space";
    FILE_EXISTS = "file.exists", Error, "the file exists and is never overwritten; name another";
    PEM_INVALID = "pem.invalid", Error, "a file does not hold the PEM key that is needed; make one with `kvgossip keygen`";
    RSA_UNSUPPORTED = "rsa.unsupported", Error, "RSA keys have 2048, 3072 or 4096 bits and the exponent 65537; make one with `kvgossip keygen`";
    TOKEN_MALFORMED = "token.malformed", Error, "the token file does not hold one line of visible ASCII";
    FACTS_MALFORMED = "facts.malformed", Error, "the file does not hold one signed fact a line, as --out writes them";
    ID_UNKNOWN = "id.unknown", NotFound, "nothing that is known here has such an id; list what there is, or sync first";
    ID_AMBIGUOUS = "id.ambiguous", Usage, "several ids begin with these digits; write more of them";
    KEY_UNSET = "key.unset", NotFound, "the key has no value";
    ENTRY_CHANGED = "entry.changed", Conflict, "the key is not at the expected entry; read it again";
    GRANT_NONE = "grant.none", NotAuthorised, "no grant to the entity is known here; ask for one, or sync";
    REVOCATION_STRANGER = "revocation.stranger", NotAuthorised, "only root, its issuer and its grantee can revoke a grant";
    CLUSTER_MISMATCH = "cluster.mismatch", Integrity, "the agent belongs to another cluster than the one that was named; nothing was signed";
    CLOCK_SKEW = "clock.skew", Error, "the agent's clock is far ahead of this machine's; set the clocks";
    PEER_MALFORMED = "peer.malformed", Usage, "a peer is written [ID@]HOST:PORT, with a replica id of 64 hexadecimal digits";
    ALLOW_LIST = "peer.allow_list", Error, "the file of --allow-peers does not hold one replica id a line";
    AGENT_ADDRESS = "agent.address", Error, "an address cannot be listened on; another process may have it";
    AGENT_SOCKET = "agent.socket", Error, "the Unix socket cannot be made; give another place with --socket";
    HTTP_NOT_LOOPBACK = "agent.http_not_loopback", Usage, "plain HTTP is served on loopback addresses only";
    ALLOWED_NOBODY = "agent.admits_nobody", Usage, "a peer without an id needs --allow-peers, or no answer could be admitted";
    DEMO_FAILED = "demo.failed", Error, "a step of the demonstration did not hold";
    INTERNAL = "internal", Error, "an operation that does not fail has failed; please report it";
}

/// The exit code of a stable code that this program knows.
pub(crate) fn exit(code: &str) -> Option<Exit> {
    let own = OWN.iter().find(|info| info.code == code).map(|info| info.exit);
    let fact = || Code::ALL.iter().find(|known| known.as_str() == code).map(|known| of_fact(*known));
    own.or_else(fact).or_else(|| of_connection(code))
}

/// The exit code of what went wrong between this program and an agent.
fn of_connection(code: &str) -> Option<Exit> {
    match code {
        "agent.denied" => Some(Exit::NotAuthorised),
        "agent.timeout" => Some(Exit::TimedOut),
        _ => ClientError::CODES.iter().any(|info| info.code == code).then_some(Exit::Unreachable),
    }
}

/// The exit code of what came of a fact.
fn of_fact(code: Code) -> Exit {
    match code {
        Code::Known | Code::RevocationBettered | Code::FloorBettered => Exit::Ok,
        Code::Malformed | Code::BadSignature | Code::ValueMismatch => Exit::Integrity,
        Code::Floored | Code::Dominated => Exit::Conflict,
        Code::WrongSigner
        | Code::OutOfReach
        | Code::OutsideWindow
        | Code::GrantUnknown
        | Code::GrantRevoked
        | Code::GrantExpired
        | Code::NotRoot
        | Code::RootCites
        | Code::WrongIssuer
        | Code::NoSubgrant
        | Code::TooDeep => Exit::NotAuthorised,
        _ => Exit::Error,
    }
}

#[cfg(test)]
#[path = "codes_tests.rs"]
mod tests;
