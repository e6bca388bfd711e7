//! The modules of one crate, and which of them name items of which others.

use crate::source::{Path, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::{fs, io};

/// Modules of a crate by their paths below the root. The root's path is empty.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    modules: BTreeMap<Path, Module>,
}

#[derive(Debug)]
struct Module {
    file: String,
    source: Source,
}

/// Target of a path: a module, or an item of one.
struct Found {
    module: Path,
    is_module: bool,
}

impl Tree {
    /// Reads the crate whose root file is `root`.
    pub(crate) fn read(root: &str) -> io::Result<Self> {
        let mut tree = Self::default();
        let directory = root.rsplit_once('/').map_or(".", |(directory, _)| directory);
        tree.take_in(Path::new(), root.into(), directory)?;
        Ok(tree)
    }

    /// Reads a module and those below it. `directory`: directory of the children's files.
    fn take_in(&mut self, path: Path, file: String, directory: &str) -> io::Result<()> {
        let source = Source::read(&fs::read_to_string(&file)?);
        let children = source.children.clone();
        self.modules.insert(path.clone(), Module { file, source });
        for child in children {
            let below = format!("{directory}/{child}");
            let beside = format!("{below}.rs");
            let file = if fs::exists(&beside)? { beside } else { format!("{below}/mod.rs") };
            let mut path = path.clone();
            path.push(child);
            self.take_in(path, file, &below)?;
        }
        Ok(())
    }

    /// Returns the pairs of modules of which the first names an item of the second.
    pub(crate) fn named(&self) -> BTreeSet<(Path, Path)> {
        let mut named = BTreeSet::new();
        for (path, module) in &self.modules {
            let found = module.source.paths.iter().filter_map(|target| self.find(path, target, 0));
            let others = found.map(|found| found.module).filter(|other| other != path);
            named.extend(others.map(|other| (path.clone(), other)));
        }
        named
    }

    /// Returns the file of a module.
    pub(crate) fn file(&self, path: &Path) -> &str {
        self.modules.get(path).map_or("", |module| &module.file)
    }

    /// Resolves a path in a module; `None` if it leads to another crate.
    fn find(&self, from: &Path, target: &Path, depth: usize) -> Option<Found> {
        // Imports that name each other in a circle lead nowhere.
        if depth > 16 {
            return None;
        }
        let (first, mut rest) = target.split_first()?;
        let mut found = match first.as_str() {
            "crate" => Found { module: Path::new(), is_module: true },
            "self" => Found { module: from.clone(), is_module: true },
            "super" => Found { module: from.split_last()?.1.to_vec(), is_module: true },
            name => self.member(from, name, depth)?,
        };
        while found.is_module {
            let Some((name, further)) = rest.split_first() else { break };
            rest = further;
            if name == "super" {
                found.module.pop();
                continue;
            }
            let member = self.member(&found.module, name, depth);
            found = member.unwrap_or(Found { module: found.module, is_module: false });
        }
        Some(found)
    }

    /// Resolves a name that a module declares, defines or imports.
    fn member(&self, path: &Path, name: &str, depth: usize) -> Option<Found> {
        let source = &self.modules.get(path)?.source;
        if source.children.contains(name) {
            let mut module = path.clone();
            module.push(name.into());
            return Some(Found { module, is_module: true });
        }
        if source.items.contains(name) {
            return Some(Found { module: path.clone(), is_module: false });
        }
        let import = source.imports.get(name)?;
        self.find(path, import, depth + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(modules: &[(&str, &str)]) -> Tree {
        let of = |(path, text): &(&str, &str)| {
            let path: Path = path.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect();
            (path, Module { file: String::new(), source: Source::read(text) })
        };
        Tree { modules: modules.iter().map(of).collect() }
    }

    fn named(modules: &[(&str, &str)]) -> Vec<(String, String)> {
        let named = tree(modules).named();
        named.into_iter().map(|(from, to)| (from.join("::"), to.join("::"))).collect()
    }

    fn edge(from: &str, to: &str) -> (String, String) {
        (from.into(), to.into())
    }

    #[test]
    fn a_name_counts_for_the_file_that_defines_it() {
        let root = ("", "mod a; mod b; pub use b::Thing as Other;");
        let b = ("b", "mod c; pub use c::{Thing, self}; pub struct Own;");
        let c = ("b::c", "pub struct Thing;");
        let edges = |a: &str| {
            let mut edges = named(&[root, ("a", a), b, c]);
            edges.retain(|(from, _)| from == "a");
            edges
        };
        assert_eq!(edges("use crate::Other;"), [edge("a", "b::c")]);
        assert_eq!(edges("fn f() { crate::b::Thing::new() }"), [edge("a", "b::c")]);
        assert_eq!(edges("use super::b; fn f(of: b::Own) {}"), [edge("a", "b")]);
        assert_eq!(edges("use crate::b::{Own, c::{Thing}};"), [edge("a", "b"), edge("a", "b::c")]);
        assert_eq!(edges("use other::Thing; // use crate::b::Own\n"), []);
    }

    #[test]
    fn tests_do_not_count() {
        let text = "#[cfg(test)] mod tests { use crate::b::Own; } #[cfg(test)] #[path = \"x\"] mod x; struct S { \
                    #[cfg(test)] field: Vec<crate::b::Own>, other: u8 } #[cfg(test)] fn f() -> crate::b::Own { }";
        assert_eq!(named(&[("", "mod a; mod b;"), ("a", text), ("b", "pub struct Own;")]), []);
    }
}
