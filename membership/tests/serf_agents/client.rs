//! A client of an agent's RPC, of Serf's or of this project's, that keeps its connection.

use std::{collections::BTreeSet, time::Duration};

use kvgossip_membership::{
    rpc::{
        Request,
        message::{Ask, Handshake, QueryRecord, ReplyHeader, SendEvent, Stream, UserEvent},
    },
    wire::{
        field::Field,
        msgpack::{DecodeError, Reader},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub(crate) struct Client {
    socket: TcpStream,
    read: Vec<u8>,
    seq: u64,
}

impl Client {
    /// None if nobody listens there.
    pub(crate) async fn connect(address: &str) -> Option<Self> {
        let socket = TcpStream::connect(address).await.ok()?;
        let mut client = Self { socket, read: Vec::new(), seq: 0 };
        client.ask(&Request::Handshake(Handshake { version: 1 })).await?;
        Some(client)
    }

    /// Sends a request whose reply has no body; none when the agent has ended.
    pub(crate) async fn ask(&mut self, request: &Request) -> Option<()> {
        self.seq += 1;
        self.socket.write_all(&request.encode(self.seq)).await.ok()?;
        let header: ReplyHeader = self.value().await?;
        assert_eq!((header.seq, header.error), (self.seq, "".into()), "{request:?}");
        Some(())
    }

    /// The next value; none when the agent has ended.
    pub(crate) async fn value<T: Field>(&mut self) -> Option<T> {
        loop {
            let mut reader = Reader::new(&self.read);
            match T::decode(&mut reader) {
                Ok(value) => {
                    self.read.drain(..reader.position());
                    return Some(value);
                }
                Err(DecodeError::Truncated { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            self.socket.read_buf(&mut self.read).await.ok().filter(|len| *len > 0)?;
        }
    }

    /// Sends an event; none when the agent has ended.
    pub(crate) async fn send_event(&mut self, name: &str, payload: Vec<u8>) -> Option<()> {
        let event = SendEvent { name: name.into(), payload: payload.into(), ..SendEvent::default() };
        self.ask(&Request::Event(event)).await
    }

    /// Asks all members, and gives the names of those who acknowledge it in time; none when the agent has ended.
    pub(crate) async fn acks(&mut self, name: &str, timeout: Duration) -> Option<BTreeSet<String>> {
        let timeout_ns = timeout.as_nanos().try_into().expect("a short time");
        let ask = Ask { name: name.into(), request_ack: true, timeout_ns, ..Ask::default() };
        self.ask(&Request::Query(ask)).await?;
        let mut acks = BTreeSet::new();
        loop {
            self.value::<ReplyHeader>().await?;
            let record: QueryRecord = self.value().await?;
            match record.kind.to_str().unwrap_or_default() {
                "ack" => _ = acks.insert(record.from.to_string()),
                "done" => return Some(acks),
                _ => {}
            }
        }
    }

    /// Subscribes to the events of that name; the connection serves nothing else from then on.
    pub(crate) async fn subscribe(&mut self, name: &str) -> Option<()> {
        self.ask(&Request::Stream(Stream { kind: format!("user:{name}").into() })).await
    }

    /// The payload of the next event that is subscribed to; none when the agent has ended.
    pub(crate) async fn event(&mut self) -> Option<Vec<u8>> {
        self.value::<ReplyHeader>().await?;
        let event: UserEvent = self.value().await?;
        Some(event.payload.0.unwrap_or_default())
    }
}
