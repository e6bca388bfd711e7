//! Manual pages of the program itself, and of commands about agents and their gossip.

use super::{Page, page};
use crate::error::Exit::{Conflict, Error, Integrity, NotAuthorised, NotFound, Ok, TimedOut, Unreachable};

const NO_PEER: &str = "no connected peer has that id";
const REFUSED_PEER: &str =
    "the peer does not admit this replica, or the agent asks for a token or a certificate";
const WRONG_PEER: &str = "another replica than the named one answers at the address";
const NO_MEMBER: &str = "no member has that name";
const MEMBERS_LACK: &str = "some members have not done it, or the agent does not answer in time";

/// Pages in the order of the help.
pub(super) const PAGES: &[Page] = &[
    Page {
        name: "",
        examples: &[
            ("See the main functions at work on four replicas.", "kvgossip demo"),
            ("Run one agent to try things out, and ask it in another terminal.", "kvgossip agent --dev"),
            ("Describe a command.", "kvgossip help grant new"),
        ],
        exits: &[
            (NotFound, "what was asked for is not there"),
            (NotAuthorised, "not authorised"),
            (Unreachable, "no agent answers"),
            (Conflict, "a conflict with what is there"),
            (TimedOut, "timed out, or replicas still differ"),
            (Integrity, "an integrity failure: bytes, signatures or identities are not what they should be"),
        ],
        variables: &[
            ("KVGOSSIP_AGENT", "the agent's URL, for every command that asks one"),
            ("KVGOSSIP_DATA_DIR", "the agent's data directory, where its socket is"),
            ("KVGOSSIP_IDENTITY", "the private key to sign with"),
            ("KVGOSSIP_ROOT", "the public key of the cluster's root"),
        ],
    },
    page(
        "demo",
        &[
            ("Run the demonstration with 2,000 generated keys.", "kvgossip demo"),
            ("Fill the tree from a directory.", "kvgossip demo --dir /etc/skel"),
        ],
        &[(Ok, "every step did what it says"), (Error, "a step did not hold")],
    ),
    Page {
        name: "agent",
        examples: &[
            ("Run an agent on throw-away keys and ports.", "kvgossip agent --dev"),
            (
                "Run the first replica of a cluster.",
                "kvgossip agent --data-dir a --root root.pub --bind 10.0.0.1",
            ),
            (
                "Run a further one, which finds the others by gossip.",
                "kvgossip agent --data-dir b --root root.pub --bind 10.0.0.2 --join 10.0.0.1 --keyring keys.json",
            ),
            ("Take the settings from a file.", "kvgossip agent --config /etc/kvgossip/agent.toml"),
        ],
        exits: &[
            (Ok, "it was told to end, and has ended"),
            (Conflict, "another process uses the data directory"),
            (TimedOut, "no member answered in --retry-max rounds"),
            (Integrity, "the store is damaged, or older than what it acknowledged"),
        ],
        variables: &[
            (
                "KVGOSSIP_HTTP",
                "used where --http is not given; so it is for every option (a list with commas)",
            ),
            ("KVGOSSIP_REPLICA_KEY", "used where --replica-key is not given, with - as _"),
        ],
    },
    page(
        "status",
        &[("Show how the agent is.", "kvgossip status"), ("For a script.", "kvgossip status --output json")],
        &[(Ok, "the agent is well, or ready"), (Error, "it is not well or not ready, or any other error")],
    ),
    page(
        "digest",
        &[
            ("Show the digests of everything.", "kvgossip digest"),
            ("Of one part.", "kvgossip digest /app/web"),
        ],
        &[],
    ),
    page(
        "diff",
        &[
            ("Compare with a connected peer.", "kvgossip diff 1a2b3c4d"),
            ("Compare one part with a peer at an address.", "kvgossip diff 10.0.0.2:7947 /app/web"),
        ],
        &[
            (NotFound, NO_PEER),
            (NotAuthorised, REFUSED_PEER),
            (TimedOut, "the two differ, or the agent or the peer does not answer in time"),
            (Integrity, WRONG_PEER),
        ],
    ),
    page(
        "sync",
        &[
            ("Have the agent sync with a peer.", "kvgossip sync 10.0.0.2:7947"),
            (
                "Sync a directory without an agent.",
                "kvgossip sync 10.0.0.2:7947 --data-dir a --root root.pub --allow-peers peers.txt",
            ),
        ],
        &[
            (NotFound, NO_PEER),
            (NotAuthorised, REFUSED_PEER),
            (Conflict, "without an agent: another process uses the data directory"),
            (TimedOut, "the two still differ, or the agent or the peer does not answer in time"),
            (Integrity, "another replica than the named one answers, or the store is damaged"),
        ],
    ),
    page("refusals", &[("List what was refused lately.", "kvgossip refusals")], &[]),
    page(
        "members",
        &[("List the members.", "kvgossip members"), ("With their tags.", "kvgossip members --long")],
        &[],
    ),
    page(
        "join",
        &[("Join by two members.", "kvgossip join 10.0.0.2 10.0.0.3:7946")],
        &[(TimedOut, "no member answers, or the agent does not answer in time")],
    ),
    page("leave", &[("Leave the gossip before the machine goes.", "kvgossip leave")], &[]),
    page(
        "force-leave",
        &[
            ("Declare that a failed member has left.", "kvgossip force-leave web1"),
            ("Also forget it at once.", "kvgossip force-leave web1 --prune"),
        ],
        &[(NotFound, NO_MEMBER)],
    ),
    page(
        "gossip-key",
        &[
            ("See who has which key.", "kvgossip gossip-key list"),
            ("Begin a rotation.", "kvgossip gossip-key install - < new.key"),
        ],
        &[],
    ),
    page(
        "gossip-key list",
        &[("See who has which key.", "kvgossip gossip-key list")],
        &[(TimedOut, MEMBERS_LACK)],
    ),
    page(
        "gossip-key install",
        &[("Give all members a further key.", "kvgossip gossip-key install - < new.key")],
        &[(TimedOut, MEMBERS_LACK)],
    ),
    page(
        "gossip-key use",
        &[("Encrypt with a key that all members have.", "kvgossip gossip-key use - < new.key")],
        &[(TimedOut, MEMBERS_LACK)],
    ),
    page(
        "gossip-key remove",
        &[("Forget a key that no member encrypts with.", "kvgossip gossip-key remove - < old.key")],
        &[(TimedOut, MEMBERS_LACK)],
    ),
    page(
        "tags",
        &[("Set a tag.", "kvgossip tags set zone=east"), ("Remove it.", "kvgossip tags delete zone")],
        &[],
    ),
    page("tags set", &[("Set two tags.", "kvgossip tags set zone=east role=web")], &[]),
    page("tags delete", &[("Remove a tag.", "kvgossip tags delete zone")], &[]),
    page(
        "event",
        &[
            ("Send an event.", "kvgossip event deploy 1.2.3"),
            ("Send what a command prints.", "date | kvgossip event heartbeat -"),
        ],
        &[(TimedOut, "too many messages wait to be sent, or the agent does not answer in time")],
    ),
    page(
        "query",
        &[
            ("Ask all members.", "kvgossip query uptime"),
            ("Ask those with a tag.", "kvgossip query uptime --tag role=web --wait 5s"),
        ],
        &[(TimedOut, "too much gossip is under way, or the agent does not answer in time")],
    ),
    page(
        "fsck",
        &[("Check the store of an agent that does not run.", "kvgossip fsck /var/lib/kvgossip")],
        &[
            (Ok, "the store is sound"),
            (NotFound, "the directory holds no store"),
            (Conflict, "another process uses the data directory"),
            (Integrity, "the store is damaged, or older than what it acknowledged"),
        ],
    ),
    page(
        "completions",
        &[(
            "Let bash complete the commands.",
            "kvgossip completions bash > ~/.local/share/bash-completion/completions/kvgossip",
        )],
        &[],
    ),
    page(
        "man",
        &[
            ("Show the manual page.", "kvgossip man | man -l -"),
            ("Write a page for every command.", "kvgossip man /usr/local/share/man/man1"),
        ],
        &[],
    ),
];
