//! Grants in the order of their chains: each grant directly before all grants below it, so that these are one run.

use crate::authority::LiveGrant;
use std::cmp::Ordering;
use std::sync::Arc;

/// A grant, or root (`None`), which stands above all.
pub(super) type Holder<'a> = Option<&'a Arc<LiveGrant>>;

/// Compares two chains, each read from root's grant down.
pub(super) fn compare(one: Holder<'_>, other: Holder<'_>) -> Ordering {
    let (Some(one), Some(other)) = (one, other) else {
        return one.is_some().cmp(&other.is_some());
    };
    let depth = one.depth().min(other.depth());
    let mut order = one.depth().cmp(&other.depth());
    let (mut one, mut other) = (ancestor_at(one, depth), ancestor_at(other, depth));
    // From the depth of the shallower one upwards: the difference that is found last lies highest.
    while let (Some(a), Some(b)) = (one, other) {
        // Above the same grant, chains are the same.
        if std::ptr::eq(a, b) || a.id() == b.id() {
            break;
        }
        order = a.id().cmp(&b.id());
        (one, other) = (a.parent().map(Arc::as_ref), b.parent().map(Arc::as_ref));
    }
    order
}

/// Where `holder` lies relative to `top` and everything below it: `Equal` within.
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
