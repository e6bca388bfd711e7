//! Requests of clients.

use super::{MAX_REQUEST_VALUES, message};
use crate::wire::{
    field::Field,
    msgpack::{self, DecodeError, Reader},
};

/// Declares the commands once: their names, bodies and replies.
macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $text:literal $(($body:ty))? $(-> $reply:ty)?,)*) => {
        /// Command of a request: what the client asks the agent to do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Command {
            $($(#[$doc])* $name,)*
        }

        /// Request for an agent: a command with its body. `handshake` and `auth` are handled by the
        /// [`Session`](super::Session).
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Request {
            $($(#[$doc])* $name $(($body))?,)*
        }

        impl Command {
            /// All commands, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Name of the command on the wire.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// Returns whether requests with this command have a body after the header.
            pub const fn has_body(self) -> bool {
                match self {
                    $(Self::$name => commands!(@has $($body)?),)*
                }
            }

            /// Appends an empty body, if replies to this command have one.
            pub(super) fn write_empty_body(self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$name => commands!(@empty out $($reply)?),)*
                }
            }
        }

        impl Request {
            /// Command of this request.
            pub const fn command(&self) -> Command {
                match self {
                    $(Self::$name { .. } => Command::$name,)*
                }
            }

            /// Decodes the body of a command; `body` is ignored if the command has none.
            pub fn decode(command: Command, body: &[u8]) -> Result<Self, DecodeError> {
                let reader = &mut Reader::bounded(body, MAX_REQUEST_VALUES);
                Ok(match command {
                    $(Command::$name => Self::$name $((<$body as Field>::decode(reader)?))?,)*
                })
            }

            fn encode_body(&self, out: &mut Vec<u8>) {
                match self {
                    $(commands!(@pattern $name body $($body)?) => commands!(@encode out body $($body)?),)*
                }
            }
        }
    };
    (@has $body:ty) => { true };
    (@has) => { false };
    (@empty $out:ident $reply:ty) => { Field::encode(&<$reply>::default(), $out) };
    (@empty $out:ident) => { () };
    (@pattern $name:ident $body:ident $ty:ty) => { Self::$name($body) };
    (@pattern $name:ident $body:ident) => { Self::$name };
    (@encode $out:ident $body:ident $ty:ty) => { Field::encode($body, $out) };
    (@encode $out:ident $body:ident) => { () };
}

commands! {
    /// Starts a connection.
    Handshake = "handshake" (message::Handshake),
    /// Authenticates with the agent's key; the second request of a connection if the agent has a key.
    Auth = "auth" (message::Auth),
    /// Lists all members.
    Members = "members" -> message::Members,
    /// Lists the members that match the given expressions.
    MembersFiltered = "members-filtered" (message::MembersFiltered) -> message::Members,
    /// Sends a user event to all members.
    Event = "event" (message::SendEvent),
    /// Sends a query to members; records with their answers follow the reply.
    Query = "query" (message::Ask),
    /// Responds to a query received in an event stream.
    Respond = "respond" (message::Respond),
    /// Contacts members, to join their cluster.
    Join = "join" (message::Join) -> message::Joined,
    /// Leaves the cluster and ends the agent.
    Leave = "leave",
    /// Declares that a failed member has left.
    ForceLeave = "force-leave" (message::ForceLeave),
    /// Changes the agent's own tags.
    Tags = "tags" (message::ChangeTags),
    /// Subscribes to events.
    Stream = "stream" (message::Stream),
    /// Subscribes to the log.
    Monitor = "monitor" (message::Monitor),
    /// Ends an event stream, a monitor or a query of an earlier request.
    Stop = "stop" (message::Stop),
    /// Adds a key to all members' keyrings, for decryption.
    InstallKey = "install-key" (message::ChangeKey) -> message::Keys,
    /// Makes a key of all members' keyrings the one that encrypts.
    UseKey = "use-key" (message::ChangeKey) -> message::Keys,
    /// Removes a key from all members' keyrings.
    RemoveKey = "remove-key" (message::ChangeKey) -> message::Keys,
    /// Lists the members' keys.
    ListKeys = "list-keys" -> message::Keys,
    /// Returns the agent's statistics.
    Stats = "stats" -> message::Stats,
    /// Returns the network coordinate of a member.
    GetCoordinate = "get-coordinate" (message::GetCoordinate) -> message::CoordinateReply,
}

impl Command {
    /// Parses the name of a command on the wire; `None` if it is unknown.
    pub fn parse(name: impl AsRef<[u8]>) -> Option<Self> {
        Self::ALL.iter().copied().find(|command| command.name().as_bytes() == name.as_ref())
    }
}

impl Request {
    /// Encodes the request under the number `seq`, as a client sends it.
    pub fn encode(&self, seq: u64) -> Vec<u8> {
        // The header's order is that of Serf's own clients.
        let mut bytes = Vec::new();
        msgpack::write_map(&mut bytes, 2);
        msgpack::write_raw(&mut bytes, b"Command");
        msgpack::write_raw(&mut bytes, self.command().name().as_bytes());
        msgpack::write_raw(&mut bytes, b"Seq");
        msgpack::write_uint(&mut bytes, seq);
        self.encode_body(&mut bytes);
        bytes
    }
}
