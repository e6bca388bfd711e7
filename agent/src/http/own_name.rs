//! The host names under which the agent may be addressed.

use rustls::pki_types::ServerName;
use std::net::IpAddr;

/// Whether a `Host` header names this agent: an IP address, `localhost`, or a name that `is_served` accepts.
pub(super) fn is_own_name(host: &str, is_served: impl Fn(&str) -> bool) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok() || is_served(name)
}

/// Whether a text is a DNS name, as a `Host` header has it, without a port.
pub fn is_host_name(text: &str) -> bool {
    let is_name = matches!(ServerName::try_from(text), Ok(ServerName::DnsName(_)));
    is_name && text.parse::<IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::{is_host_name, is_own_name};

    #[test]
    fn only_addresses_and_localhost_are_own_names() {
        for host in ["127.0.0.1:7948", "127.0.0.1", "localhost", "LOCALHOST:1", "[::1]:80", "[::1]"] {
            assert!(is_own_name(host, |_| false), "{host}");
        }
        for host in ["", "evil.example", "evil.example:7948", "127.0.0.1.evil.example:80", "[127.0.0.1"] {
            assert!(!is_own_name(host, |_| false), "{host}");
        }
    }

    #[test]
    fn a_host_is_named_without_scheme_and_port() {
        for name in ["kv.example", "kv", "KV.Example", "kv-1.svc.cluster.local"] {
            assert!(is_host_name(name), "{name}");
        }
        for text in ["", "kv:7948", "https://kv", "127.0.0.1", "::1", "kv example", "*.example", "kv/"] {
            assert!(!is_host_name(text), "{text}");
        }
    }

    #[test]
    fn names_of_the_certificate_are_own_names() {
        let served = |name: &str| name.eq_ignore_ascii_case("kv.example");
        assert!(is_own_name("kv.example:7948", served));
        assert!(is_own_name("KV.example", served));
        assert!(!is_own_name("other.example", served));
    }
}
