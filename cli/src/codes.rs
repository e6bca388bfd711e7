//! The catalogue of stable codes: meaning and exit code.
//!
//! `docs/errors.md` is rendered from it; a test compares the two and searches the sources for missing codes.

mod http;

use crate::exit::Exit;
use kvgossip_client::ClientError;
use kvgossip_grants::Code;
use kvgossip_transport::Code as PeerCode;
use std::borrow::Cow;

/// A code's meaning for the command line.
#[derive(Clone, Debug)]
pub(crate) struct CodeInfo {
    /// The stable code.
    pub(crate) code: &'static str,
    /// Exit code of the process.
    pub(crate) exit: Exit,
    /// Explanation and remedy.
    pub(crate) help: Cow<'static, str>,
}

/// Rows of code, exit code and help text.
type Table = &'static [(&'static str, Exit, &'static str)];

macro_rules! own_codes {
    ($($name:ident = $code:literal, $exit:ident, $help:literal;)*) => {
        $(#[doc = $help] pub(crate) const $name: &str = $code;)*

        /// Codes of the command line itself.
        const OWN: Table = &[$(($name, Exit::$exit, $help),)*];
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
    CA_MALFORMED = "tls.authority", Error, "the file of --ca holds no certificate of an authority in PEM form";
    CLIENT_CERTIFICATE = "tls.client_certificate", Error, "the files of --client-cert and --client-key hold no certificate and its private key in PEM form";
    CONFIG_MALFORMED = "config.malformed", Usage, "the file of --config holds what is no setting, or it or the variable KVGOSSIP_* of a setting holds what the setting does not take; the place is named. Variables of no setting are passed over: systems make some of their own";
    LOG_FILTER = "log.filter", Usage, "--log-level takes error, warn, info, debug, trace or off, and MODULE=LEVEL for single modules, several with commas";
    TOKEN_MALFORMED = "token.malformed", Error, "the token file does not hold one line of visible ASCII";
    FACTS_MALFORMED = "facts.malformed", Error, "the file does not hold one signed fact a line, as --out writes them";
    FILE_KIND = "file.not_regular", Error, "something that is neither a file nor a directory, or a link that leads out of the directory, was left out; put a file in its place";
    FILE_NAME = "file.name", Error, "the name of a file cannot be part of a key: keys have 1024 bytes in 32 segments of 255, where a byte outside the alphabet counts 3; rename it";
    EXPORT_UNKNOWN = "export.unknown", Error, "the file was written by another version; take one that reads it";
    EXPORT_DAMAGED = "export.damaged", Integrity, "the file is cut off or damaged; make the export again, or take another copy";
    INTERRUPTED = "interrupted", Error, "the command was told to stop before its end";
    ID_UNKNOWN = "id.unknown", NotFound, "nothing that is known here has such an id; list what there is, or sync first";
    ID_AMBIGUOUS = "id.ambiguous", Usage, "several ids begin with these digits; write more of them";
    KEY_UNSET = "key.unset", NotFound, "the key has no value";
    KEY_CONFLICT = "key.conflict", Conflict, "the key does not hold the expected entry; read it again";
    REVOCATION_STRANGER = "revocation.stranger", NotAuthorised, "only root, its issuer and its grantee can revoke a grant";
    CLUSTER_MISMATCH = "cluster.mismatch", Integrity, "the agent belongs to another cluster than the one that was named; nothing was signed";
    CLOCK_SKEW = "clock.skew", Error, "the agent's clock and this machine's differ by more than 2 minutes, so nothing was signed; set the one that is wrong, or write --ignore-clock";
    FORGET_UNCONFIRMED = "agent.forget_alone", Usage, "--forget-future was given to an agent without peers, from which nothing comes back; look at the keys that would be unset, and write --yes";
    ALLOW_LIST = "peer.allow_list", Error, "the file of --allow-peers does not hold one replica id a line";
    AGENT_ADDRESS = "agent.address", Error, "an address cannot be listened on; another process may have it";
    AGENT_SOCKET = "agent.socket", Error, "the Unix socket cannot be made; give another place with --socket";
    HTTP_NOT_LOOPBACK = "agent.http_not_loopback", Usage, "HTTP in clear is served on loopback addresses only; give --tls-cert and --tls-key";
    HTTP_OPEN = "agent.http_open", Usage, "beyond loopback every value would be handed to whoever reaches the port; give --read-token-file or --tls-client-ca, or say --open-http";
    TLS_CLIENT_AUTHORITY = "tls.client_authority", Error, "the file of --tls-client-ca holds no certificate of an authority in PEM form";
    TLS_CERTIFICATE = "tls.certificate", Error, "the file of --tls-cert holds no certificate that can be served";
    TLS_KEY = "tls.key", Error, "the file of --tls-key holds no private key in PEM form";
    TLS_MISMATCH = "tls.mismatch", Error, "the key of --tls-key is not the certificate's of --tls-cert";
    ALLOWED_NOBODY = "agent.admits_nobody", Usage, "a peer without an id needs --allow-peers, or no answer could be admitted";
    COMMAND_FAILED = "command.failed", Error, "a command that was run on a change did not succeed; see what it said";
    TEMPLATE_INVALID = "template.invalid", Error, "the template cannot be rendered; the place is named";
    SYNC_ELSEWHERE = "agent.sync_elsewhere", Usage, "members dial the address of gossip, and sessions are taken at another one; give the same to --sync";
    KEYRING = "gossip.keyring", Error, "the file of --keyring cannot be read, or does not hold a JSON list of base64 keys";
    DEMO_FAILED = "demo.failed", Error, "a step of the demonstration did not hold";
}

/// Code of a failure that cannot happen unless the program is wrong. Replicas report it to each other, too.
pub(crate) const INTERNAL: &str = "internal";

/// Codes of planning grants.
const PLANS: Table = &[
    (
        "grant.out_of_reach",
        Exit::NotAuthorised,
        "a key of the pattern is beyond what the issuer holds with --subgrant; give a narrower pattern, or ask for a wider grant",
    ),
    (
        "grant.not_proven",
        Exit::NotAuthorised,
        "it could not be shown in time that the issuer's grants cover the pattern; split it into simpler patterns",
    ),
];

/// Codes between replicas beside those of the transport.
const SESSIONS: Table = &[
    (
        "peer.malformed",
        Exit::Usage,
        "The text does not name a peer; write [ID@]ADDR:PORT, or 8 digits or more of a connected peer's id.",
    ),
    (
        "peer.ambiguous",
        Exit::Usage,
        "Several connected peers' ids begin with these digits; write more of them.",
    ),
    (
        "peer.not_connected",
        Exit::NotFound,
        "No connected peer's id begins with these digits; write its address.",
    ),
];

/// Codes of gossip.
const GOSSIP: Table = &[
    ("gossip.off", Exit::Error, "the agent takes no part in gossip; start it with --bind"),
    (
        "gossip.left",
        Exit::Error,
        "the agent has left the gossip, or had left it when it was started and looks for nobody; start it again with --join or --rejoin to come back",
    ),
    (
        "gossip.name_lost",
        Exit::Conflict,
        "another member has the agent's name; start it again with another --name, or, if its data directory was copied, with a directory and so a key of its own",
    ),
    (
        "gossip.plaintext",
        Exit::Usage,
        "gossip on an address that is not loopback needs the cluster's key (--keyring), or --plaintext-gossip said out loud",
    ),
    (
        "gossip.rpc_not_loopback",
        Exit::Usage,
        "Serf's RPC is served on loopback addresses only, or with a key (--rpc-auth-file)",
    ),
    (
        "gossip.no_advertise",
        Exit::Usage,
        "gossip listens at all addresses of the machine, and none is found that others could be told; name one with --advertise",
    ),
    ("gossip.unknown_member", Exit::NotFound, "no member has that name; `kvgossip members` lists them"),
    (
        "gossip.announced_twice",
        Exit::Error,
        "two members announce one replica's id; its data directory or key was copied, or somebody forges members",
    ),
    (
        "gossip.name_claimed",
        Exit::Error,
        "another member uses this agent's name, and gives it up where most know it here; its data directory was copied, or it was given the same --name",
    ),
    (
        "gossip.full",
        Exit::Error,
        "as many members as there may be are alive, so no others are met; if there are not so many, change the gossip keys",
    ),
    (
        "gossip.other_cluster",
        Exit::Error,
        "members of a cluster with another root are in this gossip; nothing is synced with them: look at their --root",
    ),
    (
        "gossip.reserved_tag",
        Exit::Usage,
        "tags named kvgossip and kvg_… are the agent's own; give another name",
    ),
    (
        "gossip.gave_up",
        Exit::TimedOut,
        "no member of --join answered in as many rounds as --retry-max allows; check the addresses, the network and the keys",
    ),
    (
        "gossip.discover",
        Exit::Error,
        "members cannot be looked for with --discover; look at the network's multicast, or name members with --join",
    ),
    (
        "gossip.join_failed",
        Exit::TimedOut,
        "no member answered; check the addresses, the network and the keys",
    ),
    (
        "gossip.wrong_key",
        Exit::NotAuthorised,
        "members do not understand what the agent sends, or it does not understand them; compare --keyring or --encrypt, and --label, with theirs",
    ),
    ("gossip.refused", Exit::Error, "an event, a query or an answer is too long, or a filter is malformed"),
    (
        "gossip.busy",
        Exit::TimedOut,
        "too much gossip of that kind is under way or waits to be sent; try again in a moment",
    ),
    ("gossip.start", Exit::Error, "gossip cannot be started; another process may have the address"),
];

/// Codes of the store.
const STORE: Table = &[
    (
        "store.full",
        Exit::Error,
        "the disk is full; make room: the store is then opened anew by itself, everything acknowledged is there, and reading goes on meanwhile",
    ),
    (
        "store.no_room",
        Exit::Error,
        "the disk has less room left than the store may need at once (32 MiB); make room: the agent goes on by itself, and reading goes on meanwhile",
    ),
    (
        "store.quota",
        Exit::Error,
        "what is left of the limit of --max-store is too little: what fits is taken in, and what may free room, and reading goes on; `status` names the grants by bytes: delete, revoke, or give a greater limit",
    ),
    (
        "store.stalled",
        Exit::TimedOut,
        "the disk does not end a write; what was offered may be stored or not, and can be offered again: look at the disk and its file system",
    ),
    (
        "store.stopped",
        Exit::Error,
        "the store does not take anything any more; see the agent's log for the first error: where the disk has room, the store is opened anew by itself. If it stays so, restart the agent: everything acknowledged is there, and reading goes on meanwhile",
    ),
    (
        "store.damaged",
        Exit::Integrity,
        "the store is damaged; `kvgossip fsck` lists what is wrong, and `kvgossip agent --move-damaged-aside` keeps it under another name and fills an empty one from peers",
    ),
    (
        "store.rolled_back",
        Exit::Integrity,
        "the store is older than what it acknowledged: it was copied or restored, or lost its last writes; `kvgossip agent --accept-rollback` goes on from what is left, and peers bring the rest",
    ),
    ("store.missing", Exit::NotFound, "the directory holds no store; name the data directory of an agent"),
    ("store.in_use", Exit::Conflict, "another process has the data directory open"),
    ("store.format", Exit::Error, "the store was written by another version"),
    (
        "store.foreign_cluster",
        Exit::Error,
        "the data directory belongs to another cluster; check --root and --data-dir",
    ),
    (
        "store.io",
        Exit::Error,
        "the system gave an error at the store's files; see the agent's log, and restart the agent when the disk is well: everything acknowledged is there",
    ),
];

/// Codes of internal faults.
const FAULTS: Table = &[
    (
        "internal.session",
        Exit::Error,
        "a fault of the program in a session, not of the peer or the disk: please report it; the log has the detail, and the session is tried again",
    ),
    (
        "internal.committer",
        Exit::Error,
        "a fault of the program ended the thread that takes facts in: please report it; the log has the detail. Restart the agent: everything acknowledged is there, and reading goes on meanwhile",
    ),
    (
        "internal.task",
        Exit::Error,
        "a fault of the program in a piece of its work: please report it; the log has the detail. What was asked for may be tried again",
    ),
];

/// Codes of an agent's health, beside those of its store and of gossip.
const HEALTH: Table = &[
    (
        "sync.first",
        Exit::TimedOut,
        "the replica has never compared itself with a peer, though it was told of others: what it lacks says nothing, so it is not ready and answers no question by it; see `kvgossip status` for why, or ask another agent; only if it is the first replica of its cluster, start it with --ready-alone",
    ),
    (
        "sync.stale",
        Exit::TimedOut,
        "the replica has not been compared with a peer since its start, so what is read there may be old; it serves after the comparison, or after the time of --ready-after",
    ),
    (
        "sync.apart",
        Exit::TimedOut,
        "peers are connected, and none of them was known to hold the same for minutes; `kvgossip diff PEER` and `kvgossip refusals` say what differs",
    ),
    (
        "sync.refused",
        Exit::NotAuthorised,
        "a peer does not take this replica, or the other way round; the message says which and why: look at --allow-peers on both sides, and at the root keys",
    ),
    (
        "peer.turned_away",
        Exit::NotAuthorised,
        "replicas dialled in and are not taken here; the message names them with the reason: list their ids in --allow-peers if they belong to the cluster",
    ),
    (
        "sync.alone",
        Exit::Unreachable,
        "no peer is connected, so nobody can say whether the replica lacks anything; where it was told of others, look at the network and at them",
    ),
];

fn table(table: Table) -> Vec<CodeInfo> {
    table.iter().map(|(code, exit, help)| CodeInfo { code, exit: *exit, help: (*help).into() }).collect()
}

/// Returns the whole catalogue, in sections by origin.
pub(crate) fn sections() -> [(&'static str, Vec<CodeInfo>); 9] {
    let facts = Code::ALL.iter().map(|code| CodeInfo {
        code: code.as_str(),
        exit: of_fact(*code),
        help: code.help().into(),
    });
    let peers = PeerCode::ALL.iter().map(|code| CodeInfo {
        code: code.name(),
        exit: of_peer(*code),
        help: code.meaning().into(),
    });
    let client = ClientError::CODES.iter().map(|info| CodeInfo {
        code: info.code,
        exit: of_client(info.code),
        help: format!("{}; {}", info.meaning, info.advice).into(),
    });
    [
        ("Facts and authority", facts.chain(table(PLANS)).collect()),
        ("The command line", table(OWN)),
        ("Reaching an agent", client.collect()),
        ("The HTTP API", table(http::HTTP)),
        ("Between replicas", peers.chain(table(SESSIONS)).collect()),
        ("How an agent is", table(HEALTH)),
        ("Gossip", table(GOSSIP)),
        ("The store", table(STORE)),
        ("Faults of the program", table(FAULTS)),
    ]
}

/// Finds the catalogue entry of a code.
pub(crate) fn find(code: &str) -> Option<CodeInfo> {
    sections().into_iter().flat_map(|(_, codes)| codes).find(|info| info.code == code)
}

/// Returns the exit code for a known stable code.
pub(crate) fn exit(code: &str) -> Option<Exit> {
    find(code).map(|info| info.exit)
}

fn of_client(code: &str) -> Exit {
    match code {
        "agent.denied" | "agent.client_certificate" => Exit::NotAuthorised,
        "agent.timeout" => Exit::TimedOut,
        _ => Exit::Unreachable,
    }
}

fn of_peer(code: PeerCode) -> Exit {
    match code {
        PeerCode::NotAdmitted => Exit::NotAuthorised,
        PeerCode::WrongId => Exit::Integrity,
        PeerCode::HandshakeTimeout
        | PeerCode::Lost
        | PeerCode::Busy
        | PeerCode::Full
        | PeerCode::TooSlow
        | PeerCode::Cancelled
        | PeerCode::Shutdown => Exit::TimedOut,
        _ => Exit::Error,
    }
}

/// Returns the exit code for the verdict on a fact.
fn of_fact(code: Code) -> Exit {
    match code {
        Code::Known | Code::RevocationSuperseded | Code::FloorSuperseded => Exit::Ok,
        Code::Malformed | Code::BadSignature | Code::ValueMismatch => Exit::Integrity,
        Code::Floored | Code::Dominated => Exit::Conflict,
        Code::WrongSigner
        | Code::OutOfReach
        | Code::OutsideWindow
        | Code::GrantUnknown
        | Code::GrantRevoked
        | Code::GrantExpired
        | Code::GrantNotYet
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
