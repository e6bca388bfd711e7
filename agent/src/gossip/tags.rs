//! The tags by which replicas of a cluster recognise each other.

use kvgossip_grants::{ClusterId, ReplicaId};
use kvgossip_membership::{Tags, Text};

/// Name and value of the tag with the version of the agent's tags and of the query `kvgossip`.
const VERSION: (&str, &str) = ("kvgossip", "2");
/// Tag with the UDP port for sync sessions, at the member's address.
const PORT: &str = "kvg_port";
/// Tag with the first eight bytes of the cluster id, in hexadecimal.
pub(super) const CLUSTER: &str = "kvg_cluster";
/// Tag with the replica id.
const ID: &str = "kvg_id";

/// Number of bytes of a cluster id in gossip.
pub(super) const CLUSTER_BYTES: usize = 8;

/// Whether only the agent itself may set the tag.
pub(super) fn is_reserved(name: &Text) -> bool {
    *name == VERSION.0 || name.starts_with(b"kvg_")
}

/// Returns the first eight bytes of the cluster id.
pub(super) fn cluster_prefix(cluster: ClusterId) -> [u8; CLUSTER_BYTES] {
    let mut prefix = [0; CLUSTER_BYTES];
    prefix.copy_from_slice(&cluster.as_bytes()[..CLUSTER_BYTES]);
    prefix
}

/// Returns the first eight bytes of the cluster id, as 16 hexadecimal digits.
pub(super) fn cluster_text(cluster: ClusterId) -> String {
    cluster.to_string().chars().take(2 * CLUSTER_BYTES).collect()
}

/// Returns the tags by which a member announces its replica.
pub(super) fn announce(cluster: ClusterId, id: ReplicaId, port: u16) -> Tags {
    let tags = [
        (VERSION.0, VERSION.1.to_owned()),
        (PORT, port.to_string()),
        (CLUSTER, cluster_text(cluster)),
        (ID, id.to_string()),
    ];
    tags.map(|(name, value)| (name.into(), value.into())).into()
}

/// Returns the value of the tag `name`; `None`: the tag is missing.
fn value<'a>(tags: &'a Tags, name: &str) -> Option<&'a Text> {
    tags.get(name.as_bytes())
}

/// Returns the value of the tag `name`; `None`: the tag is missing or not UTF-8.
fn text<'a>(tags: &'a Tags, name: &str) -> Option<&'a str> {
    value(tags, name)?.to_str()
}

/// Returns the replica id and session port from a member's tags; `None`: the member is not a replica of this cluster.
pub(super) fn read(tags: &Tags, cluster: ClusterId) -> Option<(ReplicaId, u16)> {
    if text(tags, VERSION.0)? != VERSION.1 || text(tags, CLUSTER)? != cluster_text(cluster) {
        return None;
    }
    let port = text(tags, PORT)?.parse().ok().filter(|port| *port != 0)?;
    Some((text(tags, ID)?.parse().ok()?, port))
}

/// Returns the prefix of the cluster id that a member announces, or `unknown` if it is malformed; `None`: the member is
/// not a replica, or is one of this cluster.
pub(super) fn other_cluster(tags: &Tags, cluster: ClusterId) -> Option<String> {
    value(tags, VERSION.0)?;
    let other = value(tags, CLUSTER).filter(|other| **other != cluster_text(cluster))?;
    let is_id = other.len() == 2 * CLUSTER_BYTES && other.iter().all(u8::is_ascii_hexdigit);
    Some(if is_id { other.to_string() } else { "unknown".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_announces_and_nothing_else() {
        let (cluster, id) = (ClusterId([0xab; 32]), ReplicaId([7; 32]));
        let tags = announce(cluster, id, 7947);
        assert_eq!(text(&tags, CLUSTER), Some("abababababababab"));
        assert!(tags.keys().all(is_reserved) && !is_reserved(&"role".into()));
        assert_eq!(read(&tags, cluster), Some((id, 7947)));
        assert_eq!(read(&tags, ClusterId([1; 32])), None, "another cluster");
        for (name, value) in
            [("kvgossip", "1"), ("kvgossip", "3"), (PORT, "0"), (PORT, "x"), (ID, "07"), (ID, "")]
        {
            let mut other = tags.clone();
            other.insert(name.into(), value.into());
            assert_eq!(read(&other, cluster), None, "{name}={value}");
        }
        assert_eq!(read(&Tags::new(), cluster), None);
        assert_eq!(other_cluster(&tags, cluster), None);
        assert_eq!(other_cluster(&Tags::new(), cluster), None);
        assert_eq!(other_cluster(&tags, ClusterId([1; 32])).as_deref(), Some("abababababababab"));
        let mut odd = tags.clone();
        odd.insert(CLUSTER.into(), "\u{1b}[31m".into());
        assert_eq!(other_cluster(&odd, cluster).as_deref(), Some("unknown"));
        odd.insert(CLUSTER.into(), vec![0xff; 2 * CLUSTER_BYTES].into());
        assert_eq!(other_cluster(&odd, cluster).as_deref(), Some("unknown"));
        for name in [VERSION.0, PORT, CLUSTER, ID] {
            let mut odd = tags.clone();
            odd.insert(name.into(), vec![0xff].into());
            assert_eq!(read(&odd, cluster), None, "{name}");
        }
    }
}
