//! Cutting a region into parts of similar size.

use super::forest::Forest;
use super::frame::MAX_LIST_IDS;
use super::region::Region;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

impl Forest {
    /// Cuts a region into disjoint parts, in order, that cover all its facts.
    ///
    /// The part with the most facts gives way to what it falls into, until that would make more than `target` parts;
    /// the first cut is always made, so there may be up to [`MAX_PARTS`](super::MAX_PARTS). A part of up to
    /// [`MAX_LIST_IDS`] facts is never cut. A region without facts has no parts. The result is a function of the
    /// facts alone.
    pub(super) fn cut(&self, region: &Region, target: usize) -> Vec<Region> {
        let mut parts = BinaryHeap::from([(self.count(region), Reverse(region.0.clone()))]);
        parts.retain(|(count, _)| *count > 0);
        while let Some((count, _)) = parts.peek().filter(|(count, _)| *count > MAX_LIST_IDS) {
            let count = *count;
            let Some((_, Reverse(bytes))) = parts.pop() else { break };
            let whole = Region(bytes);
            let cut = self.split(&whole);
            if !parts.is_empty() && parts.len() + cut.len() > target {
                parts.push((count, Reverse(whole.0)));
                break;
            }
            parts.extend(cut.into_iter().map(|(region, count)| (count, Reverse(region.0))));
        }
        let mut parts: Vec<Region> = parts.into_iter().map(|(_, Reverse(bytes))| Region(bytes)).collect();
        parts.sort_unstable_by(|a, b| a.bytes().cmp(b.bytes()));
        parts
    }
}

#[cfg(test)]
#[path = "cut_tests.rs"]
mod tests;
