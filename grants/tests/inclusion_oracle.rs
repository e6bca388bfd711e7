//! Inclusion against brute force over all short keys of a few letters. The brute force asks `globset`, which also
//! judges every counterexample.

mod naming;

use kvgossip_grants::{INCLUSION_BUDGET, Inclusion, Key, KeyGlob, included, included_with_budget};
use naming::{globset, globset_matches, random_glob, seeded};
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::rc::Rc;

const CASES: usize = 24_000;
const KEY_BYTES: usize = 6;

/// All keys of at most [`KEY_BYTES`] over a few letters, shortest first; and for each glob which of them it matches.
struct World {
    keys: Vec<Key>,
    matched: BTreeMap<KeyGlob, Rc<Vec<u64>>>,
}

impl World {
    fn new() -> Self {
        let mut layers = vec![vec![String::new()]];
        for bytes in 1..=KEY_BYTES {
            let mut layer = Vec::new();
            for piece in ["/", "a", "b", "2", "y", ".", "%2F"] {
                let shorter = bytes.checked_sub(piece.len()).and_then(|rest| layers.get(rest));
                let begun =
                    shorter.into_iter().flatten().filter(|text| text.starts_with('/') || piece == "/");
                layer.extend(
                    begun
                        .filter(|text| !(piece == "/" && text.ends_with('/')))
                        .map(|text| format!("{text}{piece}")),
                );
            }
            layers.push(layer);
        }
        let keys: Vec<Key> = layers.iter().flatten().filter_map(|text| Key::parse(text).ok()).collect();
        assert!(keys.is_sorted_by_key(|key| key.as_str().len()) && keys.len() > 5_000, "{}", keys.len());
        Self { keys, matched: BTreeMap::new() }
    }

    fn matched(&mut self, glob: &KeyGlob) -> Rc<Vec<u64>> {
        let keys = &self.keys;
        let compute = || {
            let oracle = globset(glob);
            let word = |chunk: &[Key]| {
                chunk.iter().rev().fold(0, |bits, key| bits << 1 | u64::from(globset_matches(&oracle, key)))
            };
            Rc::new(keys.chunks(64).map(word).collect())
        };
        self.matched.entry(glob.clone()).or_insert_with(compute).clone()
    }

    /// The first key that the pattern matches and none of the union does.
    fn counterexample(&mut self, pattern: &KeyGlob, union: &[KeyGlob]) -> Option<&Key> {
        let mut left = self.matched(pattern).to_vec();
        for glob in union {
            left.iter_mut().zip(self.matched(glob).iter()).for_each(|(left, matched)| *left &= !matched);
        }
        let word = left.iter().position(|word| *word != 0)?;
        self.keys.get(64 * word + left[word].trailing_zeros() as usize)
    }
}

/// The pattern with its first or last wildcard taken apart into two that together mean the same.
fn taken_apart(random: &mut StdRng, text: &str) -> Vec<String> {
    let marked = text.replace("**", "&");
    let place = if random.random() { marked.find(['*', '?', '&']) } else { marked.rfind(['*', '?', '&']) };
    let Some(place) = place else { return vec![text.into()] };
    let (before, after) = (&marked[..place], &marked[place + 1..]);
    let parts: Vec<String> = match marked.as_bytes()[place] {
        b'&' if after.is_empty() => vec![format!("{before}*"), format!("{before}*/&")],
        b'&' => vec![format!("{before}{}", &after[1..]), format!("{before}*/&{after}")],
        b'*' => vec![format!("{before}{after}"), format!("{before}?*{after}"), format!("{before}*?{after}")],
        _ => vec![format!("{before}?{after}"), format!("{before}a{after}")],
    };
    parts.into_iter().map(|part| part.replace('&', "**")).collect()
}

/// A union that has something to do with the pattern: parts of it, widened parts, others.
fn random_union(random: &mut StdRng, pattern: &KeyGlob, pool: &[KeyGlob]) -> Vec<KeyGlob> {
    let mut texts = vec![pattern.as_str().to_owned()];
    for _ in 0..random.random_range(0..3) {
        let chosen = texts.swap_remove(random.random_range(0..texts.len()));
        texts.extend(taken_apart(random, &chosen));
    }
    if random.random_ratio(1, 2) {
        texts.swap_remove(random.random_range(0..texts.len()));
    }
    if random.random_ratio(1, 3) && !texts.is_empty() {
        let place = random.random_range(0..texts.len());
        texts[place] = texts[place].replacen(['a', 'b', '?'], "*", 1);
    }
    let mut union: Vec<KeyGlob> = texts.iter().filter_map(|text| KeyGlob::parse(text).ok()).collect();
    let others = if random.random_ratio(1, 8) { 20 } else { 3 };
    for _ in 0..random.random_range(0..others) {
        union.push(pool[random.random_range(0..pool.len())].clone());
    }
    union
}

#[test]
fn inclusion_agrees_with_brute_force() {
    let mut random = seeded(6);
    let mut world = World::new();
    let pool: Vec<KeyGlob> = (0..150).map(|_| random_glob(&mut random)).collect();
    let (mut yes, mut no) = (0, 0);
    for case in 0..CASES {
        let pattern = &pool[random.random_range(0..pool.len())];
        let union = random_union(&mut random, pattern, &pool);
        let brute = world.counterexample(pattern, &union).cloned();
        let answer = included(pattern, &union);
        match &answer {
            Inclusion::Included => {
                yes += 1;
                assert_eq!(brute, None, "case {case}: {pattern} {union:?}");
            }
            Inclusion::NotIncluded { counterexample: key } => {
                no += 1;
                assert!(globset_matches(&globset(pattern), key), "case {case}: {pattern} {union:?} {key}");
                let in_union = union.iter().any(|glob| globset_matches(&globset(glob), key));
                assert!(!in_union, "case {case}: {pattern} {union:?} {key}");
                let shorter = brute.filter(|brute| brute.as_bytes().len() < key.as_bytes().len());
                assert_eq!(shorter, None, "case {case}: {pattern} {union:?} {key}");
            }
            Inclusion::NotProven { explored } => panic!("case {case}: {pattern} {union:?} {explored}"),
        }
        let budget = random.random_range(0..40);
        match included_with_budget(pattern, &union, budget) {
            Inclusion::NotProven { explored } => {
                assert!(explored <= budget, "case {case}: {pattern} {union:?}")
            }
            early => assert_eq!(early, answer, "case {case}: {pattern} {union:?}"),
        }
    }
    assert!(yes > CASES / 5 && no > CASES / 5, "a lopsided sample: {yes} {no}");
}

/// The union asks for the letter `distance` places back, so a search has to remember that many.
fn remembering(distance: usize) -> (KeyGlob, Vec<KeyGlob>) {
    let union = (1..distance).map(|gap| format!("/*a{}a*", "?".repeat(gap)));
    let union = union.map(|text| KeyGlob::parse(&text).expect("a glob")).collect();
    (KeyGlob::parse("/*a*a*a*a*a*a*a*").expect("a glob"), union)
}

#[test]
fn hard_questions_end_at_the_budget() {
    let mut answers = Vec::new();
    for budget in [0, 1, 2, 10, 100, 1_000, INCLUSION_BUDGET] {
        for distance in [3, 6, 12, 40] {
            let (pattern, union) = remembering(distance);
            let answer = included_with_budget(&pattern, &union, budget);
            if let Inclusion::NotProven { explored } = answer {
                assert!(explored <= budget, "{explored} {budget}");
            }
            answers.push(answer);
        }
    }
    assert!(answers.contains(&Inclusion::NotProven { explored: INCLUSION_BUDGET }), "{answers:?}");
    assert!(answers.iter().any(|answer| matches!(answer, Inclusion::NotIncluded { .. })), "{answers:?}");
}

/// A formula in disjunctive normal form: is it always true? Many globs that all stay possible make every node large.
#[test]
fn many_globs_end_at_the_work_that_the_budget_allows() {
    let mut random = seeded(7);
    let width = 40;
    let term = |letters: &[(usize, char)]| {
        let mut text = vec!['?'; width];
        letters.iter().for_each(|(place, letter)| text[*place] = *letter);
        KeyGlob::parse(&format!("/{}", text.iter().collect::<String>())).expect("a glob")
    };
    let plain: Vec<char> =
        (0..128_u8).map(char::from).filter(|c| Key::parse(&format!("/x{c}")).is_ok()).collect();
    let mut union = Vec::new();
    for _ in 0..400 {
        let letters: Vec<_> = (0..3)
            .map(|_| (random.random_range(0..width), if random.random() { 'a' } else { 'b' }))
            .collect();
        union.push(term(&letters));
    }
    // Every other letter is refused wherever it stands, so that each place is true or false.
    for place in 0..width {
        union.extend(
            plain.iter().filter(|letter| !"ab".contains(**letter)).map(|letter| term(&[(place, *letter)])),
        );
    }
    let budget = 512;
    let answer = included_with_budget(&term(&[]), &union, budget);
    assert!(
        matches!(answer, Inclusion::NotProven { explored } if explored > 0 && explored < budget),
        "{answer:?}"
    );
}
