//! Files that commands read and create. `-` is standard input or standard output.
//!
//! A file that the user names and a command reads once may be a pipe, such as that of `<(command)`; reading it
//! blocks. A file that the program reads again later, or keeps itself, has to be a regular file.

use crate::codes;
use crate::error::{Failure, Result};
use crate::output::say;
use kvgossip_agent::files::{read_own, read_regular};
use kvgossip_client::{
    Authorities, ClientCertificate, ClientCertificateError, MAX_TOKEN_BYTES, Token, TokenError,
};
use kvgossip_grants::{PublicKey, PublicKeyError, Signer, SigningKey, SigningKeyError};
use kvgossip_transport::ReplicaKey;
use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Maximum size of a PEM file, in bytes; a key of 4096 bits has 3.3 kB.
const MAX_PEM_BYTES: usize = 64 << 10;
/// Maximum size of a file of certificates, in bytes; a system's whole collection has 220 kB.
const MAX_PEM_BUNDLE_BYTES: usize = 4 << 20;

/// End of the header line of a private key in any PEM form.
const PRIVATE_KEY_END: &str = "PRIVATE KEY-----";

/// Whether a path denotes standard input or output.
pub(crate) fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Whether a path denotes something that can be read only once, such as a pipe.
pub(crate) fn reads_once(path: &Path) -> bool {
    is_dash(path) || path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Returns a path from the environment; an empty one counts as unset.
pub(crate) fn from_env(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Formats a path for messages.
pub(crate) fn name(path: &Path) -> String {
    if is_dash(path) { "standard input".to_owned() } else { path.display().to_string() }
}

/// Reads a whole file or pipe that the user names; `None` if it has more than `limit` bytes.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let limit_bytes = limit as u64 + 1;
    let read = if is_dash(path) {
        io::stdin().lock().take(limit_bytes).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(limit_bytes).read_to_end(&mut bytes))
    };
    read.map_err(|error| unreadable(path, &error))?;
    Ok(if bytes.len() > limit { None } else { Some(bytes) })
}

/// Reads a whole regular file; `None` if it has more than `limit` bytes. Never blocks on a pipe.
pub(crate) fn read_kept(path: &Path, limit: usize) -> Result<Option<Vec<u8>>> {
    within(path, read_regular(path, limit))
}

/// Whether something exists at the path, even a dangling symbolic link.
pub(crate) fn stands(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Maps the error for a file larger than the limit of the reader to `None`.
fn within(path: &Path, read: io::Result<Vec<u8>>) -> Result<Option<Vec<u8>>> {
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// Returns the failure for a file that cannot be read.
pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(codes::FILE_READ, format!("cannot read {}: {error}", name(path)))
}

/// Who names or keeps a file, which decides the kinds of file that are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// The user names the file: a pipe is accepted.
    Person,
    /// The program reads the file again, or keeps it itself: only a regular file is accepted.
    Program,
}

fn read_pem(path: &Path, keeper: Keeper) -> Result<String> {
    let fault = |why: &str| {
        Failure::new(codes::PEM_INVALID, format!("{}: this is not a PEM file: {why}", name(path)))
    };
    let read = match keeper {
        Keeper::Person => read(path, MAX_PEM_BYTES)?,
        // A file of the data directory, where links are not followed.
        Keeper::Program => within(path, read_own(path, MAX_PEM_BYTES))?,
    };
    String::from_utf8(read.ok_or_else(|| fault("it has more than 64 KiB"))?)
        .map_err(|_| fault("it is not text"))
}

fn parse_signing_key(path: &Path, text: &str) -> Result<SigningKey> {
    let key = SigningKey::from_pem(text).map_err(|error| signing_key_fault(path, &error))?;
    warn_if_shared(path, "private key");
    Ok(key)
}

/// Reads a private key; warns if others can read the file, too.
pub(crate) fn signing_key(path: &Path) -> Result<SigningKey> {
    parse_signing_key(path, &read_pem(path, Keeper::Person)?)
}

/// Reads a replica key; warns if others can read the file, too.
pub(crate) fn replica_key(path: &Path, keeper: Keeper) -> Result<ReplicaKey> {
    let text = read_pem(path, keeper)?;
    // Parsed as a signing key first, which gives clearer errors.
    let signing = parse_signing_key(path, &text)?;
    tracing::debug!(bits = signing.public().bits(), "replica key {}", path.display());
    ReplicaKey::from_pem(text.as_bytes())
        .map_err(|error| Failure::new(codes::PEM_INVALID, format!("{}: {error}", name(path))))
}

/// Reads a public key; takes the public half of a private one.
pub(crate) fn public_key(path: &Path) -> Result<PublicKey> {
    parse_public_key(path, &read_pem(path, Keeper::Person)?)
}

/// Reads the root key of a cluster, for verification. Accepts a private key with a warning: it belongs to root alone.
pub(crate) fn root_key(path: &Path) -> Result<PublicKey> {
    let (key, is_private) = public_half(path)?;
    if is_private {
        say(&format!(
            "warning: {0} holds root's private key, and the public one is enough: `kvgossip keygen -y {0}` prints it",
            name(path)
        ));
    }
    Ok(key)
}

/// Reads a public key, or the public half of a private one, from a file that the program keeps.
pub(crate) fn kept_public_key(path: &Path) -> Result<PublicKey> {
    parse_public_key(path, &read_pem(path, Keeper::Program)?)
}

/// Reads a public key as [`public_key`] does; also returns whether the file holds the private key.
pub(crate) fn public_half(path: &Path) -> Result<(PublicKey, bool)> {
    let text = read_pem(path, Keeper::Person)?;
    Ok((parse_public_key(path, &text)?, text.contains(PRIVATE_KEY_END)))
}

fn parse_public_key(path: &Path, text: &str) -> Result<PublicKey> {
    match PublicKey::from_pem(text) {
        Ok(key) => Ok(key),
        Err(PublicKeyError::NotPem) if text.contains(PRIVATE_KEY_END) => {
            Ok(parse_signing_key(path, text)?.public().clone())
        }
        Err(error) => Err(public_key_fault(path, &error)),
    }
}

fn signing_key_fault(path: &Path, error: &SigningKeyError) -> Failure {
    match error {
        SigningKeyError::Public(error) => public_key_fault(path, error),
        error => Failure::new(codes::PEM_INVALID, format!("{}: {error}", name(path))),
    }
}

fn public_key_fault(path: &Path, error: &PublicKeyError) -> Failure {
    let code = match error {
        PublicKeyError::Bits(_) | PublicKeyError::Exponent => codes::RSA_UNSUPPORTED,
        _ => codes::PEM_INVALID,
    };
    Failure::new(code, format!("{}: {error}", name(path)))
}

/// Warns if others can read or change a secret.
#[cfg(unix)]
pub(crate) fn warn_if_shared(path: &Path, what: &str) {
    use std::os::unix::fs::PermissionsExt;
    let Ok(found) = fs::metadata(path) else { return };
    let mode = found.permissions().mode() & 0o777;
    if !is_dash(path) && found.is_file() && mode & 0o077 != 0 {
        say(&format!(
            "warning: {0}: others may read or change this {what} (mode {mode:04o}); run `chmod 600 {0}`",
            name(path)
        ));
    }
}

#[cfg(not(unix))]
pub(crate) fn warn_if_shared(_path: &Path, _what: &str) {}

/// Reads a bearer token from a file.
pub(crate) fn token(path: &Path) -> Result<Token> {
    let fault = || Failure::new(codes::TOKEN_MALFORMED, format!("{}: {TokenError}", name(path)));
    let bytes = read(path, MAX_TOKEN_BYTES + 2)?.ok_or_else(fault)?;
    String::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).ok_or_else(fault)
}

/// Reads the certificates of authorities from a PEM file.
pub(crate) fn authorities(path: &Path) -> Result<Authorities> {
    let fault = |what: &str| Failure::new(codes::CA_MALFORMED, format!("{}: {what}", name(path)));
    let bytes = read(path, MAX_PEM_BUNDLE_BYTES)?.ok_or_else(|| fault("it is too large for certificates"))?;
    Authorities::from_pem(&bytes).map_err(|error| fault(&error.to_string()))
}

/// Reads a client certificate and its private key from PEM files.
pub(crate) fn client_certificate(cert: &Path, key: &Path) -> Result<ClientCertificate> {
    let fault =
        |path: &Path, what: &str| Failure::new(codes::CLIENT_CERTIFICATE, format!("{}: {what}", name(path)));
    let pem = |path: &Path| read(path, MAX_PEM_BUNDLE_BYTES)?.ok_or_else(|| fault(path, "it is too large"));
    ClientCertificate::from_pem(&pem(cert)?, &pem(key)?).map_err(|error| {
        let wrong = if error == ClientCertificateError::Certificate { cert } else { key };
        fault(wrong, &error.to_string())
    })
}

/// Who may read a file that is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Only the owner may read the file.
    Owner,
    /// Those whom the umask permits may read the file.
    Umask,
}

/// Returns the failure for a file that exists and is not replaced.
pub(crate) fn exists(path: &Path) -> Failure {
    let text = format!("{}: the file exists and is left as it is; name another", path.display());
    Failure::new(codes::FILE_EXISTS, text)
}

/// Creates a file; never replaces one. Removes it again if it cannot be written completely.
pub(crate) fn create(path: &Path, readers: Readers, bytes: &[u8]) -> Result<()> {
    let mut new = New::begin(path, readers)?;
    new.write(bytes)?;
    new.finish()
}

/// A new file, removed on drop unless finished, because an incomplete key or list of facts would mislead.
#[derive(Debug)]
pub(crate) struct New {
    path: PathBuf,
    file: File,
    whole: bool,
}

impl New {
    /// Creates the file; never replaces one.
    pub(crate) fn begin(path: &Path, readers: Readers) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        if readers == Readers::Owner {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        let file = options.open(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => exists(path),
            _ => Failure::new(codes::FILE_WRITE, format!("cannot make {}: {error}", path.display())),
        })?;
        Ok(Self { path: path.to_owned(), file, whole: false })
    }

    /// Appends bytes to the new file.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| unwritable(&self.path, &error))
    }

    /// Makes the new file durable and keeps it.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.file.sync_all().map_err(|error| unwritable(&self.path, &error))?;
        self.whole = true;
        Ok(())
    }
}

impl Drop for New {
    fn drop(&mut self) {
        if !self.whole {
            // The file is this command's own; an error cannot be reported here.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Returns the failure for a file that cannot be written.
pub(crate) fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(codes::FILE_WRITE, format!("cannot write {}: {error}", path.display()))
}

/// A file that replaces another one when it is complete. If dropped before, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Replacement {
    path: PathBuf,
    new: NamedTempFile,
}

impl Replacement {
    /// Creates the new file beside `path`, where a regular file or nothing may be.
    pub(crate) fn begin(path: &Path) -> Result<Self> {
        if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
            let text =
                format!("cannot write {}: something other than a file is in its place", path.display());
            return Err(Failure::new(codes::FILE_WRITE, text));
        }
        let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let new = tempfile::Builder::new().prefix(".kvgossip-").tempfile_in(beside);
        let new = new.map_err(|error| unwritable(path, &error))?;
        Ok(Self { path: path.to_owned(), new })
    }

    /// Returns the new file for writing.
    pub(crate) fn file(&self) -> io::Result<File> {
        self.new.as_file().try_clone()
    }

    /// Replaces the old file by the new one, durably.
    pub(crate) fn finish(self) -> Result<()> {
        let Self { path, new } = self;
        new.as_file().sync_all().map_err(|error| unwritable(&path, &error))?;
        new.persist(&path).map_err(|error| unwritable(&path, &error.error))?;
        let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // The directory entry is made durable, too, where the system can sync a directory.
        let _ = File::open(beside).and_then(|dir| dir.sync_all());
        Ok(())
    }
}
