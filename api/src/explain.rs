//! Conversion of explanations of authority to API types.

use crate::{ApiError, ExplainResponse, LinkRow, PlanResponse, RejectedRow};
use kvgossip_grants::{
    Authority, EntityId, EntryId, Explanation, Key, KeyGlob, Link, ParentPlan, PlanError, Rejected, Timestamp,
};

/// State of the explained key that an explanation uses.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Id of the shown entry; `None` if the key is unset.
    pub current: Option<EntryId>,
    /// Timestamp of the newest entry in the key's frontier, masked or not; `None` if it has no entry.
    pub newest: Option<Timestamp>,
}

impl ExplainResponse {
    /// Explains by `authority` whether `entity` may write `key`.
    pub fn explain(authority: &Authority, entity: EntityId, key: &Key, shown: Shown, now: Timestamp) -> Self {
        let explanation = authority.explain(key, entity, now);
        let (chain, rejected) = match &explanation {
            Explanation::Root => (&[][..], &[][..]),
            Explanation::Accepted(chain) => (chain.as_slice(), &[][..]),
            Explanation::Rejected(chains) => (&[][..], chains.as_slice()),
        };
        let cited = chain.last().map(|link| link.grant);
        Self {
            cluster: authority.cluster().to_string(),
            accepted: !matches!(explanation, Explanation::Rejected(_)),
            is_root: matches!(explanation, Explanation::Root),
            chain: chain.iter().map(link_row).collect(),
            rejected: rejected.iter().map(rejected_row).collect(),
            now_us: now.as_micros(),
            stamp_us: authority.stamp(key, cited.as_ref(), shown.newest, now).as_micros(),
            current: shown.current.map(|entry| entry.to_string()),
        }
    }
}

fn link_row(link: &Link) -> LinkRow {
    LinkRow {
        grant: link.grant.to_string(),
        issuer: link.issuer.to_string(),
        grantee: link.grantee.to_string(),
        pattern: link.pattern.to_string(),
        subgrant: link.subgrant,
        issued_at_us: link.issued_at.as_micros(),
        expires_at_us: link.expires_at.map(Timestamp::as_micros),
    }
}

fn rejected_row(rejected: &Rejected) -> RejectedRow {
    let mut message = rejected.code.help().to_owned();
    if let Some((id, by)) = &rejected.revocation {
        message = format!("{message} (revoked by {} in {})", by.as_str(), id.short());
    }
    let chain = rejected.chain.iter().map(link_row).collect();
    RejectedRow { chain, failing: rejected.failing, code: rejected.code.as_str().into(), message }
}

impl PlanResponse {
    /// Finds the grants under which `issuer` could grant `pattern`, by the facts of `authority` at `now`. Deciding
    /// inclusion may take milliseconds of CPU time.
    pub fn plan(authority: &Authority, issuer: EntityId, pattern: &KeyGlob, now: Timestamp) -> Self {
        let mut plan = Self {
            cluster: authority.cluster().to_string(),
            is_root: false,
            parents: Vec::new(),
            refusal: None,
            counterexample: None,
            now_us: now.as_micros(),
        };
        match authority.plan_grant(issuer, pattern, now) {
            Ok(ParentPlan::Root) => plan.is_root = true,
            Ok(ParentPlan::Parents(parents)) => {
                plan.parents = parents.iter().map(ToString::to_string).collect();
            }
            Err(error) => {
                if let PlanError::OutOfReach { counterexample } = &error {
                    plan.counterexample = Some(counterexample.to_string());
                }
                plan.refusal = Some(ApiError { code: error.code().into(), message: error.to_string() });
            }
        }
        plan
    }
}
