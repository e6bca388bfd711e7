//! An order of the authority facts in which they can be taken in.

use kvgossip_engine::View;
use kvgossip_grants::{Authority, Digest, FactId};
use parking_lot::Mutex;
use std::sync::Arc;

/// Position of an authority fact in their list: its depth below the root, then its id. The position of a fact never
/// changes, so a paged list that changes between pages contains each fact that was present throughout exactly once.
pub(crate) type AuthorityPlace = (u8, FactId);

/// All authority facts in an order in which they can be merged; computed again only when the set of facts has changed.
#[derive(Debug, Default)]
pub(crate) struct AuthorityOrder(Mutex<Option<(Digest, Arc<Vec<AuthorityPlace>>)>>);

impl AuthorityOrder {
    pub(crate) fn of(&self, view: &View) -> Arc<Vec<AuthorityPlace>> {
        let root = view.authority_root();
        let mut kept = self.0.lock();
        if let Some((of, places)) = kept.as_ref()
            && *of == root
        {
            return places.clone();
        }
        let places = Arc::new(sorted(view.authority()));
        *kept = Some((root, places.clone()));
        places
    }
}

fn sorted(authority: &Authority) -> Vec<AuthorityPlace> {
    let mut places: Vec<AuthorityPlace> =
        authority.fact_ids().map(|id| (authority.depth(&id).unwrap_or_default(), id)).collect();
    places.sort_unstable();
    places
}
