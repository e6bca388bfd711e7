//! A client of Serf's RPC, request by request.

use super::PATIENCE;
use kvgossip_membership::{
    Text,
    rpc::{
        Request,
        message::{Handshake, ReplyHeader},
    },
    wire::{
        field::Field,
        msgpack::{DecodeError, Reader},
    },
};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub(super) struct Client {
    pub(super) socket: TcpStream,
    pub(super) read: Vec<u8>,
    pub(super) seq: u64,
}

impl Client {
    /// Connects, without a word.
    pub(super) async fn silent(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.expect("it listens");
        Self { socket, read: Vec::new(), seq: 0 }
    }

    pub(super) async fn new(address: SocketAddr) -> Self {
        let mut client = Self::silent(address).await;
        client.greet().await.expect("a place");
        client
    }

    /// None if the connection is closed.
    pub(super) async fn greet(&mut self) -> Option<()> {
        self.send(&Request::Handshake(Handshake { version: 1 })).await;
        let header = self.try_value::<ReplyHeader>().await?;
        assert_eq!((header.seq, header.error), (self.seq, Text::default()));
        Some(())
    }

    pub(super) async fn send(&mut self, request: &Request) -> u64 {
        self.seq += 1;
        // A server that has closed the connection already is what some tests wait for.
        let _ = self.socket.write_all(&request.encode(self.seq)).await;
        self.seq
    }

    /// The next value; none if the connection is closed.
    pub(super) async fn try_value<T: Field>(&mut self) -> Option<T> {
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
            let read = tokio::time::timeout(PATIENCE, self.socket.read_buf(&mut self.read)).await;
            if !read.expect("in time").is_ok_and(|len| len > 0) {
                return None;
            }
        }
    }

    pub(super) async fn value<T: Field>(&mut self) -> T {
        self.try_value().await.expect("still connected")
    }

    /// Sends a request without a reply's body and gives the error; empty for none.
    pub(super) async fn ask(&mut self, request: &Request) -> String {
        let seq = self.send(request).await;
        let header: ReplyHeader = self.value().await;
        assert_eq!(header.seq, seq);
        header.error.to_string()
    }

    /// The next record of a stream.
    pub(super) async fn record<T: Field>(&mut self, seq: u64) -> T {
        assert_eq!(self.value::<ReplyHeader>().await, ReplyHeader { error: Text::default(), seq });
        self.value().await
    }

    /// Waits until the server closes the connection.
    pub(super) async fn until_closed(mut self) {
        loop {
            let read = tokio::time::timeout(PATIENCE, self.socket.read_buf(&mut self.read)).await;
            match read.expect("it is closed in time") {
                Ok(0) | Err(_) => return,
                Ok(_) => self.read.clear(),
            }
        }
    }
}
