//! Sockets for multicast DNS.

use super::message::PORT;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::UdpSocket;

const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// Multicast DNS stays on the link, and says so.
const HOPS: u32 = 255;

/// The interface whose network is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interface {
    /// One of its IPv4 addresses; none for the one that the system takes.
    pub(super) v4: Option<Ipv4Addr>,
    /// Its number; 0 for the one that the system takes.
    pub(super) index: u32,
}

/// One of the two groups of multicast DNS.
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

    /// A socket on an address, which sends to the group from the interface.
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
        // Others on this machine may offer the same.
        if at.port() == PORT {
            socket.set_reuse_address(true)?;
        }
        socket.bind(&at.into())?;
        Ok(socket)
    }

    /// Hears questions. The address is the group itself: what is sent to this machine alone is for others who have the port.
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

    /// Asks from a port of its own, so that the answers come here and not to another program that has the port of multicast DNS.
    pub(super) fn ask(self, interface: Interface) -> io::Result<UdpSocket> {
        let any: IpAddr = match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        UdpSocket::from_std(self.socket(interface, SocketAddr::new(any, 0))?.into())
    }
}
