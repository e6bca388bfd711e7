//! Codes between replicas.

use super::{CodeInfo, Exit, refusal, row};

/// Codes of connections, sessions and the names of peers.
pub(super) const PEERS: &[CodeInfo] = &[
    row(
        "connection.closed",
        Exit::Error,
        "the connection or stream was no longer needed",
        "nothing; it is opened again when it is needed",
    ),
    row("shutdown", Exit::TimedOut, "the replica is shutting down", "ask another, or again later"),
    refusal(
        "internal",
        500,
        Exit::Error,
        "a fault of the program",
        "please report it with the log of the replica, which has the detail",
    ),
    row(
        "connection.unknown_code",
        Exit::Error,
        "the peer gave a code that this version does not know",
        "compare the versions",
    ),
    row(
        "peer.not_admitted",
        Exit::NotAuthorised,
        "the peer's replica key is not admitted",
        "list its id in --allow-peers of the replica that refuses it",
    ),
    row(
        "peer.wrong_id",
        Exit::Integrity,
        "a replica with another id than the expected one answered at the address",
        "check the id and the address of --peer",
    ),
    row(
        "peer.foreign_cluster",
        Exit::Error,
        "the peer belongs to a cluster with another root key",
        "check --root and the address",
    ),
    row(
        "peer.bad_key",
        Exit::Error,
        "the peer showed no acceptable RSA key, or could not prove that it has it",
        "check the replica key of the peer",
    ),
    row(
        "peer.incompatible",
        Exit::Error,
        "the peer speaks another protocol or another version of it",
        "compare the versions, and check the address",
    ),
    row(
        "peer.own_key",
        Exit::Error,
        "the peer has this replica's own key: it is this replica, or a copy of its key file",
        "give the copy a data directory of its own",
    ),
    row(
        "peer.duplicate",
        Exit::Error,
        "another connection between the same two replicas stays",
        "nothing; the other connection is used",
    ),
    row(
        "peer.misbehaved",
        Exit::Error,
        "the peer sent too much that had to be refused",
        "see the peer's log, and who runs it",
    ),
    row(
        "peer.full",
        Exit::TimedOut,
        "the replica has no room for another connection",
        "try again later, or at another replica",
    ),
    row(
        "peer.handshake_timeout",
        Exit::TimedOut,
        "the peer did not finish the handshake in time, or nothing answers at the address",
        "check the address and the network, and that the peer runs",
    ),
    row(
        "connection.lost",
        Exit::TimedOut,
        "nothing was heard from the peer any more, or it has restarted",
        "check the network; the connection is tried again",
    ),
    row(
        "peer.cannot_dial",
        Exit::Error,
        "no connection to the address can be attempted",
        "check the address",
    ),
    row(
        "peer.cloned",
        Exit::Error,
        "two running processes use one replica key, such as that of a copied data directory",
        "stop one of them, and give it a data directory of its own",
    ),
    row(
        "peer.shut_out",
        Exit::Error,
        "the peer misbehaved, and is not talked with for a time that grows with each offence",
        "see the peer's log, and who runs it",
    ),
    row(
        "session.busy",
        Exit::TimedOut,
        "another session between the same two replicas is under way",
        "try again in a moment",
    ),
    row(
        "session.protocol",
        Exit::Error,
        "the peer broke the session's protocol",
        "compare the versions; if they are equal, please report it",
    ),
    row(
        "session.too_slow",
        Exit::TimedOut,
        "the peer stalled, or sent or took less than the minimum rate",
        "check the network and the load of the peer; the session is tried again",
    ),
    row(
        "session.frame_too_large",
        Exit::Error,
        "the peer announced a frame over the limit",
        "compare the versions; if they are equal, please report it",
    ),
    row(
        "session.cancelled",
        Exit::TimedOut,
        "one side gave the session up before it was done",
        "nothing; it is tried again",
    ),
    row(
        "session.version",
        Exit::Error,
        "the peer speaks another version of the session protocol",
        "compare the versions",
    ),
    row(
        "store.failed",
        Exit::Error,
        "the replica's store failed, and nothing that it acknowledged is lost",
        "see `status` at that replica",
    ),
    row(
        "peer.malformed",
        Exit::Usage,
        "the text does not name a peer",
        "write [ID@]ADDR:PORT, or 8 digits or more of a connected peer's id",
    ),
    row(
        "peer.ambiguous",
        Exit::Usage,
        "several connected peers' ids begin with these digits",
        "write more of them",
    ),
    row(
        "peer.not_connected",
        Exit::NotFound,
        "no connected peer's id begins with these digits",
        "write its address",
    ),
];
