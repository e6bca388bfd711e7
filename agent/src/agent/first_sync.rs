//! The text for an agent that was never compared with a peer: what it waits for, and the remedy.

use crate::clock::duration_text;
use crate::readiness::{FIRST_SYNC_HINDERED, FIRST_SYNC_TEXT};
use kvgossip_api::WaitingRow;

/// Codes of reasons that separate a replica from its cluster: with one of them, it cannot know whether it is the first
/// replica of the cluster.
const HINDER: [&str; 3] = ["gossip.name_lost", "gossip.wrong_key", "gossip.other_cluster"];

/// Selects, from pairs of code and text, the reasons that prevent any comparison with a peer, and formats each as its
/// text with the code in square brackets.
pub(super) fn hindrances<'a>(reasons: impl Iterator<Item = (&'static str, &'a str)>) -> Vec<String> {
    reasons.filter(|(code, _)| HINDER.contains(code)).map(|(code, text)| format!("{text} [{code}]")).collect()
}

/// Returns the message of `sync.first`. `hindered`: obstacles to any comparison; they come first and replace the advice
/// to use `--ready-alone`. `waits`: sentences on early entries and on members that are not replicas. `unmet`: replicas
/// not compared with yet; `more`: the number of such replicas that `unmet` does not name.
pub(super) fn first_sync_text(
    hindered: &[String],
    waits: &[String],
    unmet: &[String],
    more: usize,
) -> String {
    let what = if hindered.is_empty() { FIRST_SYNC_TEXT } else { FIRST_SYNC_HINDERED };
    let mut text = [hindered, &[what.to_owned()], waits].concat().join("; ");
    if !unmet.is_empty() {
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        text = format!("{text}; it waits for {}{more}", unmet.join(", "));
    }
    text
}

/// Returns advice if `strangers`, the number of live members that are not replicas of this cluster, is not 0. Members
/// of another cluster are also reported as `gossip.other_cluster`.
pub(super) fn strangers_text(strangers: usize) -> Option<String> {
    (strangers > 0).then(|| {
        format!(
            "the members that are alive in its gossip ({strangers}) are no replicas of this cluster, and nothing can be \
             learned from them: if this is the first one, start it with --ready-alone"
        )
    })
}

/// Returns the number of early entries as a text; `None`: no entry waits. A first comparison does not count until they
/// are merged. `behind_us`: by how much this replica's clock is behind those of its peers, in microseconds.
pub(super) fn waits_text(waiting: &WaitingRow, behind_us: Option<u64>) -> Option<String> {
    let count = waiting.facts + waiting.without_room;
    let clock =
        behind_us.map_or_else(String::new, |us| format!(": it is {} behind, set it", duration_text(us)));
    let (entries, wait) = if count == 1 { ("entry", "waits") } else { ("entries", "wait") };
    (count > 0).then(|| format!("{count} {entries} {wait} for this replica's clock{clock}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_what_waits_for_the_clock_and_members_that_can_teach_nothing() {
        let waiting = WaitingRow { facts: 500, without_room: 60, ..WaitingRow::default() };
        let text = waits_text(&waiting, Some(500_000_000_000_000)).expect("a text");
        assert_eq!(text, "560 entries wait for this replica's clock: it is 5787 d behind, set it");
        let one = waits_text(&WaitingRow { facts: 1, ..WaitingRow::default() }, None);
        assert_eq!(one.as_deref(), Some("1 entry waits for this replica's clock"));
        assert_eq!((waits_text(&WaitingRow::default(), Some(1)), strangers_text(0)), (None, None));
        let told =
            first_sync_text(&[], &[text, strangers_text(2).expect("a text")], &["peer a".to_owned()], 3);
        assert!(told.starts_with(FIRST_SYNC_TEXT) && told.contains("; 560 entries wait"), "{told}");
        assert!(
            told.contains("(2) are no replicas") && told.ends_with("it waits for peer a, and 3 more"),
            "{told}"
        );
        assert_eq!(first_sync_text(&[], &[], &[], 0), FIRST_SYNC_TEXT);
    }

    #[test]
    fn what_stands_in_the_way_comes_first_and_nobody_is_told_to_be_ready_alone() {
        let reasons = [
            ("gossip.other_cluster", "members of another cluster are here"),
            ("gossip.full", "no place"),
            ("gossip.wrong_key", "the keys differ"),
        ];
        let hindered = hindrances(reasons.into_iter());
        let text = first_sync_text(&hindered, &[], &["member x".to_owned()], 0);
        assert!(
            text.starts_with("members of another cluster are here [gossip.other_cluster]; the keys"),
            "{text}"
        );
        assert!(!text.contains("--ready-alone") && !text.contains("no place"), "{text}");
        assert!(text.ends_with("it waits for member x"), "{text}");
        assert!(FIRST_SYNC_TEXT.find("--ready-alone") > FIRST_SYNC_TEXT.find("only if this is the first"));
    }
}
