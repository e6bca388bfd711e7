//! The tags by which replicas of a cluster find each other.

use kvgossip_grants::{ClusterId, ReplicaId};
use kvgossip_membership::{Tags, Text};

/// The version of what these tags and the query mean.
const VERSION: (&str, &str) = ("kvgossip", "2");
/// Where the replica takes sessions, at the member's address.
const PORT: &str = "kvg_port";
/// The first eight bytes of the cluster's id, in hexadecimal.
pub(super) const CLUSTER: &str = "kvg_cluster";
/// The replica's id.
const ID: &str = "kvg_id";

/// Bytes of a cluster's id that gossip carries.
pub(super) const CLUSTER_BYTES: usize = 8;

/// Whether only the agent itself sets this tag.
pub(super) fn is_reserved(name: &Text) -> bool {
    *name == VERSION.0 || name.starts_with(b"kvg_")
}

/// The beginning of the cluster's id.
pub(super) fn cluster_prefix(cluster: ClusterId) -> [u8; CLUSTER_BYTES] {
    let mut prefix = [0; CLUSTER_BYTES];
    prefix.copy_from_slice(&cluster.as_bytes()[..CLUSTER_BYTES]);
    prefix
}

/// The same in hexadecimal.
pub(super) fn cluster_text(cluster: ClusterId) -> String {
    cluster.to_string().chars().take(2 * CLUSTER_BYTES).collect()
}

/// What a replica announces.
pub(super) fn announce(cluster: ClusterId, id: ReplicaId, port: u16) -> Tags {
    let tags = [
        (VERSION.0, VERSION.1.to_owned()),
        (PORT, port.to_string()),
        (CLUSTER, cluster_text(cluster)),
        (ID, id.to_string()),
    ];
    tags.map(|(name, value)| (name.into(), value.into())).into()
}

/// The value of a tag.
fn value<'a>(tags: &'a Tags, name: &str) -> Option<&'a Text> {
    tags.get(name.as_bytes())
}

/// The same, as text.
fn text<'a>(tags: &'a Tags, name: &str) -> Option<&'a str> {
    value(tags, name)?.to_str()
}

/// What a replica of this cluster announces: its id and port. None for members that are none.
pub(super) fn read(tags: &Tags, cluster: ClusterId) -> Option<(ReplicaId, u16)> {
    if text(tags, VERSION.0)? != VERSION.1 || text(tags, CLUSTER)? != cluster_text(cluster) {
        return None;
    }
    let port = text(tags, PORT)?.parse().ok().filter(|port| *port != 0)?;
    Some((text(tags, ID)?.parse().ok()?, port))
}

/// The beginning of another cluster's id that a replica of it announces, as it may be shown. None for replicas of this
/// cluster, and for members that are no replicas.
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
