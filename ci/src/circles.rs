//! Detection of circles among modules.

use crate::source::Path;
use std::collections::{BTreeMap, BTreeSet};

/// A module, and another module of which it names an item.
type Edge = (Path, Path);

/// Groups edges by the two sibling modules that contain their ends. Edges between a module and one below it are left
/// out.
pub(crate) fn edges_beside(named: &BTreeSet<Edge>) -> BTreeMap<Edge, BTreeSet<Edge>> {
    let mut edges: BTreeMap<Edge, BTreeSet<Edge>> = BTreeMap::new();
    for (from, to) in named {
        let common = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        if common < from.len() && common < to.len() {
            let beside = (from[..=common].to_vec(), to[..=common].to_vec());
            edges.entry(beside).or_default().insert((from.clone(), to.clone()));
        }
    }
    edges
}

/// Returns the strongly connected components of two modules or more.
pub(crate) fn circles<T>(edges: &BTreeMap<Edge, T>) -> BTreeSet<BTreeSet<Path>> {
    let mut next: BTreeMap<&Path, Vec<&Path>> = BTreeMap::new();
    for (from, to) in edges.keys() {
        next.entry(from).or_default().push(to);
    }
    let reach: BTreeMap<&Path, BTreeSet<&Path>> =
        next.keys().map(|module| (*module, reachable(&next, module))).collect();
    let leads_back = |from: &Path, to: &Path| reach.get(from).is_some_and(|reached| reached.contains(to));
    let mut circles = BTreeSet::new();
    for (module, reached) in &reach {
        let circle = reached.iter().filter(|other| leads_back(other, module));
        let circle: BTreeSet<Path> = circle.map(|other| (*other).clone()).collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles
}

fn reachable<'a>(next: &BTreeMap<&'a Path, Vec<&'a Path>>, from: &'a Path) -> BTreeSet<&'a Path> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(module) = open.pop() {
        for other in next.get(module).into_iter().flatten() {
            if reached.insert(*other) {
                open.push(other);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        text.split("::").map(str::to_owned).collect()
    }

    fn found(edges: &[(&str, &str)]) -> Vec<Vec<String>> {
        let named = edges.iter().map(|(from, to)| (path(from), path(to))).collect();
        let circles = circles(&edges_beside(&named));
        circles.iter().map(|circle| circle.iter().map(|module| module.join("::")).collect()).collect()
    }

    #[test]
    fn modules_beside_each_other_with_all_below_them_form_no_circle() {
        assert_eq!(found(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]), [["a", "b", "c"]]);
        assert_eq!(found(&[("a::x", "b::y"), ("b::z", "a::w")]), [["a", "b"]]);
        assert_eq!(found(&[("a::x", "a::y::z"), ("a::y", "a::x")]), [["a::x", "a::y"]]);
    }

    #[test]
    fn a_module_and_those_below_it_name_each_other_freely() {
        let none: [[&str; 0]; 0] = [];
        assert_eq!(found(&[("a", "a::x"), ("a::x", "a"), ("a::x::y", "a"), ("a::x", "b"), ("a", "b")]), none);
    }
}
