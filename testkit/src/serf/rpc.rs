//! A client of an agent's RPC, of Serf's or of this project's, request by request.

use crate::wait::soon;
use kvgossip_membership::{
    Text,
    rpc::{
        Request,
        message::{Ask, Handshake, QueryRecord, ReplyHeader, SendEvent, Stream, UserEvent},
    },
    wire::{
        field::Field,
        msgpack::{DecodeError, Reader},
    },
};
use std::{collections::BTreeSet, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, ToSocketAddrs},
};

/// A connection, and what was read of it and not decoded yet.
pub struct Client {
    /// The connection.
    pub socket: TcpStream,
    read: Vec<u8>,
    /// The number of the last request.
    pub seq: u64,
}

impl Client {
    /// A client on a connection that is there, without a word.
    pub fn on(socket: TcpStream) -> Self {
        Self { socket, read: Vec::new(), seq: 0 }
    }

    /// Connects, without a word.
    pub async fn silent(address: SocketAddr) -> Self {
        Self::on(TcpStream::connect(address).await.expect("it listens"))
    }

    /// Connects and greets, which must succeed.
    pub async fn new(address: SocketAddr) -> Self {
        let mut client = Self::silent(address).await;
        client.greet().await.expect("a place");
        client
    }

    /// Connects and greets, however long it takes; none if nobody listens there or the connection is closed.
    pub async fn connect(address: impl ToSocketAddrs) -> Option<Self> {
        let mut client = Self::on(TcpStream::connect(address).await.ok()?);
        client.is_taken(&Request::Handshake(Handshake { version: 1 })).await?;
        Some(client)
    }

    /// Greets; none if the connection is closed.
    pub async fn greet(&mut self) -> Option<()> {
        soon(self.is_taken(&Request::Handshake(Handshake { version: 1 }))).await
    }

    /// Sends a request, and gives its number. A server that has closed the connection already is no failure.
    pub async fn send(&mut self, request: &Request) -> u64 {
        self.seq += 1;
        let _ = self.socket.write_all(&request.encode(self.seq)).await;
        self.seq
    }

    /// The next value, however long it takes; none if the connection is closed.
    async fn next<T: Field>(&mut self) -> Option<T> {
        loop {
            let mut reader = Reader::new(&self.read);
            match T::decode(&mut reader) {
                Ok(value) => {
                    self.read.drain(..reader.position());
                    return Some(value);
                }
                Err(DecodeError::Truncated { .. }) => {}
                Err(error) => panic!("{error}: {:02x?}", self.read),
            }
            self.socket.read_buf(&mut self.read).await.ok().filter(|len| *len > 0)?;
        }
    }

    /// The next value; the connection must stay.
    pub async fn value<T: Field>(&mut self) -> T {
        soon(self.next()).await.expect("still connected")
    }

    /// Sends a request without a reply's body and gives the error; empty for none.
    pub async fn ask(&mut self, request: &Request) -> String {
        let seq = self.send(request).await;
        let header: ReplyHeader = self.value().await;
        assert_eq!(header.seq, seq);
        header.error.to_string()
    }

    /// Sends a request without a reply's body, which must not be refused; none if the connection is closed.
    async fn is_taken(&mut self, request: &Request) -> Option<()> {
        let seq = self.send(request).await;
        let header: ReplyHeader = self.next().await?;
        assert_eq!((header.seq, header.error), (seq, Text::default()), "{request:?}");
        Some(())
    }

    /// The next record of a stream.
    pub async fn record<T: Field>(&mut self, seq: u64) -> T {
        assert_eq!(self.value::<ReplyHeader>().await, ReplyHeader { error: Text::default(), seq });
        self.value().await
    }

    /// Sends an event; none if the connection is closed.
    pub async fn send_event(&mut self, name: &str, payload: Vec<u8>) -> Option<()> {
        let event = SendEvent { name: name.into(), payload: payload.into(), ..SendEvent::default() };
        self.is_taken(&Request::Event(event)).await
    }

    /// Asks all members, and gives the names of those who acknowledge it in time; none if the connection is closed.
    pub async fn acks(&mut self, name: &str, timeout: Duration) -> Option<BTreeSet<String>> {
        let timeout_ns = timeout.as_nanos().try_into().expect("a short time");
        let ask = Ask { name: name.into(), request_ack: true, timeout_ns, ..Ask::default() };
        self.is_taken(&Request::Query(ask)).await?;
        let mut acks = BTreeSet::new();
        loop {
            self.next::<ReplyHeader>().await?;
            let record: QueryRecord = self.next().await?;
            match record.kind.to_str().unwrap_or_default() {
                "ack" => _ = acks.insert(record.from.to_string()),
                "done" => return Some(acks),
                _ => {}
            }
        }
    }

    /// Subscribes to the events of that name; the connection serves nothing else from then on.
    pub async fn subscribe(&mut self, name: &str) -> Option<()> {
        self.is_taken(&Request::Stream(Stream { kind: format!("user:{name}").into() })).await
    }

    /// The payload of the next event that is subscribed to, however long it takes; none if the connection is closed.
    pub async fn event(&mut self) -> Option<Vec<u8>> {
        self.next::<ReplyHeader>().await?;
        let event: UserEvent = self.next().await?;
        Some(event.payload.0.unwrap_or_default())
    }

    /// Waits until the server closes the connection.
    pub async fn until_closed(mut self) {
        while let Ok(1..) = soon(self.socket.read_buf(&mut self.read)).await {
            self.read.clear();
        }
    }
}
