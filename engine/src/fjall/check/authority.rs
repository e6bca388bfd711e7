//! Checks the table `authority`: each fact by its signature and its chain, and all of them as a normal form.

use super::super::reads::Rows;
use super::entries::Court;
use super::report::{Fault, FaultKind, Report};
use crate::tree::{Tree, id_key, leaf_digest};
use kvgossip_grants::{Authority, Digest, Fact, FactId, PublicKey, Timestamp, Verdict, Verifier};

/// Returns the authority set of the valid stored facts and its digest; the digest is `None` if the table `authority`
/// could not be read to its end.
pub(super) fn judge(
    court: Court<'_>,
    root: &PublicKey,
    verifier: &dyn Verifier,
    report: &mut Report,
) -> (Authority, Option<Digest>) {
    let (mut pending, all_read) = read(court, report);
    let sweep_pending = court.sweep_pending;
    let mut authority = Authority::new(root.clone());
    // Facts are stored in the order of their ids, but a grant can be checked only after its parent.
    loop {
        let before = pending.len();
        pending.retain(|fact| match take(&mut authority, fact, verifier) {
            Ok(ended) if sweep_pending => {
                unswept(ended.len(), report);
                false
            }
            Ok(ended) => {
                for id in ended {
                    report.fault(
                        FaultKind::Fact,
                        id,
                        format!("it is stored, and so is what ended it: {}", fact.id()),
                    );
                }
                false
            }
            Err(Verdict::Unjustified(_)) => true,
            Err(Verdict::Moot(_)) if sweep_pending => {
                unswept(1, report);
                false
            }
            Err(verdict) => {
                report.add(misplaced(fact, verdict));
                false
            }
        });
        if pending.is_empty() || pending.len() == before {
            break;
        }
    }
    for fact in &pending {
        match take(&mut authority, fact, verifier) {
            // A revoked grant is not in the set, and neither is the chain of the facts below it.
            Err(_) if sweep_pending => unswept(1, report),
            Err(verdict) => report.add(misplaced(fact, verdict)),
            Ok(_) => {}
        }
    }
    let mut tree = Tree::<Digest>::new();
    for id in authority.fact_ids() {
        let key = id_key(id);
        tree.insert(key.as_bytes(), leaf_digest(key.as_bytes(), &[id]));
    }
    let digest = all_read.then(|| tree.digest());
    (authority, digest)
}

/// Returns the stored authority facts of which each is the fact that its row names, and whether the table could be read
/// to its end.
pub(super) fn read(court: Court<'_>, report: &mut Report) -> (Vec<Fact>, bool) {
    let mut facts = Vec::new();
    for row in Rows::all(court.snapshot, &court.tables.authority) {
        let (id, record) = match row {
            Ok(row) => row,
            Err(error) => {
                report.unreadable("authority", error);
                return (facts, false);
            }
        };
        report.authority_facts += 1;
        let id = <[u8; 32]>::try_from(id.as_ref()).ok().map(FactId);
        let place = id.map_or_else(|| "authority".into(), |id| id.to_string());
        match Fact::from_record(court.cluster, &record) {
            Err(code) => report.fault(FaultKind::Fact, place, code),
            Ok(fact) if fact.is_authority() && Some(fact.id()) == id => facts.push(fact),
            Ok(_) => report.fault(FaultKind::Fact, place, "it is another fact than its row says"),
        }
    }
    (facts, true)
}

/// Counts ended facts that are still stored and that a sweep will remove.
fn unswept(count: usize, report: &mut Report) {
    report.unswept += count as u64;
    report.authority_facts = report.authority_facts.saturating_sub(count as u64);
}

/// Checks, verifies and merges a fact. Returns the ids of the facts that it ended; a store should not contain these
/// together with it.
fn take(authority: &mut Authority, fact: &Fact, verifier: &dyn Verifier) -> Result<Vec<FactId>, Verdict> {
    let verified = authority.check(fact.clone(), Timestamp::MAX)?.verify(verifier)?;
    let change = authority.merge(verified);
    if change.verdict == Verdict::Merged { Ok(change.dropped) } else { Err(change.verdict) }
}

fn misplaced(fact: &Fact, verdict: Verdict) -> Fault {
    let code = verdict.code().map_or("unknown", kvgossip_grants::Code::as_str);
    Fault::new(FaultKind::Fact, fact.id(), format!("it may not be stored: {code}"))
}
