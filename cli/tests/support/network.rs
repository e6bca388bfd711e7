//! A network of its own for a test: a namespace whose only interface is a loopback that carries multicast.

use std::process::Command;

const INSIDE: &str = "KVGOSSIP_TEST_INSIDE_NETWORK";
/// What makes the loopback of a fresh namespace carry multicast, for programs that take the system's default as well.
const SET_UP: &str = "ip link set lo up multicast on && ip route add 224.0.0.0/4 dev lo &&
    if [ -e /proc/net/if_inet6 ]; then ip -6 route add multicast ff00::/8 dev lo table local; fi && exec \"$@\"";

/// Runs the test `name` of this program once more, in a new network namespace. Gives `true` there.
///
/// # Panics
/// If that fails, and if the machine has no `unshare` or `ip`, or lets nobody use them.
pub(crate) fn inside_a_network(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let run = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c", SET_UP, "sh"])
        .arg(std::env::current_exe().expect("this program"))
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare of util-linux is needed");
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    let passed = run.status.success() && out.contains("1 passed");
    assert!(
        passed,
        "in the namespace (it takes a kernel that lets this user make one, and `ip` of iproute2): {out}\n{err}"
    );
    false
}
