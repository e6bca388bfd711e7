use super::*;
use crate::session::crowd::grants;
use kvgossip_grants::EntryId;

/// Asserts that a leaf that was changed entry by entry equals one built from its frontier.
fn assert_as_made_anew(key: &Key, leaf: &KeyLeaf) {
    let anew = KeyLeaf::new(key, leaf.frontier().clone());
    assert_eq!(leaf.digest(), anew.digest());
    assert_eq!(leaf.id_tree().is_some(), leaf.weight() > FLAT_IDS_MAX);
    assert_eq!(anew.id_tree().is_some(), leaf.weight() > FLAT_IDS_MAX);
    let ids = |leaf: &KeyLeaf| leaf.ids().iter().map(|(id, _)| id.to_vec()).collect::<Vec<_>>();
    assert_eq!(ids(leaf), ids(&anew));
    assert_eq!(ids(leaf).len(), leaf.weight());
}

#[test]
fn a_leaf_has_the_form_and_the_digest_of_what_stands_however_it_came_about() {
    let key: Key = "/a".parse().expect("a key");
    let grants = grants(3 + FLAT_IDS_MAX);
    let mut leaf = KeyLeaf::new(&key, Frontier::new());
    for (number, grant) in grants.iter().enumerate() {
        let id = EntryId([number as u8; 32]);
        let timestamp = Timestamp::from_micros(number as u64).expect("a small time");
        let grant = Some(grant.clone());
        let meta = EntryMeta { id, timestamp, grant, is_delete: false, value_bytes: 0 };
        assert!(matches!(leaf.offer(&key, meta.clone()), Offer::Stands { ended } if ended.is_empty()));
        assert!(matches!(leaf.offer(&key, meta), Offer::Known));
        assert_eq!(leaf.weight(), number + 1);
        assert_as_made_anew(&key, &leaf);
    }
    let whole = leaf.clone();
    for (number, grant) in grants.iter().enumerate() {
        assert_eq!(leaf.end_below(&key, grant).len(), 1);
        assert!(leaf.end_below(&key, grant).is_empty(), "it has ended");
        assert_eq!(leaf.weight(), grants.len() - number - 1);
        assert_as_made_anew(&key, &leaf);
    }
    for before in 0..=grants.len() {
        let mut leaf = whole.clone();
        leaf.end_older(&key, Timestamp::from_micros(before as u64).expect("a small time"));
        assert_eq!(leaf.weight(), grants.len() - before);
        assert_as_made_anew(&key, &leaf);
    }
}
