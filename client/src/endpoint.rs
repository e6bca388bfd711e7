//! Address of an agent.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Default port of an `http://` URL.
const HTTP_PORT: u16 = 80;
/// Default port of an `https://` URL.
const HTTPS_PORT: u16 = 443;

/// Address of an agent: `unix:PATH`, `http://HOST[:PORT]` or `https://HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// Path of the agent's Unix socket.
    Unix(PathBuf),
    /// TCP without TLS.
    Http {
        /// Host name or IP address; IPv6 in brackets.
        host: String,
        /// TCP port; 80 if the URL names none.
        port: u16,
    },
    /// TCP with TLS.
    Https {
        /// Host name or IP address; IPv6 in brackets. The agent's certificate must be valid for it.
        host: String,
        /// TCP port; 443 if the URL names none.
        port: u16,
    },
}

/// Error of parsing an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The scheme is missing or unknown.
    #[error("an agent is named unix:PATH, http://HOST:PORT or https://HOST:PORT")]
    Scheme,
    /// `unix:` without a path.
    #[error("unix: needs the path of the agent's socket behind it")]
    NoPath,
    /// The URL has something other than a host and a port.
    #[error("http:// and https:// take a host and a port and nothing else, such as http://127.0.0.1:7948")]
    Authority,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(EndpointError::NoPath) } else { Ok(Self::Unix(path.into())) };
        }
        let tls = text.strip_prefix("https://");
        let rest = tls.or_else(|| text.strip_prefix("http://")).ok_or(EndpointError::Scheme)?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let parsed: hyper::http::uri::Authority = authority.parse().map_err(|_| EndpointError::Authority)?;
        let (host, port) = (parsed.host().to_owned(), parsed.port_u16());
        // Only these two forms are valid; user names, empty ports and other parts of a URL are not.
        let plain = host == authority || port.is_some_and(|port| authority == format!("{host}:{port}"));
        if host.is_empty() || !plain {
            return Err(EndpointError::Authority);
        }
        Ok(match tls {
            Some(_) => Self::Https { host, port: port.unwrap_or(HTTPS_PORT) },
            None => Self::Http { host, port: port.unwrap_or(HTTP_PORT) },
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Http { host, port } => write!(f, "http://{host}:{port}"),
            Self::Https { host, port } => write!(f, "https://{host}:{port}"),
        }
    }
}

impl Endpoint {
    /// Value of the HTTP header `Host` in requests to this endpoint.
    pub(crate) fn host_header(&self) -> String {
        match self {
            Self::Unix(_) => "localhost".to_owned(),
            Self::Http { host, port } | Self::Https { host, port } => format!("{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spellings_of_an_endpoint() {
        let http = |host: &str, port| Endpoint::Http { host: host.into(), port };
        assert_eq!("unix:/run/a.sock".parse(), Ok(Endpoint::Unix("/run/a.sock".into())));
        assert_eq!("unix:a b".parse(), Ok(Endpoint::Unix("a b".into())));
        assert_eq!("http://127.0.0.1:7948".parse(), Ok(http("127.0.0.1", 7948)));
        assert_eq!("http://localhost:7948/".parse(), Ok(http("localhost", 7948)));
        assert_eq!("http://[::1]:7948".parse(), Ok(http("[::1]", 7948)));
        assert_eq!("http://host".parse(), Ok(http("host", 80)));
        let https = Endpoint::Https { host: "kv.example".into(), port: 443 };
        assert_eq!("https://kv.example/".parse(), Ok(https));
    }

    #[test]
    fn what_is_no_endpoint() {
        use EndpointError as E;
        for (text, error) in [
            ("", E::Scheme),
            ("127.0.0.1:7948", E::Scheme),
            ("/run/agent.sock", E::Scheme),
            ("https:", E::Scheme),
            ("https://", E::Authority),
            ("unix:", E::NoPath),
            ("http://", E::Authority),
            ("http://:7948", E::Authority),
            ("http://host:", E::Authority),
            ("http://host:99999", E::Authority),
            ("http://user@host:1", E::Authority),
            ("http://host:1/v1", E::Authority),
            ("http://host:1?x", E::Authority),
            ("http://ho st", E::Authority),
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(error), "{text}");
        }
    }

    #[test]
    fn text_round_trips() {
        for text in ["unix:/run/a.sock", "http://127.0.0.1:7948", "http://[::1]:1", "https://kv.example:7948"]
        {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }
}
