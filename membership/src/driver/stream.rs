//! Tasks of TCP connections, one each.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    task::AbortHandle,
};

use crate::core::StreamId;

const CHUNK: usize = 64 * 1024;

/// Input from a TCP connection for the core: received bytes, or its end with the error, if any.
pub(super) enum Input {
    Bytes(StreamId, Vec<u8>),
    Closed(StreamId, Option<String>),
}

/// Time limits of a TCP connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) timeout: Duration,
}

/// Encoded reply, with its share of the limit on replies that are being written.
type Reply = (Vec<u8>, OwnedSemaphorePermit);

/// Driver's handle of a TCP connection. Dropping it closes the connection, unless a reply is being written.
pub(super) struct Output {
    reply: Option<oneshot::Sender<Reply>>,
    task: AbortHandle,
}

impl Output {
    /// Writes the reply and then closes the connection, in the connection's own task. `place` is held until it
    /// is written.
    pub(super) fn reply(mut self, payload: Vec<u8>, place: OwnedSemaphorePermit) {
        if let Some(sender) = self.reply.take() {
            // A connection that ended meanwhile needs no reply.
            let _ = sender.send((payload, place));
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // Once it has the reply, the task ends by itself or by its timeout.
        if self.reply.is_some() {
            self.task.abort();
        }
    }
}

/// Starts a task that serves an accepted connection as the exchange `id`.
pub(super) fn serve(socket: TcpStream, id: StreamId, inputs: mpsc::Sender<Input>, limits: Limits) -> Output {
    let (reply, reply_receiver) = oneshot::channel();
    let task = tokio::spawn(async move {
        let result = exchange(socket, id, &inputs, reply_receiver, limits).await;
        let _ = inputs.send(Input::Closed(id, result.err().map(|e| e.to_string()))).await;
    });
    Output { reply: Some(reply), task: task.abort_handle() }
}

/// Starts a task that opens a connection for the exchange `id`, writes the payload and reads. With `None` it
/// never connects, as if its packets were lost.
pub(super) fn connect(
    to: Option<SocketAddr>,
    payload: Vec<u8>,
    id: StreamId,
    inputs: mpsc::Sender<Input>,
    limits: Limits,
) -> Output {
    let (reply, reply_receiver) = oneshot::channel();
    let task = tokio::spawn(async move {
        let result = async {
            let Some(to) = to else { return std::future::pending().await };
            let mut socket = TcpStream::connect(to).await?;
            socket.write_all(&payload).await?;
            exchange(socket, id, &inputs, reply_receiver, limits).await
        };
        let result: io::Result<()> = result.await;
        let _ = inputs.send(Input::Closed(id, result.err().map(|e| e.to_string()))).await;
    });
    Output { reply: Some(reply), task: task.abort_handle() }
}

/// Passes on what the other side sends until that side ends; or writes a reply, once there is one, and ends.
async fn exchange(
    mut socket: TcpStream,
    id: StreamId,
    inputs: &mpsc::Sender<Input>,
    mut reply: oneshot::Receiver<Reply>,
    limits: Limits,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        tokio::select! {
            biased;
            payload = &mut reply => {
                let Ok((payload, _place)) = payload else { return Ok(()) };
                let write = async {
                    socket.write_all(&payload).await?;
                    socket.shutdown().await
                };
                return tokio::time::timeout(limits.timeout, write).await?;
            }
            len = socket.read(&mut chunk) => {
                let len = len?;
                if len == 0 {
                    return Ok(());
                }
                let bytes = chunk.get(..len).unwrap_or_default().to_vec();
                if inputs.send(Input::Bytes(id, bytes)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}
