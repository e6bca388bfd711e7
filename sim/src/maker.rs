//! Makes the facts of random worlds. Keys, patterns, values and times come from small sets, so that rare cases occur
//! often: equal timestamps, overlapping floors, revocations of grants that nobody saw, chains of seventeen grants.

use crate::dice::Dice;
use crate::scribe::{Scribe, Terms};
use crate::times::{NOW, SECOND};
use kvgossip_grants::{By, Fact, Grant, Key, KeyGlob, Signed};

const KEYS: [&str; 10] = ["/a", "/a/x", "/a/y", "/a/x/z", "/a/x/z/w", "/ab", "/b", "/b/x", "/b/y", "/%20/x"];
const PATTERNS: [&str; 14] = [
    "/**", "/**", "/**", "/**", "/a/**", "/a/**", "/**/x", "/*", "/a/*", "/b/**", "/a/x", "/?/x", "/**/x/**",
    "/a*",
];
const FLOORS: [&str; 9] = ["/a/**", "/a", "/*", "/a/*", "/b/**", "/**/x", "/?/x", "/**/x/**", "/**"];
const VALUES: [&str; 3] = ["one", "two", "three"];

/// Profile of a world: what the world has many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Profile {
    Small,
    /// A chain of about sixteen grants.
    Deep,
    /// Many keys, so that trees have inner nodes.
    Wide,
    /// Many grants, revocations and floors.
    Contested,
    /// Up to a hundred entries per key, of which hardly any dominates another.
    Crowded,
}

/// Facts, keys and signing keys of a world that was made.
pub(crate) struct Made {
    pub(crate) scribe: Scribe,
    pub(crate) keys: Vec<String>,
    pub(crate) facts: Vec<Fact>,
}

/// Makes a world.
pub(crate) fn make(mut dice: Dice) -> Made {
    let profile = match dice.within(0, 99) {
        0..60 => Profile::Small,
        60..72 => Profile::Deep,
        72..77 => Profile::Wide,
        77..79 => Profile::Crowded,
        _ => Profile::Contested,
    };
    let mut maker = Maker::new(dice, profile);
    maker.make(profile);
    let Maker { scribe, keys, facts, .. } = maker;
    Made { scribe, keys, facts }
}

struct Maker {
    dice: Dice,
    scribe: Scribe,
    keys: Vec<String>,
    /// All grants, including those that are never offered and occur only inside facts that cite them.
    grants: Vec<Signed<Grant>>,
    facts: Vec<Fact>,
    /// Percentage of entries that root signs, which supersede all others of their keys.
    by_root: u32,
    /// Percentage of entries that are early.
    ahead: u32,
}

impl Maker {
    fn new(mut dice: Dice, profile: Profile) -> Self {
        let entities = dice.within(3, 6);
        let keys = if profile == Profile::Wide {
            let number = dice.within(40, 120);
            (0..number)
                .map(|n| format!("/{}/h{}/{}", ["a", "b", "ab"][n % 3], n / 9, ["x", "y", "z"][n % 7 % 3]))
                .collect()
        } else {
            let mut keys = KEYS.to_vec();
            dice.shuffle(&mut keys);
            keys.truncate(dice.within(1, if profile == Profile::Crowded { 3 } else { 4 }));
            keys.into_iter().map(str::to_owned).collect()
        };
        let by_root = if profile == Profile::Crowded { 0 } else { *dice.pick(&[0, 0, 4, 15]) };
        let ahead = *dice.pick(&[0, 0, 5, 25]);
        let scribe = Scribe::new(entities);
        Self { dice, scribe, keys, grants: Vec::new(), facts: Vec::new(), by_root, ahead }
    }

    fn make(&mut self, profile: Profile) {
        let (grants, entries, revocations, floors, forgeries) = match profile {
            Profile::Small => ((1, 8), (4, 22), (0, 2), (0, 2), (0, 3)),
            Profile::Deep => ((1, 3), (8, 24), (0, 2), (0, 1), (0, 2)),
            Profile::Wide => ((3, 8), (80, 200), (0, 3), (0, 2), (0, 4)),
            Profile::Crowded => ((80, 160), (200, 350), (0, 6), (0, 1), (0, 2)),
            Profile::Contested => ((8, 24), (6, 20), (3, 14), (1, 7), (0, 4)),
        };
        let mut times = |(low, high)| self.dice.within(low, high);
        let counts = [times(grants), times(entries), times(revocations), times(floors), times(forgeries)];
        let chain = if profile == Profile::Deep { self.dice.within(13, 18) } else { 0 };
        if profile == Profile::Crowded {
            // All directly below root, so that entries of different grants do not dominate each other.
            (0..counts[0]).for_each(|_| self.grant_below(None, "/**", Terms::default(), 1));
        } else {
            (0..counts[0]).for_each(|_| self.grant());
        }
        (0..chain).for_each(|_| self.lengthen());
        (0..counts[1]).for_each(|_| self.entry());
        (0..counts[2]).for_each(|_| self.revocation());
        (0..counts[3]).for_each(|_| self.floor());
        (0..counts[4]).for_each(|_| self.forgery());
    }

    fn entity(&mut self) -> usize {
        let last = self.scribe.entities() - 1;
        // Root is rarely the grantee.
        let lowest = usize::from(!self.dice.chance(4));
        self.dice.within(lowest, last)
    }

    /// Draws a time in the past of [`NOW`] from a small set, in microseconds.
    fn past(&mut self) -> u64 {
        (1_000 + 10 * self.dice.within(0, 7) as u64) * SECOND
    }

    fn terms(&mut self) -> Terms {
        let issued_at = match self.dice.within(0, 9) {
            0..8 => 0,
            8 => self.past(),
            _ => {
                if self.dice.chance(30) {
                    NOW + 500 * SECOND
                } else {
                    1_010 * SECOND
                }
            }
        };
        let expires_at = match self.dice.within(0, 9) {
            0..7 => None,
            7 => Some(self.past().max(1_040 * SECOND)),
            _ => Some(NOW + [0, 60 * SECOND, 100 * SECOND, 1_000 * SECOND][self.dice.within(0, 3)]),
        };
        Terms { subgrant: self.dice.chance(92), issued_at, expires_at }
    }

    fn grant(&mut self) {
        let parent = if self.grants.is_empty() || self.dice.chance(50) {
            None
        } else {
            Some(self.dice.pick_late(&self.grants).clone())
        };
        let inherited = parent.as_ref().filter(|_| self.dice.chance(50)).map(|it| it.body().pattern.clone());
        let pattern = inherited.as_ref().map_or(*self.dice.pick(&PATTERNS), KeyGlob::as_str);
        let terms = self.terms();
        self.grant_below(parent, pattern, terms, 3);
    }

    /// Adds a grant below the newest grant, so that the chain gets longer.
    fn lengthen(&mut self) {
        let parent = self.grants.last().cloned();
        let pattern = if self.dice.chance(4) { *self.dice.pick(&PATTERNS) } else { "/**" };
        let expires_at = if self.dice.chance(4) { Some(NOW) } else { None };
        self.grant_below(parent, pattern, Terms { subgrant: true, issued_at: 0, expires_at }, 1);
    }

    /// Adds a grant below `parent` (`None`: root's grant); `flaws` is the percentage of such grants with something
    /// wrong.
    fn grant_below(&mut self, parent: Option<Signed<Grant>>, pattern: &str, terms: Terms, flaws: u32) {
        let issuer = match &parent {
            None => 0,
            Some(parent) => self.scribe.who(&parent.body().grantee).unwrap_or(0),
        };
        // Sometimes an entity that is not the issuer.
        let issuer = if self.dice.chance(flaws) { self.entity() } else { issuer };
        let grantee = self.entity();
        let grant = self.scribe.grant(issuer, grantee, pattern, parent.map(|parent| parent.id()), terms);
        // Some are never offered: others cite and revoke grants that nobody can see.
        if !self.dice.chance(2 * flaws) {
            self.facts.push(Fact::Grant(grant.clone()));
        }
        self.grants.push(grant);
    }

    fn entry(&mut self) {
        // Mostly entries that the chain allows, so that many are valid and compete.
        let (mut grant, mut key, mut time) = self.citation();
        if self.dice.chance(88) {
            for _ in 0..12 {
                if self.allows(grant.as_ref(), &key, time) {
                    break;
                }
                (grant, key, time) = self.citation();
            }
        }
        let holder = grant.as_ref().map_or(0, |grant| self.scribe.who(&grant.body().grantee).unwrap_or(0));
        let who = if self.dice.chance(97) { holder } else { self.entity() };
        let grant = grant.map(|grant| grant.id());
        let value = if self.dice.chance(20) { None } else { Some(*self.dice.pick(&VALUES)) };
        self.facts.push(match value {
            Some(value) => self.scribe.set(who, &key, value.as_bytes(), time, grant),
            None => self.scribe.delete(who, &key, time, grant),
        });
    }

    /// Draws a grant for an entry to cite, a key and a time in microseconds.
    fn citation(&mut self) -> (Option<Signed<Grant>>, String, u64) {
        let limit = NOW + 120 * SECOND;
        let ahead = [limit, limit + 1, NOW + 300 * SECOND, NOW + 1_000 * SECOND];
        let time = if self.dice.chance(self.ahead) { *self.dice.pick(&ahead) } else { self.past() };
        let root_writes = self.dice.chance(self.by_root) || self.grants.is_empty();
        let grant = if root_writes { None } else { Some(self.dice.pick_late(&self.grants).clone()) };
        (grant, self.dice.pick(&self.keys).clone(), time)
    }

    /// Whether all patterns and windows of the chain of `grant` allow an entry of `key` at `time`.
    fn allows(&self, grant: Option<&Signed<Grant>>, key: &str, time: u64) -> bool {
        let Some(grant) = grant else { return true };
        let body = grant.body();
        let time_fits =
            body.issued_at.as_micros() <= time && body.expires_at.is_none_or(|end| time <= end.as_micros());
        let key_fits = Key::parse(key).is_ok_and(|key| body.pattern.matches(&key));
        let parent = body.parent.and_then(|id| self.grants.iter().find(|grant| grant.id() == id));
        time_fits && key_fits && (body.parent.is_none() || self.allows(parent, key, time))
    }

    fn revocation(&mut self) {
        let Some(grant) = (!self.grants.is_empty()).then(|| self.dice.pick_late(&self.grants).clone()) else {
            return;
        };
        let issuer = self.scribe.who_is(grant.body().issuer).unwrap_or(0);
        let grantee = self.scribe.who(&grant.body().grantee).unwrap_or(0);
        let (by, who) = match self.dice.within(0, 2) {
            1 if grant.body().parent.is_some() => (By::Issuer, issuer),
            2 => (By::Grantee, grantee),
            _ => (By::Root, 0),
        };
        let revoked_at = self.dice.within(0, 2) as u64 * NOW;
        self.facts.push(self.scribe.revoke(&grant, by, who, revoked_at));
    }

    fn floor(&mut self) {
        let count = self.dice.within(1, 3);
        let patterns: Vec<&str> = (0..count).map(|_| *self.dice.pick(&FLOORS)).collect();
        let before = if self.dice.chance(97) { self.past().min(self.past()) } else { NOW + 400 * SECOND };
        let floor = self.scribe.floor(&patterns, before);
        self.facts.push(floor);
    }

    /// Adds a fact signed by the wrong entity, or a revocation of a grant that was never issued.
    fn forgery(&mut self) {
        let who = self.dice.within(0, self.scribe.entities() - 1);
        if self.dice.chance(30) && !self.grants.is_empty() {
            let grant = self.dice.pick(&self.grants).clone();
            let forged = self.scribe.resign(&grant, who);
            self.facts.push(self.scribe.revoke(&forged, By::Root, 0, 0));
        } else if !self.facts.is_empty() {
            let forged = self.scribe.forge(self.dice.pick(&self.facts), who);
            self.facts.push(forged);
        }
    }
}
