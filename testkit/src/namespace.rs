//! A network or a file system of a test's own, in a namespace, so that it needs no rights and leaves nothing.

use std::path::Path;
use std::process::Command;

const INSIDE: &str = "KVGOSSIP_TEST_INSIDE_NAMESPACE";
/// What makes the loopback of a fresh namespace carry multicast, for programs that take the system's default as well.
const SET_UP: &str = "ip link set lo up multicast on && ip route add 224.0.0.0/4 dev lo &&
    if [ -e /proc/net/if_inet6 ]; then ip -6 route add multicast ff00::/8 dev lo table local; fi && exec \"$@\"";

/// Runs the test `name` of this program once more, in a new mount namespace. Gives `true` there.
///
/// # Panics
/// If that fails, and if the machine has no `unshare` or lets nobody use it.
pub fn inside_a_mount_namespace(name: &str) -> bool {
    inside("--mount", &[], name)
}

/// Runs the test `name` of this program once more, in a new network namespace, whose only interface is a loopback that
/// carries multicast. Gives `true` there.
///
/// # Panics
/// If that fails, and if the machine has no `unshare` or `ip`, or lets nobody use them.
pub fn inside_a_network(name: &str) -> bool {
    inside("--net", &["sh", "-c", SET_UP, "sh"], name)
}

fn inside(namespace: &str, before: &[&str], name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let run = Command::new("unshare")
        .args(["--user", "--map-root-user", namespace])
        .args(before)
        .arg(std::env::current_exe().expect("this program"))
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare of util-linux is needed");
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(
        run.status.success() && out.contains("1 passed"),
        "in the namespace (it takes a kernel that lets this user make one, and `ip` of iproute2): {out}\n{err}"
    );
    false
}

/// Puts an empty file system of that many MiB there; only [`inside_a_mount_namespace`].
pub fn mount(place: &Path, mebibytes: usize) {
    std::fs::create_dir_all(place).expect("a directory");
    let size = format!("size={mebibytes}m");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(place).output();
    let mounted = mounted.expect("mount of util-linux is needed");
    assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
}
