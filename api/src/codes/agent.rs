//! Codes of an agent's health, gossip and store, and of faults of the program.

use super::{CodeInfo, Exit, refusal, row};

/// Codes of reduced health of an agent that have their cause neither in the store nor in gossip.
pub(super) const HEALTH: &[CodeInfo] = &[
    refusal(
        "sync.first",
        503,
        Exit::TimedOut,
        "the replica was told of others and has never compared itself with a peer, so it is not ready and answers no question by what it holds",
        "see `kvgossip status` for why, or ask another agent; only if it is the first replica of its cluster, start it with --ready-alone",
    ),
    row(
        "sync.stale",
        Exit::TimedOut,
        "the replica has not been compared with a peer since its start, so what is read there may be old",
        "wait: it serves after the comparison, or after the time of --ready-after",
    ),
    row(
        "sync.apart",
        Exit::TimedOut,
        "peers are connected, and none of them was known to hold the same for minutes",
        "see what differs with `kvgossip diff PEER` and `kvgossip refusals`",
    ),
    row(
        "sync.refused",
        Exit::NotAuthorised,
        "a peer does not take this replica, or the other way round; the message says which and why",
        "check --allow-peers on both sides, and the root keys",
    ),
    row(
        "peer.turned_away",
        Exit::NotAuthorised,
        "replicas dialled in and are not taken here; the message names them with the reason",
        "list their ids in --allow-peers if they belong to the cluster",
    ),
    row(
        "sync.alone",
        Exit::Unreachable,
        "no peer is connected, so nobody can say whether the replica lacks anything",
        "where it was told of others, check the network and whether they run",
    ),
];

/// Catalogue entries of the codes of gossip.
pub(super) const GOSSIP: &[CodeInfo] = &[
    refusal("gossip.off", 409, Exit::Error, "the agent takes no part in gossip", "start it with --bind"),
    refusal(
        "gossip.left",
        409,
        Exit::Error,
        "the agent has left the gossip, or had left it when it was started and looks for nobody",
        "start it again with --join or --rejoin to come back",
    ),
    refusal(
        "gossip.name_lost",
        409,
        Exit::Conflict,
        "another member has the agent's name",
        "start it again with another --name, or, if its data directory was copied, with a directory and so a key of its own",
    ),
    row(
        "gossip.plaintext",
        Exit::Usage,
        "gossip on an address that is not loopback needs the cluster's key",
        "give --keyring, or allow clear text with --plaintext-gossip",
    ),
    row(
        "gossip.rpc_not_loopback",
        Exit::Usage,
        "Serf's RPC without a key is served on loopback addresses only",
        "give --rpc-auth-file, or a loopback address",
    ),
    row(
        "gossip.no_advertise",
        Exit::Usage,
        "gossip listens at all addresses of the machine, and none is found that others could be told",
        "name one with --advertise",
    ),
    refusal(
        "gossip.unknown_member",
        404,
        Exit::NotFound,
        "no member has that name",
        "see the names with `kvgossip members`",
    ),
    row(
        "gossip.announced_twice",
        Exit::Error,
        "two members announce one replica's id: its data directory or key was copied, or somebody forges members",
        "stop one of them, and give it a data directory of its own",
    ),
    row(
        "gossip.name_claimed",
        Exit::Error,
        "another member uses this agent's name, and gives it up where most know it here: its data directory was copied, or it was given the same --name",
        "give that member another name or a data directory of its own",
    ),
    row(
        "gossip.full",
        Exit::Error,
        "as many members as there may be are alive, so no others are met",
        "if there are not so many, change the gossip keys",
    ),
    row(
        "gossip.other_cluster",
        Exit::Error,
        "members of a cluster with another root are in this gossip, and nothing is synced with them",
        "check their --root, or give them a gossip of their own",
    ),
    refusal(
        "gossip.reserved_tag",
        400,
        Exit::Usage,
        "tags named kvgossip and kvg_… are the agent's own",
        "give another name",
    ),
    row(
        "gossip.gave_up",
        Exit::TimedOut,
        "no member of --join answered in as many rounds as --retry-max allows",
        "check the addresses, the network and the keys",
    ),
    row(
        "gossip.discover",
        Exit::Error,
        "members cannot be looked for with --discover",
        "check the network's multicast, or name members with --join",
    ),
    refusal(
        "gossip.join_failed",
        502,
        Exit::TimedOut,
        "no member answered",
        "check the addresses, the network and the keys",
    ),
    row(
        "gossip.wrong_key",
        Exit::NotAuthorised,
        "members do not understand what the agent sends, or it does not understand them",
        "compare --keyring or --encrypt, and --label, with theirs",
    ),
    refusal(
        "gossip.refused",
        400,
        Exit::Error,
        "an event, a query or an answer is too long, or a filter is malformed",
        "make it shorter, or correct it",
    ),
    refusal(
        "gossip.busy",
        503,
        Exit::TimedOut,
        "too much gossip of that kind is under way or waits to be sent",
        "try again in a moment",
    ),
    row(
        "gossip.start",
        Exit::Error,
        "gossip cannot be started",
        "check whether another process has the address",
    ),
];

/// Catalogue entries of the codes of the store.
pub(super) const STORE: &[CodeInfo] = &[
    refusal(
        "store.full",
        503,
        Exit::Error,
        "the disk is full",
        "make room: the agent then opens the store again by itself, everything acknowledged is there, and reading goes on meanwhile",
    ),
    refusal(
        "store.no_room",
        503,
        Exit::Error,
        "the disk has less free space than the 32 MiB that the store may need at once",
        "make room: the agent then goes on by itself, and reading goes on meanwhile",
    ),
    refusal(
        "store.quota",
        503,
        Exit::Error,
        "the store has reached the limit of --max-store",
        "delete or revoke what `kvgossip status` lists by grants, or give a greater limit: what fits and what frees room is still taken in, and reading goes on",
    ),
    refusal(
        "store.stalled",
        503,
        Exit::TimedOut,
        "a write to the disk does not end",
        "check the disk and its file system: what was offered may be stored or not, and can be offered again",
    ),
    refusal(
        "store.stopped",
        503,
        Exit::Error,
        "the store takes nothing in after an earlier failure",
        "see the first error in the agent's log: where the disk has room, the agent opens the store again by itself; otherwise restart it. Everything acknowledged is there, and reading goes on meanwhile",
    ),
    refusal(
        "store.damaged",
        503,
        Exit::Integrity,
        "the store is damaged",
        "see what is wrong with `kvgossip fsck`, and start `kvgossip agent` once with --move-damaged-aside, which keeps this store under another name and begins with an empty one: peers fill it, and what no peer has is lost",
    ),
    refusal(
        "store.rolled_back",
        503,
        Exit::Integrity,
        "the store is older than what it acknowledged: it was copied or restored, or lost its last writes",
        "start `kvgossip agent` once with --accept-rollback, which goes on from what is left, or with --move-damaged-aside, which keeps this store under another name and begins with an empty one: peers (--join, --peer) bring the rest, and what no peer has is lost",
    ),
    refusal(
        "store.missing",
        503,
        Exit::NotFound,
        "the directory holds no store",
        "name the data directory of an agent",
    ),
    refusal(
        "store.in_use",
        503,
        Exit::Conflict,
        "another process has the data directory open",
        "stop that agent, or talk to it",
    ),
    refusal(
        "store.format",
        503,
        Exit::Error,
        "the store has the format of another version",
        "start a program of the version that wrote it, or name an empty data directory",
    ),
    refusal(
        "store.foreign_cluster",
        503,
        Exit::Error,
        "the data directory belongs to another cluster",
        "check --root and --data-dir",
    ),
    refusal(
        "store.foreign_file",
        503,
        Exit::Error,
        "a file that does not belong to the store lies among its files",
        "move that file away: the store itself is as it was",
    ),
    refusal(
        "store.io",
        503,
        Exit::Error,
        "the system reported an error at the store's files, or a link or a device is in the place of one",
        "check the path that the message names and the disk, and start the agent again; if a file is lost, see store.damaged",
    ),
];

/// Catalogue entries of the codes of faults of the program.
pub(super) const FAULTS: &[CodeInfo] = &[
    refusal(
        "internal.session",
        500,
        Exit::Error,
        "a fault of the program in a session, not of the peer or the disk",
        "please report it with the agent's log, which has the detail; the session is tried again",
    ),
    refusal(
        "internal.committer",
        500,
        Exit::Error,
        "a fault of the program ended the thread that takes facts in",
        "please report it with the agent's log, which has the detail, and restart the agent: everything acknowledged is there, and reading goes on meanwhile",
    ),
    refusal(
        "internal.task",
        500,
        Exit::Error,
        "a fault of the program in a piece of its work",
        "please report it with the agent's log, which has the detail; what was asked for may be tried again",
    ),
];
