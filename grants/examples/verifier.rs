//! A verifier that trusts one public key: it takes in facts as bytes, from anywhere and in any order, and says who may
//! write what. Run it with `cargo run -p kvgossip-grants --example verifier`.

use kvgossip_grants::{
    Authority, By, ClusterId, Code, EntryDraft, EntryFact, Explanation, Fact, Grant, GrantId, Key, KeyGlob,
    PublicKey, Revocation, RsaVerifier, Signed, Signer, SigningKey, Timestamp, Verdict,
};

/// Everything that may fail here is told to whoever runs the example.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What an application keeps: the authority, and what it was told before it could judge it.
struct Gate {
    authority: Authority,
    waiting: Vec<Fact>,
}

impl Gate {
    /// Root's public key is all that has to be known beforehand, and has to come from a trusted place.
    fn new(root: PublicKey) -> Self {
        Self { authority: Authority::new(root), waiting: Vec::new() }
    }

    /// Takes in one fact as bytes. The cluster is this gate's own: bytes that were signed for another cluster then fail
    /// by their signature.
    fn offer(&mut self, record: &[u8], now: Timestamp) -> Verdict {
        let fact = match Fact::from_record(self.authority.cluster(), record) {
            Ok(fact) => fact,
            Err(code) => return Verdict::Refused(code),
        };
        let verdict = self.judge(fact.clone(), now);
        match verdict {
            // Its grant may come later: the order in which facts arrive means nothing. A real application limits this.
            Verdict::Unjustified(_) => self.waiting.push(fact),
            Verdict::Merged => {
                for fact in std::mem::take(&mut self.waiting) {
                    self.offer(&fact.to_record(), now);
                }
            }
            _ => {}
        }
        verdict
    }

    /// The three steps: `check` is cheap, `verify` takes 16 µs and more and may run on any thread, `merge` is quick and
    /// looks at the chain again.
    fn judge(&mut self, fact: Fact, now: Timestamp) -> Verdict {
        let checked = match self.authority.check(fact, now) {
            Ok(checked) => checked,
            Err(verdict) => return verdict,
        };
        match checked.verify(&RsaVerifier) {
            // An entry is good, and the authority has no place for it: it goes where the application keeps entries.
            Ok(verified) if !verified.fact().is_authority() => Verdict::Merged,
            Ok(verified) => self.authority.merge(verified).verdict,
            Err(verdict) => verdict,
        }
    }
}

fn new_key() -> Result<SigningKey> {
    let mut failed = None;
    let mut random = |buffer: &mut [u8]| failed = getrandom::fill(buffer).err().or(failed);
    let (key, _pem) = SigningKey::generate(2048, &mut random)?;
    match failed {
        Some(error) => Err(error.to_string().into()),
        None => Ok(key),
    }
}

/// A grant of `issuer` to `grantee`; root names no parent.
fn grant(
    cluster: ClusterId,
    issuer: &SigningKey,
    grantee: &SigningKey,
    pattern: &str,
    parent: Option<GrantId>,
) -> Result<Signed<Grant>> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce)?;
    let body = Grant {
        issuer: issuer.public().entity(),
        grantee: grantee.public().clone(),
        pattern: KeyGlob::parse(pattern)?,
        subgrant: parent.is_none(),
        parent,
        issued_at: Timestamp::from_micros(1_000)?,
        expires_at: None,
        nonce,
    };
    Ok(Signed::sign(cluster, body, issuer)?)
}

/// An entry that sets `key` to `42`.
fn set(cluster: ClusterId, signer: &SigningKey, key: &str, grant: GrantId) -> Result<Fact> {
    let draft = EntryDraft {
        key: Key::parse(key)?,
        value: Some("42".into()),
        timestamp: Timestamp::from_micros(2_000)?,
        grant: Some(grant),
    };
    Ok(Fact::Entry(EntryFact::sign(cluster, draft, signer)?))
}

/// Runs the story.
pub(crate) fn main() -> Result<()> {
    let (root, team, deployer) = (new_key()?, new_key()?, new_key()?);
    let cluster = root.public().cluster();
    let now = Timestamp::from_micros(3_000)?;

    // Root gives /app/** to the team, which gives /app/web/** to the deployer.
    let to_team = grant(cluster, &root, &team, "/app/**", None)?;
    let to_deployer = grant(cluster, &team, &deployer, "/app/web/**", Some(to_team.id()))?;
    let version = set(cluster, &deployer, "/app/web/version", to_deployer.id())?;

    // The gate hears of it all in the wrong order.
    let mut gate = Gate::new(root.public().clone());
    let unknown = Verdict::Unjustified(Code::GrantUnknown);
    assert_eq!(gate.offer(&version.to_record(), now), unknown);
    assert_eq!(gate.offer(&Fact::Grant(to_deployer.clone()).to_record(), now), unknown);
    assert_eq!(gate.offer(&Fact::Grant(to_team).to_record(), now), Verdict::Merged);
    assert!(gate.waiting.is_empty(), "root's grant justified what waited");
    let key = Key::parse("/app/web/version")?;
    let Explanation::Accepted(chain) = gate.authority.explain(&key, deployer.public().entity(), now) else {
        return Err("the chain carries the key".into());
    };
    println!("the deployer may write {key} by a chain of {} grants", chain.len());

    // What is not theirs is refused, with a stable code.
    let elsewhere = set(cluster, &deployer, "/app/db/version", to_deployer.id())?;
    let verdict = gate.offer(&elsewhere.to_record(), now);
    assert_eq!(verdict, Verdict::Refused(Code::OutOfReach));
    println!("/app/db/version: {}", Code::OutOfReach.help());
    let forged = set(cluster, &team, "/app/web/version", to_deployer.id())?;
    assert_eq!(gate.offer(&forged.to_record(), now), Verdict::Refused(Code::WrongSigner));
    let mut spoilt = version.to_record().to_vec();
    *spoilt.last_mut().ok_or("a record is never empty")? ^= 1;
    assert_eq!(gate.offer(&spoilt, now), Verdict::Refused(Code::ValueMismatch));

    // A fact that was read for another cluster is a mistake of the caller's, and no peer is to blame.
    let stranger = new_key()?.public().cluster();
    let misread = Fact::from_record(stranger, &version.to_record()).map_err(|code| code.help())?;
    assert_eq!(gate.judge(misread, now), Verdict::Misused(Code::ForeignCluster));

    // The team takes the grant back. It is over for the deployer, also for what was signed before.
    let body = Revocation { grant: to_deployer, by: By::Issuer, revoked_at: now };
    let revocation = Fact::Revocation(Signed::sign(cluster, body, &team)?);
    assert_eq!(gate.offer(&revocation.to_record(), now), Verdict::Merged);
    assert_eq!(gate.judge(version, now), Verdict::Unjustified(Code::GrantRevoked));
    let Explanation::Rejected(chains) = gate.authority.explain(&key, deployer.public().entity(), now) else {
        return Err("the grant was revoked".into());
    };
    let code = chains.first().map(|chain| chain.code).ok_or("the revoked chain is named")?;
    println!("the deployer may no longer write {key}: {}", code.help());
    Ok(())
}
