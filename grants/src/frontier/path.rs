//! An order of grants by their chains: each grant comes directly before all grants below it, so that a subtree of
//! grants is one contiguous run.

use crate::authority::LiveGrant;
use std::cmp::Ordering;
use std::sync::Arc;

/// A grant, or root (`None`), which is above all grants.
pub(super) type Holder<'a> = Option<&'a Arc<LiveGrant>>;

/// Compares two chains, each read from root's grant down.
pub(super) fn compare(one: Holder<'_>, other: Holder<'_>) -> Ordering {
    let (Some(one), Some(other)) = (one, other) else {
        return one.is_some().cmp(&other.is_some());
    };
    let depth = one.depth().min(other.depth());
    let mut order = one.depth().cmp(&other.depth());
    let (mut one, mut other) = (ancestor_at(one, depth), ancestor_at(other, depth));
    // Compares from the depth of the shallower grant upwards; the difference nearest to root decides.
    while let (Some(a), Some(b)) = (one, other) {
        // Above an equal grant the chains are equal.
        if std::ptr::eq(a, b) || a.id() == b.id() {
            break;
        }
        order = a.id().cmp(&b.id());
        (one, other) = (a.parent().map(Arc::as_ref), b.parent().map(Arc::as_ref));
    }
    order
}

/// Compares `holder` with the run of `top` and all grants below it: `Equal` within the run.
pub(super) fn compare_to_run(holder: Holder<'_>, top: Holder<'_>) -> Ordering {
    match (holder, top) {
        (_, None) => Ordering::Equal,
        (Some(grant), Some(top)) if grant.descends_from(&top.id()) => Ordering::Equal,
        _ => compare(holder, top),
    }
}

fn ancestor_at(grant: &LiveGrant, depth: u8) -> Option<&LiveGrant> {
    grant.chain().find(|grant| grant.depth() == depth)
}
