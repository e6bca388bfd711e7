use super::super::salt::Salt;
use super::super::tell::Newest;
use super::*;
use crate::view::View;
use kvgossip_grants::{
    Authority, EntryId, EntryMeta, Fact, Grant, GrantId, KeyGlob, MockKey, MockVerifier, PathPrefix, Signed,
    Signer, Timestamp,
};

/// An entry gives way to a newer one of each grant of its chain, and of root, and to no other.
#[test]
fn an_entry_gives_way_to_what_stands_above_it() {
    let (root, holder) = (MockKey::new(0), MockKey::new(1));
    let mut authority = Authority::new(root.public().clone());
    let mut give = |parent: Option<GrantId>, nonce: u8| {
        let signer = if parent.is_some() { &holder } else { &root };
        let body = Grant {
            issuer: signer.public().entity(),
            grantee: holder.public().clone(),
            pattern: KeyGlob::parse("/**").expect("a glob"),
            subgrant: true,
            parent,
            issued_at: Timestamp::ZERO,
            expires_at: None,
            nonce: [nonce; 16],
        };
        let signed = Signed::sign(root.public().cluster(), body, signer).expect("mock signatures");
        let id = signed.id();
        let fact = authority.check(Fact::Grant(signed), Timestamp::ZERO).expect("a good grant");
        authority.merge(fact.verify(&MockVerifier).expect("a good signature"));
        authority.grant(&id).expect("live").clone()
    };
    let top = give(None, 1);
    let middle = give(Some(top.id()), 2);
    let low = give(Some(middle.id()), 3);
    let sibling = give(Some(top.id()), 4);
    let view = View::new(root.public().clone());
    let walk = Walk::new(Phase::Entries, &view, &PathPrefix::root(), Salt::new([1; 8], [2; 8], 1));
    let leaf = |number: u8, grant: Option<&std::sync::Arc<kvgossip_grants::LiveGrant>>| {
        let timestamp = Timestamp::from_micros(number.into()).expect("a small time");
        let (id, grant) = (EntryId([number; 32]), grant.cloned());
        let meta = EntryMeta { id, timestamp, grant, is_delete: false, value_bytes: 0 };
        Leaf::Entry("/a".parse().expect("a key"), meta)
    };
    let all = [None, Some(&top), Some(&middle), Some(&low), Some(&sibling)];
    for older in all {
        for newer in all {
            let (old, new) = (leaf(1, older), leaf(2, newer));
            let mut newest = Newest::default();
            newest.note(&walk.tell(&new));
            let gives_way = newest.supersedes(&walk.tell(&old), walk.grants_above(&old));
            let (Leaf::Entry(_, old), Leaf::Entry(_, new)) = (&old, &new) else { unreachable!() };
            assert_eq!(gives_way, new.dominates(old), "{:?} {:?}", old.grant_id(), new.grant_id());
        }
    }
}

#[test]
fn what_is_compared_is_counted_by_keys_and_grants_of_both_sides() {
    let tell = |key, grant| Tell { key, earliest: 1, latest: 1, grant };
    let mut compared = Compared::default();
    assert_eq!(compared.len(), 0);
    compared.note([tell(1, 0), tell(1, 0), tell(1, 7), tell(2, 7)], &[tell(1, 0), tell(3, 0)]);
    assert_eq!(compared.len(), 3 + 2, "each once");
}
