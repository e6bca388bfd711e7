//! Names of the stable codes that commands give. The [catalogue](kvgossip_api::codes) has meaning, advice and exit code.

use kvgossip_api::codes::find;

pub(crate) use kvgossip_api::codes::Exit;

macro_rules! names {
    ($($name:ident = $code:literal;)*) => {
        $(#[doc = concat!("`", $code, "`")] pub(crate) const $name: &str = $code;)*
    };
}

names! {
    USAGE = "usage";
    KEY_MALFORMED = "key.malformed";
    GLOB_MALFORMED = "glob.malformed";
    ID_MALFORMED = "id.malformed";
    TIME_MALFORMED = "time.malformed";
    TIME_PAST = "time.past";
    URL_MALFORMED = "url.malformed";
    FILE_READ = "file.unreadable";
    FILE_WRITE = "file.unwritable";
    FILE_EXISTS = "file.exists";
    PEM_INVALID = "pem.invalid";
    RSA_UNSUPPORTED = "rsa.unsupported";
    CA_MALFORMED = "tls.authority";
    CLIENT_CERTIFICATE = "tls.client_certificate";
    CONFIG_MALFORMED = "config.malformed";
    LOG_FILTER = "log.filter";
    TOKEN_MALFORMED = "token.malformed";
    FACTS_MALFORMED = "facts.malformed";
    FILE_KIND = "file.not_regular";
    FILE_NAME = "file.name";
    EXPORT_UNKNOWN = "export.unknown";
    EXPORT_DAMAGED = "export.damaged";
    INTERRUPTED = "interrupted";
    ID_UNKNOWN = "id.unknown";
    ID_AMBIGUOUS = "id.ambiguous";
    KEY_UNSET = "key.unset";
    KEY_CONFLICT = "key.conflict";
    REVOCATION_STRANGER = "revocation.stranger";
    CLUSTER_MISMATCH = "cluster.mismatch";
    CLOCK_SKEW = "clock.skew";
    FORGET_UNCONFIRMED = "agent.forget_alone";
    ALLOW_LIST = "peer.allow_list";
    AGENT_ADDRESS = "agent.address";
    HTTP_NOT_LOOPBACK = "agent.http_not_loopback";
    HTTP_OPEN = "agent.http_open";
    ALLOWED_NOBODY = "agent.admits_nobody";
    COMMAND_FAILED = "command.failed";
    TEMPLATE_INVALID = "template.invalid";
    SYNC_ELSEWHERE = "agent.sync_elsewhere";
    KEYRING = "gossip.keyring";
    DEMO_FAILED = "demo.failed";
    INTERNAL = "internal";
}

/// Returns the exit code of a stable code; `None` if this program does not know the code.
pub(crate) fn exit(code: &str) -> Option<Exit> {
    find(code).map(|info| info.exit)
}

/// Returns meaning and advice of a stable code, in one line; `None` for an unknown code.
pub(crate) fn help(code: &str) -> Option<String> {
    find(code).map(|info| info.help())
}
