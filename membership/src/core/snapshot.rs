//! What a member remembers from one life to the next: the clocks, so that no old event is taken for a new
//! one, and where the others were. The text is that of Serf's snapshot file.

use std::{fmt::Write as _, net::SocketAddr};

/// Most members that are taken from a snapshot.
pub(super) const MAX_MEMBERS: usize = 4096;

/// What a member remembers from one life to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Members to try: names and addresses. Serf's file calls them alive, as it does with those that were away when its agent
    /// ended.
    pub alive: Vec<(String, SocketAddr)>,
    /// The Lamport clock of joins and leaves.
    pub clock: u64,
    /// The Lamport clock of events.
    pub event_clock: u64,
    /// The Lamport clock of queries.
    pub query_clock: u64,
    /// Whether the member had left: then it does not rejoin by itself, unless it is told to.
    pub left: bool,
}

impl Snapshot {
    /// Reads the file of this or of a Serf agent; lines that are not understood are passed over, so a
    /// file that was cut off still serves.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut snapshot = Self::default();
        for line in String::from_utf8_lossy(bytes).lines() {
            snapshot.read_line(line);
        }
        snapshot.alive.truncate(MAX_MEMBERS);
        snapshot
    }

    fn read_line(&mut self, line: &str) {
        let Some((key, value)) = line.split_once(": ") else {
            self.left |= line == "leave";
            return;
        };
        match key {
            "alive" => {
                if let Some((name, addr)) = parse_member(value) {
                    if std::mem::take(&mut self.left) {
                        // It has joined others since it left these.
                        self.alive.clear();
                    }
                    self.alive.retain(|(known, _)| known != name);
                    self.alive.push((name.to_owned(), addr));
                }
            }
            "not-alive" => self.alive.retain(|(known, _)| known != value),
            "clock" => self.clock = value.parse().unwrap_or(self.clock),
            "event-clock" => self.event_clock = value.parse().unwrap_or(self.event_clock),
            "query-clock" => self.query_clock = value.parse().unwrap_or(self.query_clock),
            _ => {}
        }
    }

    /// The bytes to store.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = String::new();
        // Writing to a string cannot fail.
        // A name comes from the network: it must not be able to write lines of its own.
        let clean = self.alive.iter().filter(|(name, _)| !name.chars().any(char::is_control));
        for (name, addr) in clean.take(MAX_MEMBERS) {
            let _ = writeln!(text, "alive: {name} {addr}");
        }
        let _ = writeln!(text, "clock: {}", self.clock);
        let _ = writeln!(text, "event-clock: {}", self.event_clock);
        let _ = writeln!(text, "query-clock: {}", self.query_clock);
        if self.left {
            text.push_str("leave\n");
        }
        text.into_bytes()
    }
}

fn parse_member(value: &str) -> Option<(&str, SocketAddr)> {
    let (name, addr) = value.rsplit_once(' ')?;
    Some((name, addr.parse().ok()?)).filter(|(name, _)| !name.is_empty())
}

#[cfg(test)]
mod tests {
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
        let x = vec![("x".to_owned(), addr)];
        assert_eq!(left, Snapshot { clock: 9, left: true, alive: x, ..Snapshot::default() });
        assert_eq!(Snapshot::parse(&left.encode()), left);
        let back = Snapshot::parse(b"alive: x 127.0.0.1:1\nleave\nalive: y 127.0.0.1:7946\n");
        assert_eq!(back, Snapshot { alive: vec![("y".into(), addr)], ..Snapshot::default() });
        assert_eq!(Snapshot::parse(&[0xff, 0xfe]), Snapshot::default());
        let nasty = Snapshot { alive: vec![("x\nclock: 99\nalive: y".into(), addr)], ..Snapshot::default() };
        assert_eq!(Snapshot::parse(&nasty.encode()), Snapshot::default());
    }
}
