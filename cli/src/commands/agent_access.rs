//! Options of `kvgossip agent` for access to its HTTP API over TCP.

use crate::codes;
use crate::error::{Failure, Result};
use crate::files;
use clap::Args;
use kvgossip_agent::http::{ServerTls, is_host_name};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Options of the HTTP API on TCP.
#[derive(Clone, Debug, Args)]
pub(crate) struct AccessArgs {
    /// A further host name under which programs may ask for HTTP, beside addresses, localhost and the names of the
    /// certificate. Repeatable.
    #[arg(long = "http-host", value_name = "NAME", value_parser = host_name)]
    http_hosts: Vec<String>,
    /// A file with a token. Requests over TCP with this token may do everything that the socket may.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A file with a token for reading. With this option, reading over TCP needs this token, that of --token-file, or
    /// a certificate of --tls-client-ca.
    #[arg(long, value_name = "FILE")]
    read_token_file: Option<PathBuf>,
    /// The certificate of an authority whose client certificates give the right to read. With this option, reading
    /// over TCP needs such a certificate or a token. Read again on SIGHUP.
    #[arg(long, value_name = "CA.pem")]
    tls_client_ca: Option<PathBuf>,
    /// Let everybody who reaches the address of --http read every value, even outside loopback.
    #[arg(long, conflicts_with_all = ["read_token_file", "tls_client_ca"])]
    open_http: bool,
    /// A certificate to serve HTTPS instead of HTTP, followed by those that lead to its authority. Read again on
    /// SIGHUP.
    #[arg(long, value_name = "CERT.pem")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key.
    #[arg(long, value_name = "KEY.pem")]
    tls_key: Option<PathBuf>,
}

fn host_name(text: &str) -> std::result::Result<String, String> {
    is_host_name(text).then(|| text.to_owned()).ok_or_else(|| {
        format!("{text:?} is no name of a host: give it without a scheme and a port, such as kv.example")
    })
}

impl AccessArgs {
    /// Rejects a non-loopback address without the option that permits it.
    pub(crate) fn check(&self, http: SocketAddr) -> Result<()> {
        if self.tls_cert.is_none() && !http.ip().is_loopback() {
            let message = format!("HTTP on {http} would be open to the network in clear");
            return Err(Failure::new(codes::HTTP_NOT_LOOPBACK, message)
                .note("give --tls-cert and --tls-key, or a loopback address"));
        }
        let guards_reads = self.read_token_file.is_some() || self.tls_client_ca.is_some();
        if !guards_reads && !http.ip().is_loopback() {
            if !self.open_http {
                let message = format!("HTTP on {http} would hand every value to whoever reaches it");
                return Err(Failure::new(codes::HTTP_OPEN, message).note(
                    "give --read-token-file or --tls-client-ca, or say --open-http if that is what you want",
                ));
            }
            tracing::warn!("HTTP on {http} hands every value to whoever reaches it, as --open-http says");
        }
        Ok(())
    }

    /// Reads the token that gives all rights of the Unix socket.
    pub(crate) fn token(&self) -> Result<Option<String>> {
        token(self.token_file.as_deref())
    }

    /// Reads the token that gives the right to read.
    pub(crate) fn read_token(&self) -> Result<Option<String>> {
        token(self.read_token_file.as_deref())
    }

    /// Returns the host names that --http-host adds to those under which programs may ask for HTTP.
    pub(crate) fn hosts(&self) -> Vec<String> {
        self.http_hosts.clone()
    }

    /// Loads the TLS settings; `None`: plain HTTP.
    pub(crate) fn tls(&self) -> Result<Option<ServerTls>> {
        let (cert, key) = match (&self.tls_cert, &self.tls_key) {
            (None, None) if self.tls_client_ca.is_some() => {
                let text = "--tls-client-ca is about HTTPS, and HTTPS needs --tls-cert and --tls-key";
                return Err(Failure::new(codes::USAGE, text));
            }
            (None, None) => return Ok(None),
            (Some(cert), Some(key)) => (cert, key),
            _ => return Err(Failure::new(codes::USAGE, "--tls-cert and --tls-key go together")),
        };
        let loaded = ServerTls::load(cert, key, self.tls_client_ca.as_deref())
            .map_err(|error| Failure::new(error.code(), error.to_string()));
        loaded.map(Some)
    }
}

fn token(path: Option<&Path>) -> Result<Option<String>> {
    Ok(path.map(files::token).transpose()?.map(|token| token.as_str().to_owned()))
}
