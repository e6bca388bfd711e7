//! Requests of clients.

use super::{MAX_REQUEST_VALUES, message};
use crate::wire::{
    field::Field,
    msgpack::{self, DecodeError, Reader},
};

/// Declares the commands once: their names, bodies and replies.
macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $text:literal $(($body:ty))? $(-> $reply:ty)?,)*) => {
        /// Name of a request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Command {
            $($(#[$doc])* $name,)*
        }

        /// Request for an agent. `handshake` and `auth` are handled by the [`Session`](super::Session).
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Request {
            $($(#[$doc])* $name $(($body))?,)*
        }

        impl Command {
            /// All commands.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Name on the wire.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// Returns whether a body follows the request's header.
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
            /// Command of the request.
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
    /// Authenticates; the second request if the agent has a key.
    Auth = "auth" (message::Auth),
    /// Lists all members.
    Members = "members" -> message::Members,
    /// Lists some members.
    MembersFiltered = "members-filtered" (message::MembersFiltered) -> message::Members,
    /// Sends an event to all members.
    Event = "event" (message::SendEvent),
    /// Sends a query to members; records follow.
    Query = "query" (message::Ask),
    /// Responds to a query of a stream.
    Respond = "respond" (message::Respond),
    /// Contacts members.
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
    /// Ends a subscription.
    Stop = "stop" (message::Stop),
    /// Adds a key for decryption.
    InstallKey = "install-key" (message::ChangeKey) -> message::Keys,
    /// Makes a key the one that encrypts.
    UseKey = "use-key" (message::ChangeKey) -> message::Keys,
    /// Removes a key.
    RemoveKey = "remove-key" (message::ChangeKey) -> message::Keys,
    /// Lists the members' keys.
    ListKeys = "list-keys" -> message::Keys,
    /// Returns the agent's statistics.
    Stats = "stats" -> message::Stats,
    /// Returns the network coordinate of a member.
    GetCoordinate = "get-coordinate" (message::GetCoordinate) -> message::CoordinateReply,
}

impl Command {
    /// Parses a command name.
    pub fn parse(name: impl AsRef<[u8]>) -> Option<Self> {
        Self::ALL.iter().copied().find(|command| command.name().as_bytes() == name.as_ref())
    }
}

impl Request {
    /// Encodes the request as a client does.
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
