//! Packs facts into as few requests as their number and sizes allow.

use kvgossip_api::{MAX_BODY_BYTES, MAX_POST_FACTS, PostFacts};
use std::iter::Peekable;

/// Upper estimate of the JSON overhead of one request, in bytes.
const FRAME_BYTES: usize = 64;
/// JSON overhead per fact in bytes: two quotes and a comma.
const ROW_BYTES: usize = 3;

/// Returns the request bodies that carry `records` (base64), in order.
pub(crate) fn batches<I: Iterator<Item = String>>(records: I) -> impl Iterator<Item = PostFacts> {
    Batches(records.peekable())
}

struct Batches<I: Iterator<Item = String>>(Peekable<I>);

impl<I: Iterator<Item = String>> Iterator for Batches<I> {
    type Item = PostFacts;

    fn next(&mut self) -> Option<PostFacts> {
        let first = self.0.next()?;
        let mut bytes = FRAME_BYTES + first.len() + ROW_BYTES;
        let mut records_b64 = vec![first];
        while records_b64.len() < MAX_POST_FACTS
            && let Some(record) = self.0.next_if(|record| bytes + record.len() + ROW_BYTES <= MAX_BODY_BYTES)
        {
            bytes += record.len() + ROW_BYTES;
            records_b64.push(record);
        }
        Some(PostFacts { records_b64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(records: Vec<String>) -> Vec<usize> {
        let mut sizes = Vec::new();
        for batch in batches(records.into_iter()) {
            assert!(serde_json::to_vec(&batch).unwrap().len() <= MAX_BODY_BYTES);
            sizes.push(batch.records_b64.len());
        }
        sizes
    }

    #[test]
    fn many_small_facts_are_bounded_by_number() {
        assert_eq!(
            sizes(vec!["AAAA".to_owned(); 2 * MAX_POST_FACTS + 1]),
            [MAX_POST_FACTS, MAX_POST_FACTS, 1]
        );
        assert_eq!(sizes(Vec::new()), [0; 0]);
    }

    #[test]
    fn large_facts_are_bounded_by_bytes() {
        // The largest fact: a 1 MiB value in base64, plus its body.
        assert_eq!(sizes(vec!["A".repeat(1_400_000); 12]), [5, 5, 2]);
    }
}
