//! What clients ask for.

use super::{MAX_REQUEST_VALUES, message};
use crate::wire::{
    field::Field,
    msgpack::{self, DecodeError, Reader},
};

/// Declares the commands once: their names, what they are followed by, and what their replies are.
macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $text:literal $(($body:ty))? $(-> $reply:ty)?,)*) => {
        /// The name of a request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Command {
            $($(#[$doc])* $name,)*
        }

        /// A request that an agent does. `handshake` and `auth` end in the [`Session`](super::Session).
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Request {
            $($(#[$doc])* $name $(($body))?,)*
        }

        impl Command {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// Whether a body follows the request's header.
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
            /// The request's name.
            pub const fn command(&self) -> Command {
                match self {
                    $(Self::$name { .. } => Command::$name,)*
                }
            }

            /// Reads the body of a command; the bytes of one that has none are not looked at.
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
    /// Begins a connection.
    Handshake = "handshake" (message::Handshake),
    /// Comes next if the agent has a key.
    Auth = "auth" (message::Auth),
    /// All members.
    Members = "members" -> message::Members,
    /// Some members.
    MembersFiltered = "members-filtered" (message::MembersFiltered) -> message::Members,
    /// An event to all members.
    Event = "event" (message::SendEvent),
    /// A question to members; records follow.
    Query = "query" (message::Ask),
    /// An answer to a query of a stream.
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
    /// Another key decrypts.
    InstallKey = "install-key" (message::ChangeKey) -> message::Keys,
    /// This key encrypts.
    UseKey = "use-key" (message::ChangeKey) -> message::Keys,
    /// This key no longer decrypts.
    RemoveKey = "remove-key" (message::ChangeKey) -> message::Keys,
    /// Which keys members have.
    ListKeys = "list-keys" -> message::Keys,
    /// What there is to know of the agent.
    Stats = "stats" -> message::Stats,
    /// A member's place in the network.
    GetCoordinate = "get-coordinate" (message::GetCoordinate) -> message::CoordinateReply,
}

impl Command {
    /// The command of that name.
    pub fn parse(name: impl AsRef<[u8]>) -> Option<Self> {
        Self::ALL.iter().copied().find(|command| command.name().as_bytes() == name.as_ref())
    }
}

impl Request {
    /// The request as a client writes it.
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
