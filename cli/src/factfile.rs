//! Files of signed facts: exports, and the JSON lines that `--out` and `--output json` write.

use crate::codes;
use crate::error::{Failure, Result};
use crate::files::{self, unreadable};
use crate::text::show_bytes;
use base64::prelude::{BASE64_STANDARD, Engine};
use kvgossip_agent::files::open_regular;
use kvgossip_client::{EXPORT_MAGIC, ExportError, ExportReader};
use kvgossip_grants::{ClusterId, Code, Fact, MAX_RECORD_BYTES};
use serde::Deserialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Maximum length of a line of a file of facts, in bytes: the largest fact in base64, plus the other fields.
const MAX_LINE_BYTES: usize = MAX_RECORD_BYTES.div_ceil(3) * 4 + 4096;

/// Maximum number of bytes copied from an input that can be read only once.
const MAX_SPOOLED_BYTES: u64 = 16 << 30;

/// One item of a file of facts: a fact, or what is in its place.
#[derive(Debug)]
pub(crate) struct Item {
    /// Number of the fact in the file, from 1; in a file of lines, the line number.
    pub(crate) number: u64,
    /// The fact, or the stable code of why it cannot be read.
    pub(crate) fact: Result<Fact, Code>,
    /// What the line claims about its fact, used only where the fact cannot be read.
    said: Said,
}

/// Fields of a line of `--out` or `--output json` that this module reads.
#[derive(Debug, Default, Deserialize)]
struct Said {
    id: Option<String>,
    kind: Option<String>,
    #[serde(default)]
    record_b64: String,
}

impl Item {
    /// Returns the id of the fact, or the id that its line claims; `None` if there is neither.
    pub(crate) fn id(&self) -> Option<String> {
        self.fact.as_ref().ok().map(|fact| fact.id().to_string()).or_else(|| self.said.id.clone())
    }

    /// Returns the kind of the fact, or the kind that its line claims.
    pub(crate) fn kind(&self) -> &str {
        match &self.fact {
            Ok(fact) => fact.kind(),
            Err(_) => self.said.kind.as_deref().unwrap_or("fact"),
        }
    }

    /// Returns the key of the fact if it is an entry.
    pub(crate) fn key(&self) -> Option<String> {
        match &self.fact {
            Ok(Fact::Entry(entry)) => Some(entry.entry().key.to_string()),
            _ => None,
        }
    }

    /// Whether the line has an id but no record: `grant ls` writes such lines for revocations.
    pub(crate) fn is_bare(&self) -> bool {
        self.fact.is_err() && self.said.record_b64.is_empty() && self.said.id.is_some()
    }

    /// Returns a description of the fact for messages.
    pub(crate) fn name(&self) -> String {
        let id = self.id().map_or_else(String::new, |id| format!(" {}", crate::output::short(&id)));
        let key = self.key().map_or_else(String::new, |key| format!(" {key}"));
        format!("{}{id}{key}", self.kind())
    }
}

/// A file of facts, read sequentially and as often as needed.
#[derive(Debug)]
pub(crate) struct FactFile {
    path: PathBuf,
    /// The file, or a copy of an input that is not a regular file.
    file: File,
    cluster: ClusterId,
    reader: Reader,
    number: u64,
}

#[derive(Debug)]
enum Reader {
    Export(Box<ExportReader<BufReader<File>>>),
    Lines(BufReader<File>),
}

impl FactFile {
    /// Opens a file, or standard input, with facts of `cluster`.
    ///
    /// # Errors
    /// When it cannot be read, is not a file of facts, or is one of another cluster.
    pub(crate) fn open(path: &Path, cluster: ClusterId) -> Result<Self> {
        let file = open_seekable(path)?;
        let reader = Reader::new(path, &file, cluster)?;
        Ok(Self { path: path.to_owned(), file, cluster, reader, number: 0 })
    }

    /// Returns the cluster that a file names, as an export does. An input that can be read only once is not touched.
    pub(crate) fn cluster_named(path: &Path) -> Result<Option<ClusterId>> {
        if files::is_dash(path) || !path.metadata().is_ok_and(|found| found.is_file()) {
            return Ok(None);
        }
        let file = open_regular(path).map_err(|error| unreadable(path, &error))?;
        match Reader::begin(path, &file)? {
            Reader::Export(export) => Ok(Some(export.cluster())),
            Reader::Lines(_) => Ok(None),
        }
    }

    /// Starts again at the first fact.
    pub(crate) fn rewind(&mut self) -> Result<()> {
        self.reader = Reader::new(&self.path, &self.file, self.cluster)?;
        self.number = 0;
        Ok(())
    }

    /// Returns the next fact; `None` after the last one.
    ///
    /// # Errors
    /// When nothing can be read from here on. A single malformed fact is not an error.
    pub(crate) fn next(&mut self) -> Result<Option<Item>> {
        self.number += 1;
        match &mut self.reader {
            Reader::Export(reader) => {
                let record = reader.next_record().map_err(|error| export_failure(&self.path, &error))?;
                let Some(record) = record else { return Ok(None) };
                let fact = Fact::from_record(self.cluster, &record);
                Ok(Some(Item { number: self.number, fact, said: Said::default() }))
            }
            Reader::Lines(reader) => loop {
                let mut line = Vec::new();
                let limit = MAX_LINE_BYTES as u64 + 1;
                let read = reader.by_ref().take(limit).read_until(b'\n', &mut line);
                read.map_err(|error| unreadable(&self.path, &error))?;
                if line.is_empty() {
                    return Ok(None);
                }
                if !line.trim_ascii().is_empty() {
                    return parse_line(&self.path, self.cluster, self.number, &line).map(Some);
                }
                self.number += 1;
            },
        }
    }
}

impl Reader {
    /// Starts to read a file of facts, whichever cluster it is of.
    fn begin(path: &Path, file: &File) -> Result<Self> {
        let unreadable = |error: io::Error| unreadable(path, &error);
        let mut file = file.try_clone().map_err(unreadable)?;
        file.rewind().map_err(unreadable)?;
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let begins = reader.fill_buf().map_err(unreadable)?;
        // A short file that starts like an export is a truncated export, not a line.
        let shared = begins.len().min(EXPORT_MAGIC.len());
        if shared == 0 {
            // Even the export of an empty replica has a header and a trailer.
            let text =
                format!("{} is empty: there is no fact and no end of an export in it", files::name(path));
            return Err(Failure::new(codes::EXPORT_DAMAGED, text));
        }
        if begins[..shared] != EXPORT_MAGIC[..shared] {
            return Ok(Self::Lines(reader));
        }
        let export = ExportReader::new(reader).map_err(|error| export_failure(path, &error))?;
        Ok(Self::Export(Box::new(export)))
    }

    fn new(path: &Path, file: &File, cluster: ClusterId) -> Result<Self> {
        let reader = Self::begin(path, file)?;
        match &reader {
            Self::Export(export) if export.cluster() != cluster => {
                let text = format!(
                    "{} has facts of cluster {}, not of {}: nothing was taken from it",
                    files::name(path),
                    export.cluster().short(),
                    cluster.short()
                );
                Err(Failure::new(codes::CLUSTER_MISMATCH, text))
            }
            _ => Ok(reader),
        }
    }
}

fn export_failure(path: &Path, error: &ExportError) -> Failure {
    let code = match error {
        ExportError::Cut { .. } | ExportError::Damaged { .. } => codes::EXPORT_DAMAGED,
        ExportError::Io(_) => codes::FILE_READ,
        _ => codes::EXPORT_UNKNOWN,
    };
    Failure::new(code, format!("{}: {error}", files::name(path)))
}

/// Copies an input that is not a regular file to an unnamed temporary file, so that it can be read twice.
fn open_seekable(path: &Path) -> Result<File> {
    let failed = |error: io::Error| unreadable(path, &error);
    if !files::is_dash(path) {
        let file = File::open(path).map_err(failed)?;
        let kind = file.metadata().map_err(failed)?.file_type();
        if kind.is_dir() {
            let text = format!("{} is a directory; take its files in with `import --dir`", files::name(path));
            return Err(Failure::new(codes::FILE_READ, text));
        }
        if kind.is_file() {
            return Ok(file);
        }
        return spool(&mut { file }).map_err(failed);
    }
    spool(&mut io::stdin().lock()).map_err(failed)
}

fn spool(input: &mut impl Read) -> io::Result<File> {
    spool_within(input, MAX_SPOOLED_BYTES)
}

fn spool_within(input: &mut impl Read, limit: u64) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    if io::copy(&mut input.take(limit.saturating_add(1)), &mut file)? > limit {
        let text =
            format!("more than {} come out of it: put them in a file and name that", show_bytes(limit));
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    file.flush()?;
    Ok(file)
}

/// Parses a line of a file of facts. A line that is not a JSON object means that the file is something else.
fn parse_line(path: &Path, cluster: ClusterId, number: u64, line: &[u8]) -> Result<Item> {
    let fault = |why: &str| {
        let text = format!("{}: line {number} is no fact as --out writes it: {why}", files::name(path));
        Failure::new(codes::FACTS_MALFORMED, text)
    };
    if line.len() > MAX_LINE_BYTES {
        return Err(fault("it is too long"));
    }
    let said: Said = serde_json::from_slice(line).map_err(|error| fault(&error.to_string()))?;
    let record = BASE64_STANDARD.decode(&said.record_b64).map_err(|_| Code::Malformed);
    let fact = record.and_then(|record| Fact::from_record(cluster, &record));
    // If the id differs from the line's claim, the line was changed, or the fact is of another cluster.
    let fits = |fact: &Fact| said.id.as_deref().is_none_or(|id| id == fact.id().to_string());
    let fact = fact.and_then(|fact| if fits(&fact) { Ok(fact) } else { Err(Code::Malformed) });
    Ok(Item { number, fact, said })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId([1; 32]);

    fn items(bytes: &[u8]) -> Result<Vec<Item>> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let mut facts = FactFile::open(file.path(), CLUSTER)?;
        let mut items = Vec::new();
        while let Some(item) = facts.next()? {
            items.push(item);
        }
        Ok(items)
    }

    #[test]
    fn lines_without_a_record_are_named_and_stop_nobody() {
        let text = b"{\"id\":\"00\",\"kind\":\"grant\"}\n\n{\"record_b64\":\"!\"}";
        let found = items(text).unwrap();
        let names: Vec<_> = found.iter().map(|item| (item.number, item.name())).collect();
        assert_eq!(names, [(1, "grant 00".to_owned()), (3, "fact".to_owned())]);
        assert!(found.iter().all(|item| item.fact == Err(Code::Malformed)));
    }

    #[test]
    fn an_endless_input_is_given_up() {
        let input = || io::repeat(b'x');
        assert_eq!(spool_within(&mut input().take(10), 10).unwrap().metadata().unwrap().len(), 10);
        let error = spool_within(&mut input(), 10).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn what_is_no_file_of_facts_is_said_so() {
        let code = |bytes: &[u8]| items(bytes).unwrap_err().code().to_owned();
        assert_eq!(code(b"plain text\n"), codes::FACTS_MALFORMED);
        assert_eq!(code(b"kvgossip"), codes::EXPORT_DAMAGED);
        assert_eq!(code(b"kvgossip/export"), codes::EXPORT_DAMAGED);
        assert_eq!(code(b"kvgossip/export\0\x01"), codes::EXPORT_UNKNOWN);
        assert_eq!(code(b"kvgossip/export\0\x03"), codes::EXPORT_UNKNOWN);
        assert_eq!(code(b"kvgossip/export\0\x02"), codes::EXPORT_DAMAGED);
        let foreign = [&b"kvgossip/export\0\x02"[..], &[2; 32]].concat();
        assert_eq!(code(&foreign), codes::CLUSTER_MISMATCH);
        assert_eq!(code(b""), codes::EXPORT_DAMAGED);
        let long = [&b"{\"id\":\""[..], &vec![b'0'; MAX_LINE_BYTES], b"\"}"].concat();
        assert_eq!(code(&long), codes::FACTS_MALFORMED);
    }
}
