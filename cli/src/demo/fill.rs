//! The entries that fill the tree of the demonstration.

use crate::output::counted;
use crate::text::show_bytes;
use crate::walk::{read_value, walk};
use anyhow::{Context, bail};
use bytes::Bytes;
use kvgossip_grants::Key;
use std::path::Path;

/// Maximum number of files and directories read.
const MAX_NAMES: usize = 5_000;
/// Maximum total size of the files, in bytes: three replicas in this process hold them.
const MAX_BYTES: usize = 256 << 20;

/// A key and its value.
pub(super) type Item = (Key, Bytes);

/// Returns generated keys and values like an operator's, under `/app`.
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

/// Returns the files of a directory as `/app/web/…`, which the demonstration's grants cover.
pub(super) fn from_directory(dir: &Path) -> anyhow::Result<Vec<Item>> {
    let under = "/app/web".parse().context("the prefix is none")?;
    let walked = walk(dir, &under, MAX_NAMES).map_err(|failure| anyhow::anyhow!("{}", failure.message()))?;
    let mut skipped = walked.left_out.len();
    let (mut items, mut bytes) = (Vec::with_capacity(walked.found.len()), 0);
    for file in walked.found {
        match read_value(&walked.tree, &file.below) {
            Ok(value) => {
                bytes += value.len();
                items.push((file.key, Bytes::from(value)));
            }
            Err(_) => skipped += 1,
        }
        if bytes > MAX_BYTES {
            let most = show_bytes(MAX_BYTES as u64);
            bail!("{} holds more than {most}; give a smaller directory", dir.display());
        }
    }
    if items.is_empty() {
        bail!("{} holds no file that can be read and is at most 1 MiB", dir.display());
    }
    if skipped > 0 {
        eprintln!(
            "note: {} left out (over 1 MiB, unreadable, special, or with too long a name)",
            counted(skipped as u64, "file was", "files were")
        );
    }
    Ok(items)
}
