//! Export files of signed facts, written by `kvgossip export` and read by `import` and `verify`.
//! `docs/protocol.md`, section "Export files", specifies the format.
//!
//! Each fact is a record with its length in front, so that an unreadable record does not hide the others. The
//! file ends with the number of facts and a hash over everything before, which detect truncation and damage.
//! The hash does not authenticate the file; only the facts' own signatures do.

use kvgossip_grants::{ClusterId, MAX_RECORD_BYTES, varint};
use std::io::{self, ErrorKind, Read, Write};

/// First bytes of every export file; the hash covers them too.
pub const EXPORT_MAGIC: [u8; 16] = *b"kvgossip/export\0";
/// Version of the format.
pub const EXPORT_VERSION: u8 = 2;

/// Error of reading an export file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The file does not begin with [`EXPORT_MAGIC`].
    #[error("this is no file of `kvgossip export`")]
    NotAnExport,
    /// The file has another format version.
    #[error(
        "the file has format {0}; this program reads format {EXPORT_VERSION}: take a program of the version that wrote it"
    )]
    Version(u8),
    /// The file ends too early. The facts read so far are complete.
    #[error("the file is cut off after {facts} whole facts")]
    Cut {
        /// Number of facts read before the end of the input.
        facts: u64,
    },
    /// The file is damaged. The facts read so far may be intact; each has its own signature.
    #[error("the file is damaged behind fact {facts}: {reason}")]
    Damaged {
        /// Number of facts read before the damage.
        facts: u64,
        /// What is wrong with the file, as text for people.
        reason: &'static str,
    },
    /// The input cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writer of an export file.
#[derive(Debug)]
pub struct ExportWriter<W> {
    out: W,
    hasher: blake3::Hasher,
    facts: u64,
}

impl<W: Write> ExportWriter<W> {
    /// Starts a file of `cluster`.
    ///
    /// # Errors
    /// Fails if `out` fails, like every method of this type.
    pub fn new(out: W, cluster: ClusterId) -> io::Result<Self> {
        let mut writer = Self { out, hasher: blake3::Hasher::new(), facts: 0 };
        writer.put(&EXPORT_MAGIC)?;
        writer.put(&[EXPORT_VERSION])?;
        writer.put(&cluster.0)?;
        Ok(writer)
    }

    /// Appends a fact in the form of [`Fact::to_record`](kvgossip_grants::Fact::to_record). A fact must follow
    /// the facts that its chain needs. Fails with `InvalidInput` if the record is empty or longer than a record
    /// may be.
    pub fn push(&mut self, record: &[u8]) -> io::Result<()> {
        if record.is_empty() || record.len() > MAX_RECORD_BYTES {
            return Err(io::Error::new(ErrorKind::InvalidInput, "no record has that many bytes"));
        }
        self.put_number(record.len() as u64)?;
        self.put(record)?;
        self.facts += 1;
        Ok(())
    }

    /// Number of facts written to the file so far.
    pub fn facts(&self) -> u64 {
        self.facts
    }

    /// Writes the end of the file and flushes it. A file without this end reads as truncated.
    pub fn finish(mut self) -> io::Result<W> {
        self.put_number(0)?;
        self.put_number(self.facts)?;
        let hash = self.hasher.finalize();
        self.out.write_all(hash.as_bytes())?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.out.write_all(bytes)
    }

    fn put_number(&mut self, number: u64) -> io::Result<()> {
        self.put(varint::encode(number).as_ref())
    }
}

/// Reader of an export file. It holds at most one record in memory.
#[derive(Debug)]
pub struct ExportReader<R> {
    input: R,
    hasher: blake3::Hasher,
    cluster: ClusterId,
    facts: u64,
    ended: bool,
}

impl<R: Read> ExportReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// Fails if the file is not an export, or has another format version.
    pub fn new(input: R) -> Result<Self, ExportError> {
        let mut reader = Self {
            input,
            hasher: blake3::Hasher::new(),
            cluster: ClusterId([0; 32]),
            facts: 0,
            ended: false,
        };
        for (place, expected) in EXPORT_MAGIC.iter().enumerate() {
            let mut byte = [0];
            match reader.take(&mut byte) {
                // A file that ends within its header counts as truncated, unless it is empty.
                Err(ExportError::Cut { .. }) if place == 0 => return Err(ExportError::NotAnExport),
                read => read?,
            }
            if byte[0] != *expected {
                return Err(ExportError::NotAnExport);
            }
        }
        let mut version = [0];
        reader.take(&mut version)?;
        if version[0] != EXPORT_VERSION {
            return Err(ExportError::Version(version[0]));
        }
        let mut cluster = [0; 32];
        reader.take(&mut cluster)?;
        reader.cluster = ClusterId(cluster);
        Ok(reader)
    }

    /// Cluster that the facts claim to belong to.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Reads the next record; `None` after the last one, if the end of the file is intact.
    ///
    /// # Errors
    /// Fails if the file is truncated or damaged here. Nothing can be read after an error.
    pub fn next_record(&mut self) -> Result<Option<Vec<u8>>, ExportError> {
        if self.ended {
            return Ok(None);
        }
        let len = self.number()?;
        if len == 0 {
            self.check_end()?;
            self.ended = true;
            return Ok(None);
        }
        let len = usize::try_from(len).ok().filter(|len| *len <= MAX_RECORD_BYTES);
        let Some(len) = len else { return Err(self.damaged("a fact is too long")) };
        let mut record = vec![0; len];
        self.take(&mut record)?;
        self.facts += 1;
        Ok(Some(record))
    }

    fn check_end(&mut self) -> Result<(), ExportError> {
        if self.number()? != self.facts {
            return Err(self.damaged("the number of facts is another"));
        }
        let expected = self.hasher.finalize();
        let mut hash = [0; 32];
        self.take(&mut hash)?;
        if expected != hash {
            return Err(self.damaged("the hash at the end is another"));
        }
        let mut behind = [0];
        match self.input.read_exact(&mut behind) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(error.into()),
            Ok(()) => Err(self.damaged("something stands behind the end")),
        }
    }

    fn damaged(&self, reason: &'static str) -> ExportError {
        ExportError::Damaged { facts: self.facts, reason }
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), ExportError> {
        match self.input.read_exact(bytes) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(ExportError::Cut { facts: self.facts })
            }
            Err(error) => Err(error.into()),
            Ok(()) => {
                self.hasher.update(bytes);
                Ok(())
            }
        }
    }

    /// Reads a number in its shortest encoding.
    fn number(&mut self) -> Result<u64, ExportError> {
        let mut decoder = varint::Decoder::default();
        loop {
            let mut byte = [0];
            self.take(&mut byte)?;
            match decoder.push(byte[0]) {
                Ok(Some(number)) => return Ok(number),
                Ok(None) => {}
                Err(_) => return Err(self.damaged("a number is misspelled")),
            }
        }
    }
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
