//! Snapshot that a member keeps between runs: its clocks, so that old events are not taken for new ones, and
//! the addresses of other members. The format is that of Serf's snapshot file, with one line per member. A name
//! is written as is, UTF-8 or not. Serf also writes a name that contains a line feed, and then reads the lines
//! that it forges; here such a member is omitted.

use std::net::SocketAddr;

use crate::wire::Text;

/// Maximum number of members read from a snapshot; further ones are skipped.
pub(super) const MAX_MEMBERS: usize = 4096;

/// State that a member keeps between runs, in the format of Serf's snapshot file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Names and addresses of members to try. Serf's file calls them alive, even those that had failed when the
    /// agent ended.
    pub alive: Vec<(Text, SocketAddr)>,
    /// Lamport time of the latest join or leave.
    pub clock: u64,
    /// Lamport time of the latest event.
    pub event_clock: u64,
    /// Lamport time of the latest query.
    pub query_clock: u64,
    /// Whether this member had left the cluster; it then rejoins only if configured to.
    pub left: bool,
}

impl Snapshot {
    /// Parses a file of this or of a Serf agent. Unknown lines are skipped, so a truncated file is still
    /// useful.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut snapshot = Self::default();
        for line in bytes.split(|byte| *byte == b'\n') {
            snapshot.read_line(line.strip_suffix(b"\r").unwrap_or(line));
        }
        snapshot.alive.truncate(MAX_MEMBERS);
        snapshot
    }

    /// Returns whether `bytes` look like a snapshot, or the beginning of one. This is checked before a file is
    /// overwritten.
    pub fn recognizes(bytes: &[u8]) -> bool {
        let starts = [
            "alive: ",
            "not-alive: ",
            "clock: ",
            "event-clock: ",
            "query-clock: ",
            "coordinate: ",
            "leave",
            "#",
        ];
        let is_line = |line: &[u8]| starts.iter().any(|start| line.starts_with(start.as_bytes()));
        bytes.is_empty() || bytes.split(|byte| *byte == b'\n').next().is_some_and(is_line)
    }

    fn read_line(&mut self, line: &[u8]) {
        let Some(at) = line.windows(2).position(|pair| pair == b": ") else {
            self.left |= line == b"leave";
            return;
        };
        let (key, value) = (&line[..at], &line[at + 2..]);
        match key {
            b"alive" => {
                if let Some((name, addr)) = parse_member(value) {
                    if std::mem::take(&mut self.left) {
                        // It has joined others after it left these.
                        self.alive.clear();
                    }
                    self.alive.retain(|(known, _)| **known != *name);
                    self.alive.push((name.into(), addr));
                }
            }
            b"not-alive" => self.alive.retain(|(known, _)| **known != *value),
            b"clock" => self.clock = number(value).unwrap_or(self.clock),
            b"event-clock" => self.event_clock = number(value).unwrap_or(self.event_clock),
            b"query-clock" => self.query_clock = number(value).unwrap_or(self.query_clock),
            _ => {}
        }
    }

    /// Encodes the snapshot as the text of a file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // A name comes from the network, so it must not be able to add lines.
        let clean = self.alive.iter().filter(|(name, _)| !name.contains(&b'\n'));
        for (name, addr) in clean.take(MAX_MEMBERS) {
            out.extend_from_slice(b"alive: ");
            out.extend_from_slice(name);
            out.extend_from_slice(format!(" {addr}\n").as_bytes());
        }
        let (clock, event, query) = (self.clock, self.event_clock, self.query_clock);
        let clocks = format!("clock: {clock}\nevent-clock: {event}\nquery-clock: {query}\n");
        out.extend_from_slice(clocks.as_bytes());
        if self.left {
            out.extend_from_slice(b"leave\n");
        }
        out
    }
}

fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn parse_member(value: &[u8]) -> Option<(&[u8], SocketAddr)> {
    let at = value.iter().rposition(|byte| *byte == b' ')?;
    let addr = std::str::from_utf8(&value[at + 1..]).ok()?.parse().ok()?;
    Some((&value[..at], addr)).filter(|(name, _)| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn reads_what_it_writes_and_what_agents_write() {
        let addr = "127.0.0.1:7946".parse().expect("an address");
        let snapshot = Snapshot {
            alive: vec![("a b".into(), addr)],
            clock: 3,
            event_clock: 4,
            query_clock: 5,
            left: false,
        };
        assert_eq!(Snapshot::parse(&snapshot.encode()), snapshot);
        let log = b"alive: x 127.0.0.1:1\nclock: 1\nalive: a b 127.0.0.1:7946\nnot-alive: x\nclock: 3\n\
            event-clock: 4\nquery-clock: 5\ncoordinate: {}\nalive: cut 127.0";
        assert_eq!(Snapshot::parse(log), snapshot);
        let left = Snapshot::parse(b"alive: x 127.0.0.1:7946\nclock: 9\nleave\n");
        let x = vec![("x".into(), addr)];
        assert_eq!(left, Snapshot { clock: 9, left: true, alive: x, ..Snapshot::default() });
        assert_eq!(Snapshot::parse(&left.encode()), left);
        let back = Snapshot::parse(b"alive: x 127.0.0.1:1\nleave\nalive: y 127.0.0.1:7946\n");
        assert_eq!(back, Snapshot { alive: vec![("y".into(), addr)], ..Snapshot::default() });
        assert_eq!(Snapshot::parse(&[0xff, 0xfe]), Snapshot::default());
        let kinds = [
            &snapshot.encode()[..],
            log,
            b"",
            b"leave\n",
            b"not-alive: x\n",
            b"root:x:0:0\nclock: 1\n",
            b"\0",
        ];
        assert_eq!(kinds.map(Snapshot::recognizes), [true, true, true, true, true, false, false]);
        let nasty = Snapshot { alive: vec![("x\nclock: 99\nalive: y".into(), addr)], ..Snapshot::default() };
        assert_eq!(Snapshot::parse(&nasty.encode()), Snapshot::default());
    }

    #[test]
    fn names_are_bytes_and_a_line_that_is_none_spoils_no_other() {
        let addr = "127.0.0.1:7946".parse().expect("an address");
        let names = [&b"caf\xe9"[..], b"\xff: \x00\x1b", b"a\r"].map(|name| (name.into(), addr));
        let snapshot = Snapshot { alive: names.to_vec(), clock: 7, ..Snapshot::default() };
        assert_eq!(Snapshot::parse(&snapshot.encode()), snapshot);
        let log = b"alive: caf\xe9 127.0.0.1:7946\nalive: x 127.0.0.1:\xff\n\xfe\xff: \xff\nclock: \xff\nclock: 7\r\n\
            alive: gone\xe9 127.0.0.1:1\nnot-alive: gone\xe9\n";
        let read = Snapshot::parse(log);
        assert_eq!(
            read,
            Snapshot { alive: vec![(b"caf\xe9"[..].into(), addr)], clock: 7, ..Snapshot::default() }
        );
    }

    /// Generates parts of names: any bytes, and text that would form lines of its own in the file.
    fn part() -> impl Strategy<Value = Vec<u8>> {
        let lines =
            [&b"\n"[..], b"\nalive: x 10.0.0.1:1\n", b"\nnot-alive: before\n", b"\nclock: 9\n", b"\nleave\n"];
        prop_oneof![vec(any::<u8>(), 1..8), proptest::sample::select(lines.to_vec()).prop_map(<[u8]>::to_vec)]
    }

    proptest! {
        /// Whatever a member's name is, the other members are read back, and nothing else.
        #[test]
        fn no_name_spoils_the_file(name in vec(part(), 1..5).prop_map(|parts| parts.concat())) {
            let addr = "127.0.0.1:7946".parse().expect("an address");
            let members = [&b"before"[..], &name, b"behind"].map(|name| (Text::from(name), addr)).to_vec();
            let written = Snapshot { alive: members.clone(), clock: 5, ..Snapshot::default() };
            let kept = members.into_iter().filter(|(name, _)| !name.contains(&b'\n')).collect();
            prop_assert_eq!(Snapshot::parse(&written.encode()), Snapshot { alive: kept, ..written });
        }
    }
}
