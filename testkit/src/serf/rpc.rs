//! A client of an agent's RPC, of Serf's or of this project's, one request at a time.

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

/// A connection to an RPC server, with bytes that were read and not decoded yet.
pub struct Client {
    /// TCP connection to the server.
    pub socket: TcpStream,
    read: Vec<u8>,
    /// Sequence number of the last request; 0 before the first.
    pub seq: u64,
}

impl Client {
    /// Uses an open connection. Sends nothing.
    pub fn on(socket: TcpStream) -> Self {
        Self { socket, read: Vec::new(), seq: 0 }
    }

    /// Connects. Sends nothing.
    pub async fn silent(address: SocketAddr) -> Self {
        Self::on(TcpStream::connect(address).await.expect("it listens"))
    }

    /// Connects and does the handshake, which must succeed.
    pub async fn new(address: SocketAddr) -> Self {
        let mut client = Self::silent(address).await;
        client.greet().await.expect("a place");
        client
    }

    /// Connects and does the handshake, without a time limit; `None` if nobody listens or the connection is closed.
    pub async fn connect(address: impl ToSocketAddrs) -> Option<Self> {
        let mut client = Self::on(TcpStream::connect(address).await.ok()?);
        client.is_taken(&Request::Handshake(Handshake { version: 1 })).await?;
        Some(client)
    }

    /// Does the handshake; `None` if the connection is closed.
    pub async fn greet(&mut self) -> Option<()> {
        soon(self.is_taken(&Request::Handshake(Handshake { version: 1 }))).await
    }

    /// Sends a request and returns its sequence number. No error if the server has closed the connection.
    pub async fn send(&mut self, request: &Request) -> u64 {
        self.seq += 1;
        let _ = self.socket.write_all(&request.encode(self.seq)).await;
        self.seq
    }

    /// Reads the next value, without a time limit; `None` if the connection is closed.
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

    /// Reads the next value; the connection must not be closed.
    pub async fn value<T: Field>(&mut self) -> T {
        soon(self.next()).await.expect("still connected")
    }

    /// Sends a request whose reply has no body. Returns the error text; empty for success.
    pub async fn ask(&mut self, request: &Request) -> String {
        let seq = self.send(request).await;
        let header: ReplyHeader = self.value().await;
        assert_eq!(header.seq, seq);
        header.error.to_string()
    }

    /// Sends a request whose reply has no body, and which must succeed; `None` if the connection is closed.
    async fn is_taken(&mut self, request: &Request) -> Option<()> {
        let seq = self.send(request).await;
        let header: ReplyHeader = self.next().await?;
        assert_eq!((header.seq, header.error), (seq, Text::default()), "{request:?}");
        Some(())
    }

    /// Reads the next record of the stream that request `seq` started.
    pub async fn record<T: Field>(&mut self, seq: u64) -> T {
        assert_eq!(self.value::<ReplyHeader>().await, ReplyHeader { error: Text::default(), seq });
        self.value().await
    }

    /// Sends a user event; `None` if the connection is closed.
    pub async fn send_event(&mut self, name: &str, payload: Vec<u8>) -> Option<()> {
        let event = SendEvent { name: name.into(), payload: payload.into(), ..SendEvent::default() };
        self.is_taken(&Request::Event(event)).await
    }

    /// Sends a query to all members. Returns the names of those that acknowledge it in time; `None` if the connection
    /// is closed.
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

    /// Subscribes to user events of this name. The connection serves nothing else from then on. `None` if it is closed.
    pub async fn subscribe(&mut self, name: &str) -> Option<()> {
        self.is_taken(&Request::Stream(Stream { kind: format!("user:{name}").into() })).await
    }

    /// Reads the payload of the next subscribed event, without a time limit; `None` if the connection is closed.
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
