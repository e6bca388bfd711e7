//! Checks a fact by everything but its signatures, then by its signatures.

use super::{Authority, LiveGrant};
use crate::body::Body;
use crate::fact::{By, Entry, Floor, Grant, MAX_DEPTH, Revocation};
use crate::id::{ClusterId, GrantId};
use crate::public_key::PublicKey;
use crate::record::Fact;
use crate::signed::Signed;
use crate::time::Timestamp;
use crate::verdict::{Code, Verdict};
use crate::verifier::Verifier;
use std::sync::Arc;

/// Maximum lead of an entry's timestamp over the local clock, in microseconds.
pub const MAX_AHEAD_MICROS: u64 = 2 * 60 * 1_000_000;

impl Entry {
    /// Returns the local time from which the entry is accepted, if it is early at local time `now`; `None` if it is not
    /// early.
    pub fn early_until(&self, now: Timestamp) -> Option<Timestamp> {
        early_until(self.timestamp, now)
    }
}

pub(crate) fn early_until(timestamp: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let is_early = timestamp > now.saturating_add(MAX_AHEAD_MICROS);
    is_early.then(|| timestamp.saturating_sub(MAX_AHEAD_MICROS))
}

/// A signature to verify, with its key and message.
#[derive(Clone, Debug)]
struct Proof {
    key: PublicKey,
    message: Vec<u8>,
    signature: bytes::Bytes,
}

impl Proof {
    fn of<B: Body>(key: &PublicKey, signed: &Signed<B>) -> Self {
        Self { key: key.clone(), message: signed.preimage(), signature: signed.shared_signature() }
    }

    fn holds(&self, verifier: &dyn Verifier) -> bool {
        verifier.verify(&self.key, &self.message, &self.signature)
    }
}

/// A fact whose body and chain passed all checks, and whose signatures are not verified yet.
#[derive(Clone, Debug)]
pub struct Unverified {
    fact: Fact,
    proof: Proof,
    /// Signature of the grant that a revocation contains, to be verified as well; `None` for the other kinds of fact.
    inner: Option<Proof>,
}

impl Unverified {
    /// Returns the fact to be verified.
    pub fn fact(&self) -> &Fact {
        &self.fact
    }

    /// Verifies the fact's signature and, for a revocation, that of the grant inside; [`Code::BadSignature`] if one
    /// does not hold. This is the slow part of judging: 16 to 20 µs for each RSA-2048 signature.
    pub fn verify(self, verifier: &dyn Verifier) -> Result<Verified, Verdict> {
        if self.proof.holds(verifier) && self.inner.as_ref().is_none_or(|inner| inner.holds(verifier)) {
            Ok(Verified(self.fact))
        } else {
            Err(Verdict::Refused(Code::BadSignature))
        }
    }
}

/// A fact whose signatures were verified, for the cluster that the fact names. Only [`Unverified::verify`] makes one:
///
/// ```compile_fail,E0423
/// use kvgossip_grants::{Fact, Verified};
///
/// fn unverified(fact: Fact) -> Verified {
///     Verified(fact)
/// }
/// ```
///
/// ```compile_fail,E0599
/// use kvgossip_grants::{Fact, Verified};
///
/// fn unverified(fact: Fact) -> Verified {
///     Verified::from_own_store(fact)
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Verified(Fact);

impl Verified {
    /// Returns the cluster that the fact was verified for.
    pub fn cluster(&self) -> ClusterId {
        self.0.cluster()
    }

    /// Returns the verified fact.
    pub fn fact(&self) -> &Fact {
        &self.0
    }

    /// Returns the verified fact, consuming this proof of its verification.
    pub fn into_fact(self) -> Fact {
        self.0
    }
}

impl Authority {
    /// Checks `fact` by everything but its signatures. `now` is the local clock; only the check of entries uses it.
    ///
    /// # Errors
    /// The verdict on the fact; [`Verdict::Misused`] for a fact of another cluster.
    pub fn check(&self, fact: Fact, now: Timestamp) -> Result<Unverified, Verdict> {
        self.check_cluster(fact.cluster())?;
        let (proof, inner) = match &fact {
            Fact::Grant(grant) => (self.grant_proof(grant)?, None),
            Fact::Revocation(revocation) => {
                let inner = self.grant_proof(&revocation.body().grant)?;
                (self.revocation_proof(revocation, &inner.key), Some(inner))
            }
            Fact::Floor(floor) => (Proof::of(&self.root, floor), None),
            Fact::Entry(entry) => (self.entry_proof(entry.signed(), now)?, None),
        };
        Ok(Unverified { fact, proof, inner })
    }

    /// Checks an entry whose value is not at hand, and verifies its signature: [`Authority::check`] and
    /// [`Unverified::verify`] in one step, from the body alone. Returns the live grant that the entry cites; `None` for
    /// root's entries.
    pub fn verify_entry(
        &self,
        entry: &Signed<Entry>,
        now: Timestamp,
        verifier: &dyn Verifier,
    ) -> Result<Option<&Arc<LiveGrant>>, Verdict> {
        if !self.entry_proof(entry, now)?.holds(verifier) {
            return Err(Verdict::Refused(Code::BadSignature));
        }
        self.entry_grant(entry)
    }

    /// Applies the additional rules of direct puts, which do not apply to facts from peers: refuses values of more than
    /// `max_value_bytes`, entries and grants under a chain that has expired at `now`, and floors whose `before` lies
    /// after `now`.
    pub fn check_direct(&self, fact: &Fact, now: Timestamp, max_value_bytes: usize) -> Result<(), Code> {
        match fact {
            Fact::Entry(entry) => {
                if entry.value().is_some_and(|value| value.len() > max_value_bytes) {
                    return Err(Code::OverAgentLimit);
                }
                let grant = entry.entry().grant.and_then(|id| self.grant(&id));
                self.check_unexpired(grant, now)
            }
            Fact::Grant(grant) => {
                let parent = grant.body().parent.and_then(|id| self.grant(&id));
                self.check_unexpired(parent, now)
            }
            Fact::Floor(floor) if floor.body().before > now => Err(Code::FloorFuture),
            Fact::Floor(_) | Fact::Revocation(_) => Ok(()),
        }
    }

    fn check_unexpired(&self, grant: Option<&Arc<LiveGrant>>, now: Timestamp) -> Result<(), Code> {
        let expired = grant.and_then(|grant| grant.valid_until()).is_some_and(|until| until < now);
        if expired { Err(Code::GrantExpired) } else { Ok(()) }
    }

    /// Refuses facts of other clusters: their ids have no meaning here and their root has no authority.
    pub(super) fn check_cluster(&self, cluster: ClusterId) -> Result<(), Verdict> {
        if cluster == self.cluster { Ok(()) } else { Err(Verdict::Misused(Code::ForeignCluster)) }
    }

    /// Returns the live grant with this id, which a fact cites. If it is not live: `Unjustified` with
    /// [`Code::GrantRevoked`] if the grant itself is known as revoked, else with [`Code::GrantUnknown`].
    pub(super) fn cited(&self, id: &GrantId) -> Result<&Arc<LiveGrant>, Verdict> {
        self.grants.get(id).ok_or_else(|| {
            let revoked = self.revocations.contains_key(id);
            Verdict::Unjustified(if revoked { Code::GrantRevoked } else { Code::GrantUnknown })
        })
    }

    /// Checks that a grant may be issued under the parent that it cites, and returns that live parent; `None` for
    /// grants that root issued.
    pub(super) fn parent_of(&self, grant: &Grant) -> Result<Option<&Arc<LiveGrant>>, Verdict> {
        let Some(parent_id) = &grant.parent else {
            let by_root = grant.issuer == self.root.entity();
            return if by_root { Ok(None) } else { Err(Verdict::Refused(Code::NotRoot)) };
        };
        if grant.issuer == self.root.entity() {
            return Err(Verdict::Refused(Code::RootCites));
        }
        let parent = self.cited(parent_id)?;
        if parent.body().grantee.entity() != grant.issuer {
            Err(Verdict::Refused(Code::WrongIssuer))
        } else if !parent.body().subgrant {
            Err(Verdict::Refused(Code::NoSubgrant))
        } else if parent.depth() >= MAX_DEPTH {
            Err(Verdict::Refused(Code::TooDeep))
        } else {
            Ok(Some(parent))
        }
    }

    fn grant_proof(&self, grant: &Signed<Grant>) -> Result<Proof, Verdict> {
        let parent = self.parent_of(grant.body())?;
        let issuer = parent.map_or(&self.root, |parent| &parent.body().grantee);
        Ok(Proof::of(issuer, grant))
    }

    fn revocation_proof(&self, revocation: &Signed<Revocation>, issuer: &PublicKey) -> Proof {
        let key = match revocation.body().by {
            By::Root => &self.root,
            By::Issuer => issuer,
            By::Grantee => &revocation.body().grant.body().grantee,
        };
        Proof::of(key, revocation)
    }

    fn entry_proof(&self, entry: &Signed<Entry>, now: Timestamp) -> Result<Proof, Verdict> {
        if let Some(due) = entry.body().early_until(now) {
            return Err(Verdict::NotYet { due });
        }
        let grant = self.entry_grant(entry)?;
        Ok(Proof::of(grant.map_or(&self.root, |grant| &grant.body().grantee), entry))
    }

    /// Checks that an entry cites no grant if root signed it, and cites one otherwise.
    fn check_citation(&self, entry: &Entry) -> Result<(), Verdict> {
        let by_root = entry.signer == self.root.entity();
        match (by_root, entry.grant.is_some()) {
            (true, true) => Err(Verdict::Refused(Code::RootCites)),
            (false, false) => Err(Verdict::Refused(Code::NotRoot)),
            _ => Ok(()),
        }
    }

    /// Returns the live grant that an entry cites (`None` for root's entries), if its grantee signed the entry and
    /// every grant of its chain covers the entry's key and timestamp.
    ///
    /// # Errors
    /// The verdict on the entry; [`Verdict::Misused`] for an entry of another cluster.
    pub fn entry_grant(&self, entry: &Signed<Entry>) -> Result<Option<&Arc<LiveGrant>>, Verdict> {
        self.check_cluster(entry.cluster())?;
        let entry = entry.body();
        self.check_citation(entry)?;
        let Some(id) = &entry.grant else { return Ok(None) };
        let grant = self.cited(id)?;
        if grant.body().grantee.entity() != entry.signer {
            Err(Verdict::Refused(Code::WrongSigner))
        } else if !grant.reaches(&entry.key) {
            Err(Verdict::Refused(Code::OutOfReach))
        } else if !grant.covers_time(entry.timestamp) {
            Err(Verdict::Refused(Code::OutsideWindow))
        } else {
            Ok(Some(grant))
        }
    }

    /// Whether each pattern of `floor` is already named by a stored floor that ranks at least as high by (before, id).
    pub(super) fn floor_is_superseded(&self, floor: &Signed<Floor>) -> bool {
        let rank = (floor.body().before, floor.id());
        let mut patterns = floor.body().patterns.iter();
        patterns.all(|pattern| self.highest.get(pattern).is_some_and(|highest| *highest >= rank))
    }
}
