//! A small file system for a test: in a mount namespace of its own, so that it needs no rights and leaves nothing.

use std::path::Path;
use std::process::Command;

const INSIDE: &str = "KVGOSSIP_TEST_INSIDE_NAMESPACE";

/// Runs the test `name` of this program once more, in a new mount namespace. Gives `true` there.
///
/// # Panics
/// If that fails, and if the machine has no `unshare` or lets nobody use it.
pub(crate) fn inside_a_namespace(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let run = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().expect("this program"))
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare of util-linux is needed");
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success() && out.contains("1 passed"), "in the namespace: {out}\n{err}");
    false
}

/// Puts an empty file system of that many MiB there.
pub(crate) fn mount(place: &Path, mebibytes: usize) {
    std::fs::create_dir_all(place).expect("a directory");
    let size = format!("size={mebibytes}m");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(place).output();
    let mounted = mounted.expect("mount of util-linux is needed");
    assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
}
