//! Sockets of multicast DNS.

use super::message::PORT;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::UdpSocket;

const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// Hop limit of multicast DNS packets, by which receivers recognise packets from their own link (RFC 6762, section
/// 11).
const HOPS: u32 = 255;

/// The network interface on which multicast DNS packets are sent and received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interface {
    /// One of the interface's IPv4 addresses; `None`: the system chooses the interface.
    pub(super) v4: Option<Ipv4Addr>,
    /// Index of the interface; 0: the system chooses the interface.
    pub(super) index: u32,
}

/// The IP version of a multicast DNS group: 224.0.0.251 or ff02::fb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn group(self) -> SocketAddr {
        match self {
            Self::V4 => SocketAddr::new(GROUP_V4.into(), PORT),
            Self::V6 => SocketAddr::new(GROUP_V6.into(), PORT),
        }
    }

    /// Opens a UDP socket bound to the address `at`, which sends to the multicast group from the interface.
    fn socket(self, interface: Interface, at: SocketAddr) -> io::Result<Socket> {
        let domain = Domain::for_address(at);
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        match self {
            Self::V4 => {
                socket.set_multicast_if_v4(&interface.v4.unwrap_or(Ipv4Addr::UNSPECIFIED))?;
                socket.set_multicast_ttl_v4(HOPS)?;
            }
            Self::V6 => {
                socket.set_only_v6(true)?;
                socket.set_multicast_if_v6(interface.index)?;
                socket.set_multicast_hops_v6(HOPS)?;
            }
        }
        // Other programs on this machine may use the same port.
        if at.port() == PORT {
            socket.set_reuse_address(true)?;
        }
        socket.bind(&at.into())?;
        Ok(socket)
    }

    /// Opens a socket that receives queries. It is bound to the group's address; unicast packets are for other
    /// programs on the same port.
    pub(super) fn listen(self, interface: Interface) -> io::Result<UdpSocket> {
        let socket = self.socket(interface, self.group())?;
        match self {
            Self::V4 => {
                let at = interface.v4.map_or(InterfaceIndexOrAddress::Index(interface.index), |ip| {
                    InterfaceIndexOrAddress::Address(ip)
                });
                socket.join_multicast_v4_n(&GROUP_V4, &at)?;
            }
            Self::V6 => socket.join_multicast_v6(&GROUP_V6, interface.index)?,
        }
        UdpSocket::from_std(socket.into())
    }

    /// Opens a socket for queries on a port of its own, so that the answers do not go to another program on the
    /// multicast DNS port.
    pub(super) fn ask(self, interface: Interface) -> io::Result<UdpSocket> {
        let any: IpAddr = match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        UdpSocket::from_std(self.socket(interface, SocketAddr::new(any, 0))?.into())
    }
}
