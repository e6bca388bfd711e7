//! Fuzz target for the inclusion of a glob in a union of globs: every counterexample is valid, an included glob has
//! none among many candidates, and no budget is exceeded.
//!
//! The input is a text: the pattern, then the globs of the union, one per line; an empty line; keys.

use crate::Seed;
use crate::names::{Names, keys_like, seed};
use kvgossip_grants::{Inclusion, Key, KeyGlob, included_with_budget};

/// Maximum number of globs in a union.
const MAX_UNION: usize = 12;
/// Budgets in product nodes: enough for most inputs, too small for some.
const BUDGETS: [usize; 2] = [48, 1_024];

/// Runs one input: see the [module documentation](self).
pub fn run(data: &[u8]) {
    let Some(names) = Names::read(data) else { return };
    let globs = names.globs();
    let Some((pattern, union)) = globs.split_first() else { return };
    let union = &union[..union.len().min(MAX_UNION)];
    let answers = BUDGETS.map(|budget| included_with_budget(pattern, union, budget));
    if !matches!(answers[0], Inclusion::NotProven { .. }) {
        assert_eq!(answers[0], answers[1], "a larger budget changes no answer");
    }
    for (answer, budget) in answers.iter().zip(BUDGETS) {
        check(pattern, union, answer, budget, &names.keys());
    }
    if union.contains(pattern) {
        assert!(!matches!(answers[1], Inclusion::NotIncluded { .. }), "{pattern} is inside itself");
    }
}

fn check(pattern: &KeyGlob, union: &[KeyGlob], answer: &Inclusion, budget: usize, keys: &[Key]) {
    let outside = |key: &Key| pattern.matches(key) && !union.iter().any(|glob| glob.matches(key));
    match answer {
        Inclusion::Included => {
            let mut tries = keys.to_vec();
            tries.extend(std::iter::once(pattern).chain(union).flat_map(keys_like));
            let found = tries.iter().find(|key| outside(key));
            assert_eq!(found, None, "{pattern} is not inside {union:?}");
        }
        Inclusion::NotIncluded { counterexample } => {
            assert!(outside(counterexample), "{counterexample} is no counterexample: {pattern} {union:?}");
            let shorter =
                keys.iter().find(|key| outside(key) && key.as_str().len() < counterexample.as_str().len());
            assert_eq!(shorter, None, "{counterexample} is not the shortest");
        }
        Inclusion::NotProven { explored } => assert!(*explored <= budget, "{explored} nodes of {budget}"),
    }
}

/// Returns ordinary grants, unions that cover the pattern only together, and hard ones.
pub fn seeds() -> Vec<Seed> {
    let lengths: Vec<String> = (1..=10).map(|len| format!("/{}", "?".repeat(len))).collect();
    let lengths: Vec<&str> = std::iter::once("/*").chain(lengths.iter().map(String::as_str)).collect();
    vec![
        seed("inside_one", &["/my/key/*", "/my/**"], &["/my/key/a"]),
        seed("outside", &["/my/**", "/my/key/**"], &["/my/a", "/my/key/a"]),
        seed("itself", &["/**/a*/?", "/**/a*/?"], &["/a/b"]),
        seed("only_together", &["/a/**", "/a/*", "/a/*/**"], &["/a/b", "/a/b/c"]),
        seed("lengths", &lengths, &["/aaaaaaaaaaa", "/a"]),
        seed("grammar", &["/%??", "/%2?", "/%0?", "/%1?", "/%7?", "/%8*"], &["/%20", "/%FF"]),
        seed("dots", &["/?", "/a", "/b", "/?"], &["/-"]),
        seed("empty_union", &["/a/b"], &["/a/b"]),
        seed("deep", &["/**/x/**/y", "/**/x/y", "/**/x/*/y", "/**/x/*/*/**/y"], &["/x/a/b/c/y"]),
        seed(
            "hard",
            &["/????????", "/a???????", "/*a??????", "/**/?a?????*", "/?b*c*d*", "/*b", "/*c"],
            &["/aaaaaaaa"],
        ),
    ]
}
