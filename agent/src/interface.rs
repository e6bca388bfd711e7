//! Network interfaces of this machine, and the choice of a listening address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A network interface with its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkInterface {
    /// Name of the interface, such as eth0.
    pub name: String,
    /// Index of the interface, by which the system identifies it.
    pub index: u32,
    /// Addresses of the interface, without link-local ones.
    pub addresses: Vec<IpAddr>,
}

/// The error of choosing an interface or its listening address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterfaceError {
    /// The system cannot list its interfaces.
    #[error("the interfaces of this machine cannot be listed: {0}")]
    List(io::Error),
    /// No interface of the requested name has an address.
    #[error("no interface named {name:?} has an address; there are {}", .others.join(", "))]
    Unknown {
        /// Requested name of an interface.
        name: String,
        /// Names of the interfaces that have an address.
        others: Vec<String>,
    },
    /// The interface does not have the requested address.
    #[error("the interface {name} does not have the address {wanted}; it has {}", shown(.has))]
    NotThere {
        /// Name of the interface.
        name: String,
        /// Requested address of the interface.
        wanted: IpAddr,
        /// All addresses of the interface.
        has: Vec<IpAddr>,
    },
    /// The interface has no address of the requested IP version.
    #[error("the interface {name} has no address of the family of {wanted}; it has {}", shown(.has))]
    OtherFamily {
        /// Name of the interface.
        name: String,
        /// Requested unspecified address (`0.0.0.0` or `::`).
        wanted: IpAddr,
        /// All addresses of the interface.
        has: Vec<IpAddr>,
    },
}

fn shown(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl NetworkInterface {
    /// Returns all interfaces that have an address.
    fn all() -> Result<Vec<Self>, InterfaceError> {
        let mut all: Vec<Self> = Vec::new();
        for found in if_addrs::get_if_addrs().map_err(InterfaceError::List)? {
            let ip = found.ip();
            let is_of_a_link = match ip {
                IpAddr::V4(ip) => ip.is_link_local(),
                IpAddr::V6(ip) => ip.is_unicast_link_local(),
            };
            if is_of_a_link {
                continue;
            }
            match all.iter_mut().find(|known| known.name == found.name) {
                Some(known) => known.addresses.push(ip),
                None => all.push(Self {
                    name: found.name,
                    index: found.index.unwrap_or_default(),
                    addresses: vec![ip],
                }),
            }
        }
        Ok(all)
    }

    /// Returns the interface of this name.
    ///
    /// # Errors
    /// When there is none with an address, or the system cannot list its interfaces.
    pub fn named(name: &str) -> Result<Self, InterfaceError> {
        let mut all = Self::all()?;
        match all.iter().position(|known| known.name == name) {
            Some(at) => Ok(all.swap_remove(at)),
            None => Err(InterfaceError::Unknown {
                name: name.to_owned(),
                others: all.into_iter().map(|known| known.name).collect(),
            }),
        }
    }

    /// Returns the interface that has this address; `None`: no interface has it, or the system cannot list its
    /// interfaces.
    pub fn with_address(ip: IpAddr) -> Option<Self> {
        NetworkInterface::all().ok()?.into_iter().find(|known| known.addresses.contains(&ip))
    }

    /// Returns the interface's first IPv4 address; `None`: it has none.
    pub fn v4(&self) -> Option<Ipv4Addr> {
        self.addresses.iter().find_map(|ip| match ip {
            IpAddr::V4(ip) => Some(*ip),
            IpAddr::V6(_) => None,
        })
    }

    /// Returns the listening address by the rules of Serf's agents: `bind` itself, if the interface has that address;
    /// for `0.0.0.0` the first IPv4 address, or else the first IPv6 address; for `::` the first IPv6 address. The
    /// port is that of `bind`.
    ///
    /// # Errors
    /// When the interface has no such address.
    pub fn listen_at(&self, bind: SocketAddr) -> Result<SocketAddr, InterfaceError> {
        let name = self.name.clone();
        let has = self.addresses.clone();
        if !bind.ip().is_unspecified() {
            return match has.contains(&bind.ip()) {
                true => Ok(bind),
                false => Err(InterfaceError::NotThere { name, wanted: bind.ip(), has }),
            };
        }
        let v6 = || has.iter().copied().find(IpAddr::is_ipv6);
        let found = if bind.is_ipv4() { self.v4().map(IpAddr::V4).or_else(v6) } else { v6() };
        match found {
            Some(ip) => Ok(SocketAddr::new(ip, bind.port())),
            None => Err(InterfaceError::OtherFamily { name, wanted: bind.ip(), has }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn interface(addresses: &[&str]) -> NetworkInterface {
        let addresses = addresses.iter().map(|text| ip(text)).collect();
        NetworkInterface { name: "eth7".to_owned(), index: 7, addresses }
    }

    fn at(interface: &NetworkInterface, bind: &str) -> Result<String, String> {
        let found = interface.listen_at(bind.parse().expect("an address"));
        found.map(|found| found.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn ipv4_comes_first_and_an_address_that_is_named_has_to_be_there() {
        let both = interface(&["fd00::1", "10.0.0.1", "10.0.0.2"]);
        assert_eq!(at(&both, "0.0.0.0:7946"), Ok("10.0.0.1:7946".to_owned()));
        assert_eq!(at(&both, "[::]:99"), Ok("[fd00::1]:99".to_owned()));
        assert_eq!(at(&both, "10.0.0.2:1"), Ok("10.0.0.2:1".to_owned()));
        let elsewhere = at(&both, "10.0.0.3:1").expect_err("not its own");
        let told =
            "the interface eth7 does not have the address 10.0.0.3; it has fd00::1, 10.0.0.1, 10.0.0.2";
        assert_eq!(elsewhere, told);
        let new = interface(&["fd00::1"]);
        assert_eq!(at(&new, "0.0.0.0:1"), Ok("[fd00::1]:1".to_owned()), "it has no other");
        let old = interface(&["10.0.0.1"]);
        assert!(at(&old, "[::]:1").expect_err("no IPv6").contains("10.0.0.1"));
    }

    #[test]
    fn the_loopback_has_its_address_and_a_wrong_name_is_told_the_right_ones() {
        let lo = NetworkInterface::named("lo").expect("every Linux machine has it");
        assert_eq!((lo.v4(), lo.index), (Some(Ipv4Addr::LOCALHOST), 1));
        let refused = NetworkInterface::named("no-such").expect_err("none").to_string();
        assert!(refused.contains("\"no-such\"") && refused.contains("lo"), "{refused}");
        assert_eq!(NetworkInterface::with_address(ip("127.0.0.1")), Some(lo));
        assert_eq!(NetworkInterface::with_address(ip("203.0.113.77")), None);
    }
}
