//! UDP socket with enlarged buffers and an optional filter that drops datagrams.

use crate::limits::SOCKET_BUFFER;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use socket2::SockRef;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Filter for fault injection: returns `true` if datagrams from and to an address may pass.
pub type LinkFilter = Arc<dyn Fn(SocketAddr) -> bool + Send + Sync>;

/// Requests larger socket buffers than the usual 208 KiB, which are too small for the window of one session;
/// each lost datagram slows the sender down.
fn widen(socket: &UdpSocket) {
    let socket = SockRef::from(socket);
    let asked = socket.set_recv_buffer_size(SOCKET_BUFFER).and(socket.set_send_buffer_size(SOCKET_BUFFER));
    // Smaller buffers are no error.
    let (receive, send) = (socket.recv_buffer_size().ok(), socket.send_buffer_size().ok());
    tracing::debug!(?asked, receive, send, "buffers of the UDP socket, in bytes");
}

/// Wraps the UDP socket for the runtime. Without a filter the result is quinn's own socket.
pub(crate) fn wrap(socket: UdpSocket, filter: Option<LinkFilter>) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    widen(&socket);
    let inner = TokioRuntime.wrap_udp_socket(socket)?;
    Ok(match filter {
        Some(passes) => Arc::new(Filtered { inner, passes }),
        None => inner,
    })
}

struct Filtered {
    inner: Arc<dyn AsyncUdpSocket>,
    passes: LinkFilter,
}

impl fmt::Debug for Filtered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filtered").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for Filtered {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if (self.passes)(transmit.destination) { self.inner.try_send(transmit) } else { Ok(()) }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(self.inner.poll_recv(cx, bufs, meta))?;
        // quinn ignores an empty datagram.
        meta.iter_mut().take(count).filter(|meta| !(self.passes)(meta.addr)).for_each(|meta| meta.len = 0);
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_socket_gets_what_the_system_gives_at_most() {
        let bind = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (most, ours) = (bind(), bind());
        let most = SockRef::from(&most);
        most.set_recv_buffer_size(1 << 30).unwrap();
        most.set_send_buffer_size(1 << 30).unwrap();
        widen(&ours);
        let ours = SockRef::from(&ours);
        // Linux reports twice the requested size, which includes its own bookkeeping.
        let wanted = |most: usize| most.min(2 * SOCKET_BUFFER);
        assert_eq!(ours.recv_buffer_size().unwrap(), wanted(most.recv_buffer_size().unwrap()));
        assert_eq!(ours.send_buffer_size().unwrap(), wanted(most.send_buffer_size().unwrap()));
    }
}
