//! Network addresses as people write them (`HOST:PORT`), and their resolution.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

/// Maximum number of addresses used of one host name; all further addresses of the name are ignored.
pub const MAX_ADDRESSES: usize = 16;
/// Timeout of one lookup of a host name.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// A source of the addresses of host names, such as DNS.
pub trait Resolve: Send + Sync {
    /// Returns all addresses of a host, in order of preference. May block for seconds.
    ///
    /// # Errors
    /// The resolver's error if the name is not found.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The operating system's resolver of host names.
struct System;

impl Resolve for System {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs()?.collect())
    }
}

/// A shared name resolver without a cache: names are looked up at each use.
#[derive(Clone)]
pub struct Resolver(Arc<dyn Resolve>);

impl Resolver {
    /// Creates a resolver from `resolve`, in place of the system's.
    pub fn new(resolve: impl Resolve + 'static) -> Self {
        Self(Arc::new(resolve))
    }
}

impl Default for Resolver {
    /// Returns the operating system's resolver of host names.
    fn default() -> Self {
        Self::new(System)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

/// The address of a service, `HOST:PORT`, where the host is an IP address or a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: HostName,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostName {
    Ip(IpAddr),
    Name(String),
}

/// The error for a text that is not a valid `HOST:PORT` or `HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no address: give {form}, such as 10.0.0.2:{port}")]
pub struct ParseAddressError {
    text: String,
    form: &'static str,
    port: u16,
}

impl Address {
    /// Parses `HOST[:PORT]`; `port` is the default port.
    ///
    /// # Errors
    /// When the host is neither an IP address nor a name, or the port exceeds 65,535.
    pub fn parse(text: &str, port: u16) -> Result<Self, ParseAddressError> {
        Self::read(text, Some(port)).ok_or_else(|| ParseAddressError {
            text: text.to_owned(),
            form: "HOST or HOST:PORT",
            port,
        })
    }

    /// Parses `HOST:PORT`. `example` is the port that the error message shows.
    ///
    /// # Errors
    /// Those of [`Address::parse`], and a missing port.
    pub fn parse_with_port(text: &str, example: u16) -> Result<Self, ParseAddressError> {
        Self::read(text, None).ok_or_else(|| ParseAddressError {
            text: text.to_owned(),
            form: "HOST:PORT",
            port: example,
        })
    }

    fn read(text: &str, default: Option<u16>) -> Option<Self> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Some(address.into());
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let (Ok(ip), Some(port)) = (bare.parse::<IpAddr>(), default) {
            return Some(SocketAddr::new(ip, port).into());
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (text, default?),
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
        let is_name = !host.is_empty() && host.len() <= 253 && host.chars().all(fits);
        is_name.then(|| Self { host: HostName::Name(host.to_owned()), port })
    }

    /// Returns the port of the `HOST:PORT` address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the socket address if the host is an IP address; `None`: the host is a name.
    pub fn literal(&self) -> Option<SocketAddr> {
        match &self.host {
            HostName::Ip(ip) => Some(SocketAddr::new(*ip, self.port)),
            HostName::Name(_) => None,
        }
    }

    /// Looks up the host and returns its distinct addresses, at most [`MAX_ADDRESSES`]. May block for seconds.
    ///
    /// # Errors
    /// When the name is not found, or has no address.
    pub fn look_up(&self, resolver: &Resolver) -> io::Result<Vec<SocketAddr>> {
        let name = match &self.host {
            HostName::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, self.port)]),
            HostName::Name(name) => name,
        };
        let mut seen = BTreeSet::new();
        let mut found = resolver.0.resolve(name, self.port)?;
        found.retain(|address| seen.insert(*address));
        found.truncate(MAX_ADDRESSES);
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(found)
    }

    /// Looks up the host on a blocking thread, with a timeout of ten seconds; otherwise like [`Address::look_up`].
    ///
    /// # Errors
    /// Those of [`Address::look_up`], and the timeout.
    pub async fn resolve(&self, resolver: &Resolver) -> io::Result<Vec<SocketAddr>> {
        if let Some(address) = self.literal() {
            return Ok(vec![address]);
        }
        let (this, resolver) = (self.clone(), resolver.clone());
        let look_up = tokio::task::spawn_blocking(move || this.look_up(&resolver));
        match tokio::time::timeout(LOOKUP_TIMEOUT, look_up).await {
            Ok(done) => done.unwrap_or_else(|error| Err(io::Error::other(error))),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the name is not found in time")),
        }
    }

    /// Returns the first address of the host that belongs to this machine, for listening. May block for seconds.
    ///
    /// # Errors
    /// Those of [`Address::look_up`], and when no address belongs to this machine.
    pub fn local(&self, resolver: &Resolver) -> io::Result<SocketAddr> {
        if let Some(address) = self.literal() {
            return Ok(address);
        }
        let found = self.look_up(resolver)?;
        let is_here = |address: &&SocketAddr| UdpSocket::bind(SocketAddr::new(address.ip(), 0)).is_ok();
        found.iter().find(is_here).copied().ok_or_else(|| {
            let all: Vec<String> = found.iter().map(|address| address.ip().to_string()).collect();
            let text = format!("none of its addresses is this machine's: {}", all.join(", "));
            io::Error::new(io::ErrorKind::AddrNotAvailable, text)
        })
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self { host: HostName::Ip(address.ip()), port: address.port() }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            HostName::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            HostName::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// Returns the local IP address from which the system sends packets to `target`. Sends no packet itself.
pub(crate) fn towards(target: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(target)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    struct Fixed(Vec<SocketAddr>);

    impl Resolve for Fixed {
        fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
            Ok(self.0.clone())
        }
    }

    #[test]
    fn an_address_is_an_ip_address_or_a_name_with_a_port() {
        let show = |text: &str| Address::parse(text, 7946).map(|target| target.to_string());
        for (text, shown) in [
            ("10.0.0.2", "10.0.0.2:7946"),
            ("10.0.0.2:1", "10.0.0.2:1"),
            ("host-1.example", "host-1.example:7946"),
            ("host:80", "host:80"),
            ("::1", "[::1]:7946"),
            ("[::1]", "[::1]:7946"),
            ("[::1]:5", "[::1]:5"),
        ] {
            assert_eq!(show(text).as_deref(), Ok(shown), "{text}");
        }
        for bad in ["", ":1", "host:", "host:99999", "a b", "host:1:2", "http://host", "[host]", "[::1"] {
            assert!(show(bad).is_err(), "{bad:?}");
        }
        assert!(Address::parse_with_port("host:80", 1).is_ok());
        for bad in ["host", "10.0.0.2", "::1", "[::1]"] {
            let error = Address::parse_with_port(bad, 7947).expect_err("no port").to_string();
            assert!(error.contains("HOST:PORT, such as 10.0.0.2:7947"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_name_gives_all_its_addresses_each_once_and_not_too_many() {
        let name = Address::parse("replicas.example", 7).expect("a name");
        assert_eq!(name.literal(), None);
        let twice = Resolver::new(Fixed(vec![at("[::1]:7"), at("10.0.0.1:7"), at("[::1]:7")]));
        assert_eq!(name.resolve(&twice).await.expect("found"), [at("[::1]:7"), at("10.0.0.1:7")]);
        let none = Resolver::new(Fixed(Vec::new()));
        assert_eq!(name.resolve(&none).await.expect_err("none").kind(), io::ErrorKind::NotFound);
        let many = Resolver::new(Fixed((1..=99).map(|port| at(&format!("10.0.0.1:{port}"))).collect()));
        assert_eq!(name.resolve(&many).await.expect("found").len(), MAX_ADDRESSES);
        let literal = Address::from(at("10.0.0.3:1"));
        assert_eq!(literal.resolve(&none).await.expect("needs no name"), [at("10.0.0.3:1")]);
    }

    #[test]
    fn a_name_to_listen_at_gives_an_address_of_this_machine() {
        let name = Address::parse("here.example", 7).expect("a name");
        // Documentation addresses (RFC 5737, RFC 3849) belong to no machine.
        let mixed = Resolver::new(Fixed(vec![at("[2001:db8::1]:7"), at("192.0.2.1:7"), at("127.0.0.1:7")]));
        assert_eq!(name.local(&mixed).expect("one is here"), at("127.0.0.1:7"));
        let elsewhere = Resolver::new(Fixed(vec![at("192.0.2.1:7")]));
        let error = name.local(&elsewhere).expect_err("not here").to_string();
        assert!(error.contains("192.0.2.1"), "{error}");
    }

    #[test]
    fn what_goes_to_the_loopback_leaves_from_it() {
        assert_eq!(towards(at("127.0.0.1:9")).expect("a way"), at("127.0.0.1:9").ip());
    }
}
