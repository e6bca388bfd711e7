//! Keys with more entries than fit into one event, event by event.

use super::core::Core;
use super::interests::What;
use super::state::{Cause, Dirty, State, Value};
use super::streams::Way;
use super::telling::Reaction;
use super::{MAX_HELD_ENTRIES, MAX_HELD_VALUE_BYTES};
use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use kvgossip_api::{AuthorityEvent, CauseRow, KeyEvent, PartRow, PlaceRow, SyncedEvent, event};
use kvgossip_grants::{
    Authority, By, EntryDraft, EntryFact, Fact, Grant, GrantId, Key, MockKey, MockVerifier, Revocation,
    Signed, Signer, Timestamp,
};

const ROOT: usize = 0;
const TEAM: usize = 1;
const STREAM: u64 = 1;
const INTEREST: u64 = 1;

pub(super) fn time(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros).expect("a small time")
}

pub(super) fn key() -> Key {
    Key::parse("/k").expect("a key")
}

pub(super) struct World {
    people: Vec<MockKey>,
    pub(super) core: Core,
    pub(super) grants: Vec<Signed<Grant>>,
}

impl World {
    /// Opens a stream of one key, with the authority already sent: `count` grants to the team that expire at
    /// 1,000.
    fn with_grants(count: usize) -> Self {
        Self::with_grants_until(count, Some(time(1_000)))
    }

    /// Like `with_grants`, with another expiry time.
    pub(super) fn with_grants_until(count: usize, until: Option<Timestamp>) -> Self {
        let people: Vec<MockKey> = (0..2).map(MockKey::new).collect();
        let authority = Authority::new(people[ROOT].public().clone());
        let core = Core::new(authority, Box::new(MockVerifier), time(500));
        let mut world = Self { people, core, grants: Vec::new() };
        let grants = (0..count).map(|number| world.grant(number, until)).collect();
        world.grants = grants;
        world.core.add(INTEREST, What::Key(key()));
        world.core.open(STREAM, "a", Way::Anew);
        world.core.opened(STREAM);
        let facts: Vec<Fact> = world.grants.iter().cloned().map(Fact::Grant).collect();
        world.tell_authority(&facts);
        world
    }

    pub(super) fn sign<B: kvgossip_grants::AuthorityBody>(&self, body: B, by: usize) -> Signed<B> {
        Signed::sign(self.people[ROOT].public().cluster(), body, &self.people[by]).expect("a mock signature")
    }

    fn grant(&self, number: usize, expires_at: Option<Timestamp>) -> Signed<Grant> {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let grant = Grant {
            issuer: self.people[ROOT].public().entity(),
            grantee: self.people[TEAM].public().clone(),
            pattern: "/**".parse().expect("a glob"),
            subgrant: true,
            parent: None,
            issued_at: time(1),
            expires_at,
            nonce,
        };
        self.sign(grant, ROOT)
    }

    /// Creates an entry with this timestamp under a grant.
    pub(super) fn entry(&self, at: u64, grant: Option<GrantId>, value: Option<&[u8]>) -> EntryFact {
        let by = if grant.is_some() { TEAM } else { ROOT };
        let value = value.map(Bytes::copy_from_slice);
        let draft = EntryDraft { key: key(), value, timestamp: time(at), grant };
        EntryFact::sign(self.people[ROOT].public().cluster(), draft, &self.people[by])
            .expect("a mock signature")
    }

    fn hear(&mut self, name: &str, data: &impl serde::Serialize) -> Reaction {
        let data = serde_json::to_string(data).expect("plain data");
        self.core.hear(STREAM, None, name, &data).expect("well-formed")
    }

    pub(super) fn tell_authority(&mut self, facts: &[Fact]) -> Reaction {
        let records_b64 = facts.iter().map(|fact| BASE64_STANDARD.encode(fact.to_record())).collect();
        self.hear(event::AUTHORITY, &AuthorityEvent { records_b64 })
    }

    pub(super) fn tell(
        &mut self,
        part: Option<PartRow>,
        shown: Option<&EntryFact>,
        others: &[EntryFact],
    ) -> Reaction {
        let all = shown.into_iter().chain(others);
        let row = KeyEvent {
            key: key().to_string(),
            state: KeyEvent::ABSENT.into(),
            entry: shown.map(|fact| fact.id().to_string()),
            timestamp_us: None,
            grant: None,
            value: None,
            value_b64: None,
            cause: CauseRow { kind: "current".into(), id: None },
            part,
            entries: all.map(|fact| fact.id().to_string()).collect(),
            records_b64: shown.iter().map(|fact| BASE64_STANDARD.encode(fact.record())).collect(),
            fronts_b64: others.iter().map(|fact| BASE64_STANDARD.encode(fact.signed().to_front())).collect(),
        };
        self.hear(event::KEY, &row)
    }

    pub(super) fn synced(&mut self) {
        self.hear(
            event::SYNCED,
            &SyncedEvent {
                now_us: 0,
                replica: None,
                resumed: false,
                different: Some(vec![0]),
                same_authority: None,
            },
        );
    }

    fn state(&self) -> State {
        self.core.state(INTEREST, &key())
    }

    fn text(&self) -> Option<Bytes> {
        self.state().value.entry().map(|entry| entry.value.clone())
    }
}

fn part(kind: &str, down_to: Option<&EntryFact>) -> Option<PartRow> {
    let place = |fact: &EntryFact| PlaceRow {
        timestamp_us: fact.entry().timestamp.as_micros(),
        entry: fact.id().to_string(),
    };
    let telling = if kind == PartRow::NEWS { 0 } else { 7 };
    Some(PartRow { kind: kind.into(), telling, down_to: down_to.map(place) })
}

/// Nine masked entries in three pages: nothing is decided before the last page.
#[test]
fn a_key_is_absent_for_want_of_entries_only_when_all_were_told() {
    let mut world = World::with_grants(9);
    let entries: Vec<EntryFact> =
        (0..9).map(|n| world.entry(900 - n as u64, Some(world.grants[n].id()), Some(b"v"))).collect();
    world.core.tick(time(2_000));
    world.tell(part(PartRow::FIRST, Some(&entries[2])), None, &entries[..3]);
    assert_eq!(world.state().value, Value::Unknown);
    world.synced();
    assert_eq!((world.state().value, world.state().dirty), (Value::Unknown, Some(Dirty::Loading)));
    world.tell(part(PartRow::NEXT, Some(&entries[5])), None, &entries[3..6]);
    assert_eq!((world.state().value, world.state().dirty), (Value::Unknown, Some(Dirty::Loading)));
    // A page of another telling completes nothing.
    let other = PartRow { telling: 6, ..part(PartRow::LAST, None).expect("a part") };
    world.tell(Some(other), None, &entries[8..]);
    assert_eq!(world.state().value, Value::Unknown);
    world.tell(part(PartRow::LAST, None), None, &entries[6..]);
    assert_eq!((world.state().value, world.state().dirty), (Value::Absent, None));
    assert_eq!(world.state().cause, Some(Cause::Loaded));
}

#[test]
fn the_first_verified_entry_that_nothing_masks_decides_and_the_next_one_comes_with_its_value() {
    let mut world = World::with_grants(6);
    let entries: Vec<EntryFact> =
        (0..6).map(|n| world.entry(400 - n as u64, Some(world.grants[n].id()), Some(b"v"))).collect();
    world.tell(part(PartRow::FIRST, Some(&entries[1])), Some(&entries[0]), &entries[1..2]);
    assert_eq!(world.state().dirty, Some(Dirty::Loading), "the stream is not in step");
    world.synced();
    assert_eq!((world.text(), world.state().dirty), (Some("v".into()), None), "decided by the newest");
    // The entry ends in the middle of the telling: the agent starts again, with fewer entries.
    let revocation = Revocation { grant: world.grants[0].clone(), by: By::Root, revoked_at: time(450) };
    let revocation = Fact::Revocation(world.sign(revocation, ROOT));
    world.tell_authority(&[revocation]);
    // The next entry is shown, and its value has not been received.
    assert_eq!((world.state().value, world.state().dirty), (Value::Unknown, Some(Dirty::Loading)));
    let wanted = world.core.next_valueless();
    assert_eq!(wanted, Some((key(), entries[1].id())));
    assert_eq!(world.core.next_valueless(), None, "asked for already");
    world.tell(part(PartRow::FIRST, Some(&entries[2])), Some(&entries[1]), &entries[2..3]);
    assert_eq!((world.text(), world.state().dirty), (Some("v".into()), None));
    assert_eq!(world.state().cause, Some(Cause::Revoked(world.grants[0].id())));
    // A page of the abandoned telling.
    world.tell(part(PartRow::LAST, None), None, &entries[3..]);
    world.core.tick(time(2_000));
    assert_eq!(world.state().value, Value::Absent, "all were told, and all have expired");
}

#[test]
fn what_does_not_verify_makes_no_key_absent() {
    let mut world = World::with_grants(1);
    let shown = world.entry(300, Some(world.grants[0].id()), Some(b"v"));
    let unknown = world.grant(77, None);
    let waits = world.entry(400, Some(unknown.id()), Some(b"waits"));
    world.tell(None, Some(&shown), std::slice::from_ref(&waits));
    world.synced();
    assert_eq!((world.text(), world.state().dirty), (Some("v".into()), Some(Dirty::Unverified)));
    world.core.tick(time(2_000));
    assert_eq!((world.state().value, world.state().dirty), (Value::Unknown, Some(Dirty::Unverified)));
    // Its grant arrives: the entry is live, and its value is requested.
    world.tell_authority(&[Fact::Grant(unknown)]);
    assert_eq!((world.state().value, world.state().dirty), (Value::Unknown, Some(Dirty::Loading)));
    let (asked, id) = world.core.next_valueless().expect("a value is missing");
    world.core.hear_value("a", &asked, id, shown);
    assert_eq!(world.state().value, Value::Unknown, "the value of another entry");
    assert_eq!(world.core.rejections.count(), 1);
    world.core.hear_value("a", &asked, id, waits);
    assert_eq!((world.text(), world.state().dirty), (Some("waits".into()), None));
}

#[test]
fn an_entry_that_was_superseded_is_not_shown_while_the_value_in_its_place_is_yet_to_come() {
    let mut world = World::with_grants_until(1, None);
    let shown = world.entry(300, Some(world.grants[0].id()), Some(b"v"));
    let unknown = world.grant(77, None);
    let later = world.entry(400, Some(unknown.id()), Some(b"later"));
    world.tell(None, Some(&shown), std::slice::from_ref(&later));
    world.synced();
    assert_eq!(world.text(), Some("v".into()));
    world.tell_authority(&[Fact::Grant(unknown)]);
    assert_eq!((world.state().value, world.state().dirty), (Value::Unknown, Some(Dirty::Loading)));
    let (asked, id) = world.core.next_valueless().expect("a value is missing");
    world.core.hear_value("a", &asked, id, later);
    assert_eq!((world.text(), world.state().dirty), (Some("later".into()), None));
}

/// A delete needs no value, and decides like any entry.
#[test]
fn a_delete_decides_without_a_value() {
    let mut world = World::with_grants(2);
    let delete = world.entry(400, Some(world.grants[0].id()), None);
    let older = world.entry(300, Some(world.grants[1].id()), Some(b"v"));
    world.tell(part(PartRow::FIRST, Some(&delete)), None, std::slice::from_ref(&delete));
    world.synced();
    assert_eq!((world.state().value, world.state().dirty), (Value::Absent, None));
    assert_eq!(world.state().cause, Some(Cause::Deleted(delete.id())));
    world.tell(part(PartRow::LAST, None), None, &[older]);
    assert_eq!(world.core.next_valueless(), None);
    assert_eq!(world.state().value, Value::Absent);
}

/// The oldest entries are dropped first, but never the shown one. When the others end, the key is loaded again,
/// not absent.
#[test]
fn what_is_held_of_a_key_is_bounded_and_what_fell_is_asked_for_again() {
    let count = MAX_HELD_ENTRIES + 100;
    let mut world = World::with_grants(0);
    let team = world.grant(1, None);
    let (parent, public) = (team.id(), world.people[TEAM].public().clone());
    let below = |world: &World, number: usize, expires_at| {
        let mut body = world.grant(number, expires_at).body().clone();
        (body.issuer, body.grantee, body.parent) = (public.entity(), public.clone(), Some(parent));
        world.sign(body, TEAM)
    };
    world.tell_authority(&[Fact::Grant(team.clone())]);
    world.synced();
    // One entry of root's under no grant, the oldest of all; then one entry under each of very many grants.
    let oldest = world.entry(2, None, Some(b"root's"));
    world.tell(part(PartRow::FIRST, Some(&oldest)), Some(&oldest), &[]);
    for number in 0..count {
        let grant = below(&world, number, Some(time(1_000)));
        let entry = world.entry(3 + number as u64 % 900, Some(grant.id()), Some(b"v"));
        world.tell_authority(&[Fact::Grant(grant)]);
        world.tell(part(PartRow::NEWS, None), None, &[entry]);
        let counts = number % 4096 == 4095;
        assert!(!counts || world.core.keys[&key()].ids().count() <= MAX_HELD_ENTRIES);
    }
    assert!(world.core.keys[&key()].ids().count() <= MAX_HELD_ENTRIES);
    // All of these expire. Root's entry remains unless it was dropped; the key must not be taken for unset.
    world.core.tick(time(2_000));
    assert_ne!(world.state().value, Value::Absent);
    let revocation = Revocation { grant: team, by: By::Root, revoked_at: time(2_000) };
    let revocation = Fact::Revocation(world.sign(revocation, ROOT));
    world.tell_authority(&[revocation]);
    assert_ne!(world.state().value, Value::Absent);
}

#[test]
fn the_values_of_the_oldest_entries_fall_first_and_never_the_shown_one() {
    let mut world = World::with_grants(6);
    let value = |n: u8| vec![n; MAX_HELD_VALUE_BYTES / 3];
    let entries: Vec<EntryFact> = (0..6)
        .map(|n| world.entry(300 + n as u64, Some(world.grants[n].id()), Some(&value(n as u8))))
        .collect();
    world.synced();
    for entry in &entries {
        world.tell(part(PartRow::NEWS, None), Some(entry), &[]);
        assert_eq!(world.text(), Some(value(entry.value().expect("set")[0]).into()));
    }
    let held = &world.core.keys[&key()];
    assert_eq!(held.ids().count(), 6);
    assert!(held.held_value_bytes() <= MAX_HELD_VALUE_BYTES);
    // The previous value is held; the ones before it must be requested.
    for (number, wanted) in [(5, None), (4, Some(entries[3].id()))] {
        let revocation =
            Revocation { grant: world.grants[number].clone(), by: By::Root, revoked_at: time(450) };
        let revocation = Fact::Revocation(world.sign(revocation, ROOT));
        world.tell_authority(&[revocation]);
        assert_eq!(world.core.next_valueless().map(|(_, id)| id), wanted);
    }
}
