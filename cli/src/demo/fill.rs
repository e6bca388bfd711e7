//! What the demonstration fills the tree with.

use anyhow::{Context, bail};
use bytes::Bytes;
use kvgossip_grants::{Key, MAX_VALUE_BYTES, spell};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The most files that are read from a directory.
const MAX_FILES: usize = 5_000;
/// Files are looked for this deep.
const MAX_DEPTH: usize = 24;

/// A key and its value.
pub(super) type Item = (Key, Bytes);

/// Keys as an operator might have them, under `/app`.
pub(super) fn generated(count: u32) -> Vec<Item> {
    const SERVICES: [&str; 5] = ["web", "billing", "search", "mail", "auth"];
    const SETTINGS: [&str; 8] =
        ["replicas", "image", "limits/cpu", "limits/memory", "log/level", "db/url", "tls/mode", "timeout-ms"];
    let item = |number: u32| {
        let n = number as usize;
        let (service, setting) =
            (SERVICES[n % SERVICES.len()], SETTINGS[n / SERVICES.len() % SETTINGS.len()]);
        let host = n / (SERVICES.len() * SETTINGS.len());
        let key = Key::parse(&format!("/app/{service}/host{host:03}/{setting}")).ok()?;
        Some((key, Bytes::from(format!("{setting} of {service} on host {host}, first version"))))
    };
    (0..count).filter_map(item).collect()
}

/// Every file of a directory as `/app/web/…`, so that the demonstration's grants cover it.
pub(super) fn from_directory(dir: &Path) -> anyhow::Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut skipped = 0;
    let mut open: Vec<(PathBuf, String, usize)> = vec![(dir.to_path_buf(), "/app/web".into(), 0)];
    while let Some((path, key, depth)) = open.pop() {
        let entries = std::fs::read_dir(&path)
            .with_context(|| format!("cannot read the directory {}", path.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read the directory {}", path.display()))?;
            let key = format!("{key}/{}", spell(entry.file_name().as_bytes()));
            let kind = entry.file_type()?;
            if kind.is_dir() && depth < MAX_DEPTH {
                open.push((entry.path(), key, depth + 1));
            } else if kind.is_file() {
                match (Key::parse(&key), read(&entry.path())) {
                    (Ok(key), Some(value)) => items.push((key, value)),
                    _ => skipped += 1,
                }
                if items.len() > MAX_FILES {
                    bail!("{} holds more than {MAX_FILES} files; give a smaller directory", dir.display());
                }
            } else {
                skipped += 1;
            }
        }
    }
    if items.is_empty() {
        bail!("{} holds no file that can be read and is at most 1 MiB", dir.display());
    }
    if skipped > 0 {
        eprintln!(
            "note: {skipped} files were left out (over 1 MiB, unreadable, special, or with too long a name)"
        );
    }
    items.sort();
    Ok(items)
}

fn read(path: &Path) -> Option<Bytes> {
    let len = std::fs::metadata(path).ok()?.len();
    if len > MAX_VALUE_BYTES as u64 {
        return None;
    }
    std::fs::read(path).ok().filter(|bytes| bytes.len() <= MAX_VALUE_BYTES).map(Bytes::from)
}
