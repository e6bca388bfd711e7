//! Runs a test in its own network or mount namespace, so that it needs no privileges and leaves nothing behind.

use std::path::Path;
use std::process::Command;

const INSIDE: &str = "KVGOSSIP_TEST_INSIDE_NAMESPACE";
/// Shell commands that make the loopback interface of a new namespace carry multicast, also for programs that use the
/// default route.
const SET_UP: &str = "ip link set lo up multicast on && ip route add 224.0.0.0/4 dev lo &&
    if [ -e /proc/net/if_inet6 ]; then ip -6 route add multicast ff00::/8 dev lo table local; fi && exec \"$@\"";

/// Runs the test `name` of this program once more, in a new mount namespace. Returns `true` inside the namespace.
///
/// # Panics
/// The test fails there, or the machine has no `unshare` or does not permit it.
pub fn inside_a_mount_namespace(name: &str) -> bool {
    inside("--mount", &[], name)
}

/// Runs the test `name` of this program once more, in a new network namespace, whose only interface is a loopback that
/// carries multicast. Returns `true` inside the namespace.
///
/// # Panics
/// The test fails there, or the machine has no `unshare` or `ip` or does not permit them.
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

/// Mounts an empty file system of this size in MiB at `place`. Call it only inside [`inside_a_mount_namespace`].
pub fn mount(place: &Path, mebibytes: usize) {
    std::fs::create_dir_all(place).expect("a directory");
    let size = format!("size={mebibytes}m");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(place).output();
    let mounted = mounted.expect("mount of util-linux is needed");
    assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
}
