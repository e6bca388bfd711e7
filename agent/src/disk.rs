//! Disk usage of files.

use std::fs;
use std::path::Path;

/// Maximum number of files and directories counted; further ones count as 0 bytes.
const MAX_FILES: usize = 100_000;

/// Returns the disk usage of all files below a directory, in bytes. Unreadable files count as 0.
pub(crate) fn used_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    /// The unit of `st_blocks`, independent of the file system's block size.
    const BLOCK_BYTES: u64 = 512;
    let (mut dirs, mut bytes, mut files) = (vec![dir.to_path_buf()], 0, 0);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            files += 1;
            if files > MAX_FILES {
                return bytes;
            }
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => dirs.push(entry.path()),
                Ok(meta) => bytes += meta.blocks() * BLOCK_BYTES,
                Err(_) => {}
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::used_bytes;

    #[test]
    fn files_of_all_levels_count() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(used_bytes(&dir.path().join("none")), 0);
        std::fs::create_dir(dir.path().join("below")).expect("a directory");
        std::fs::write(dir.path().join("a"), [1; 10_000]).expect("written");
        std::fs::write(dir.path().join("below/b"), [1; 10_000]).expect("written");
        assert!(used_bytes(dir.path()) >= 20_000);
    }
}
