//! Which module of a crate imports which. Two that import each other can only be read together.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    str::FromStr,
};

use anyhow::anyhow;
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::sources;

/// The modules at the top of a crate, and which others each of them names.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// Circles that are still there: the crate and the first of the modules. One that is gone has to go from here too.
const KNOWN: &[(&str, &str)] = &[];

/// What is wrong in the crate `name`, whose sources are in `directory`: each circle that is not known, and each known one
/// that is gone.
pub(crate) fn faults(name: &str, directory: &Path) -> anyhow::Result<Vec<String>> {
    let known = KNOWN.iter().filter(|(one, _)| *one == name);
    let mut known: BTreeSet<&str> = known.map(|(_, first)| *first).collect();
    let mut faults = Vec::new();
    for (first, circle) in circles(directory)? {
        if !known.remove(first.as_str()) {
            faults.push(format!("crate {name}: modules in a circle: {circle}"));
        }
    }
    let gone = known
        .iter()
        .map(|first| format!("crate {name}: no circle of {first}: remove it from KNOWN"));
    faults.extend(gone);
    Ok(faults)
}

/// Every file named `mod.rs`: a module with modules of its own is `name.rs` beside `name/`.
pub(crate) fn misnamed(root: &Path) -> anyhow::Result<Vec<String>> {
    let files = sources::files(root, &["mod.rs"])?;
    let files = files
        .iter()
        .filter(|file| file.file_name().is_some_and(|name| name == "mod.rs"));
    Ok(files
        .map(|file| {
            let file = file.strip_prefix(root).unwrap_or(file);
            let directory = file.parent().unwrap_or(file).display();
            format!("{}: name it {directory}.rs", file.display())
        })
        .collect())
}

/// Every circle of modules at the top of a crate whose sources are in `directory`: its first module, and its imports.
fn circles(directory: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let imports = imports(directory)?;
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for module in imports.keys() {
        let circle: BTreeSet<_> = reachable(&imports, module)
            .into_iter()
            .filter(|other| reachable(&imports, other).contains(module))
            .collect();
        // The modules come in order: the first one finds the circle.
        if !circle.is_empty() && seen.insert(circle.clone()) {
            let edges = circle.iter().map(|one| {
                let others = imports[*one].iter().filter(|other| circle.contains(other));
                let others: Vec<_> = others.map(String::as_str).collect();
                format!("{one} imports {}", others.join(", "))
            });
            let edges = edges.collect::<Vec<_>>().join("; ");
            found.push((module.clone(), edges));
        }
    }
    Ok(found)
}

/// The modules to which imports lead from `module`: itself too, if it is in a circle.
fn reachable<'a>(imports: &'a Imports, module: &str) -> BTreeSet<&'a String> {
    let mut found = BTreeSet::new();
    let mut left: Vec<_> = imports.get(module).into_iter().flatten().collect();
    while let Some(next) = left.pop() {
        if found.insert(next) {
            left.extend(imports.get(next).into_iter().flatten());
        }
    }
    found
}

fn imports(directory: &Path) -> anyhow::Result<Imports> {
    let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut exported = BTreeMap::new();
    for file in sources::files(directory, &[".rs"])? {
        let path = file.strip_prefix(directory)?.with_extension("");
        let place: Vec<_> = path
            .iter()
            .map(|part| part.to_string_lossy().into_owned())
            .collect();
        let text = sources::read(&file)?;
        let tokens = TokenStream::from_str(&text)
            .map_err(|error| anyhow!("cannot read {}: {error}", file.display()))?;
        match place.first().map(String::as_str) {
            Some("lib" | "main") | None => exports(tokens, &mut exported),
            // What only tests use is in files of that name, and below them.
            Some(_) if place.iter().any(|part| part == "tests") => {}
            Some(top) => {
                let top = top.to_owned();
                let names = named.entry(top).or_default();
                paths(tokens, place.len(), names);
            }
        }
    }
    let modules: BTreeSet<_> = named.keys().cloned().collect();
    let module = |name: &String| modules.get(name).or_else(|| exported.get(name)).cloned();
    Ok(named
        .into_iter()
        .map(|(own, names)| {
            let others = names.iter().filter_map(module);
            let others = others.filter(|other| *other != own && modules.contains(other));
            let others = others.collect();
            (own, others)
        })
        .collect())
}

/// Adds the names that follow `crate::`, or as many `super::` as lead from a module at `depth` to the crate. Modules for
/// tests are left out.
fn paths(tokens: TokenStream, depth: usize, names: &mut BTreeSet<String>) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        if let Some(length) = test_module(&tokens[at..]) {
            at += length;
            continue;
        }
        if let Some(length) = root(&tokens[at..], depth) {
            at += length;
            match tokens.get(at) {
                Some(TokenTree::Ident(name)) => {
                    names.insert(name.to_string());
                }
                Some(TokenTree::Group(group)) => firsts(group.stream(), names),
                _ => {}
            }
            continue;
        }
        if let TokenTree::Group(group) = token {
            // A module within a file is one deeper.
            let is_module =
                group.delimiter() == Delimiter::Brace && at >= 2 && is_word(&tokens[at - 2], "mod");
            paths(group.stream(), depth + usize::from(is_module), names);
        }
        at += 1;
    }
}

/// How many tokens lead to the root of the crate, if these begin with a path from there.
fn root(tokens: &[TokenTree], depth: usize) -> Option<usize> {
    if is_word(tokens.first()?, "crate") {
        return colons(&tokens[1..]).then_some(3);
    }
    let steps = tokens
        .chunks(3)
        .take_while(|step| is_word(&step[0], "super") && colons(&step[1..]))
        .count();
    (steps == depth && steps > 0).then_some(steps * 3)
}

/// The first name of each path in a list of paths.
fn firsts(list: TokenStream, names: &mut BTreeSet<String>) {
    let mut begins = true;
    for token in list {
        match token {
            TokenTree::Ident(name) if begins => {
                names.insert(name.to_string());
                begins = false;
            }
            TokenTree::Punct(mark) if mark.as_char() == ',' => begins = true,
            _ => {}
        }
    }
}

/// The length of a module that only tests have, if these tokens begin with one: `#[cfg(test)] mod name {…}`.
pub(crate) fn test_module(tokens: &[TokenTree]) -> Option<usize> {
    let [
        TokenTree::Punct(hash),
        TokenTree::Group(attribute),
        word,
        _,
        _,
        ..,
    ] = tokens
    else {
        return None;
    };
    let is_for_tests = hash.as_char() == '#'
        && attribute.stream().to_string().replace(' ', "") == "cfg(test)"
        && is_word(word, "mod");
    is_for_tests.then_some(5)
}

/// Adds which module each name comes from that the root of a crate has from its modules: `use module::{Name, …}`.
fn exports(tokens: TokenStream, exported: &mut BTreeMap<String, String>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        if !is_word(&token, "use") {
            continue;
        }
        let mut path = Vec::new();
        while let Some(next) =
            tokens.next_if(|next| !matches!(next, TokenTree::Punct(mark) if mark.as_char() == ';'))
        {
            path.push(next);
        }
        export(&path, None, exported);
    }
}

fn export(path: &[TokenTree], module: Option<&str>, exported: &mut BTreeMap<String, String>) {
    for one in path.split(|token| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ','))
    {
        let mut from = module.map(str::to_owned);
        for token in one {
            match token {
                TokenTree::Ident(name) if *name == "self" || *name == "crate" => {}
                TokenTree::Ident(name) => {
                    let name = name.to_string();
                    match &from {
                        None => from = Some(name),
                        Some(from) => {
                            exported.insert(name, from.clone());
                        }
                    }
                }
                TokenTree::Group(group) => {
                    let inner: Vec<_> = group.stream().into_iter().collect();
                    export(&inner, from.as_deref(), exported);
                }
                _ => {}
            }
        }
    }
}

fn colons(tokens: &[TokenTree]) -> bool {
    let is_colon =
        |token: &TokenTree| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ':');
    tokens.len() >= 2 && tokens[..2].iter().all(is_colon)
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(name) if *name == word)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn of(files: &[(&str, &str)]) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = directory.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        faults("example", directory.path()).unwrap()
    }

    #[test]
    fn imports_in_one_direction_are_no_circle() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c; pub use a::One;"),
            (
                "a.rs",
                "pub struct One; #[cfg(test)] mod tests { use crate::c::Three; }",
            ),
            ("b.rs", "use crate::One; use super::a;"),
            ("c.rs", "mod d; use crate::{a, b::Two};"),
            ("c/d.rs", "use super::x; use crate::One; // crate::c"),
        ];
        assert_eq!(of(&files), Vec::<String>::new());
    }

    #[test]
    fn module_with_modules_is_no_mod_rs() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("web/tests/it/servers");
        fs::create_dir_all(&inner).unwrap();
        for name in ["mod.rs", "some_mod.rs"] {
            fs::write(inner.join(name), "").unwrap();
        }
        assert_eq!(
            misnamed(directory.path()).unwrap(),
            ["web/tests/it/servers/mod.rs: name it web/tests/it/servers.rs"]
        );
    }

    #[test]
    fn circles_are_found_by_any_kind_of_path() {
        let root = (
            "lib.rs",
            "mod a; mod b; mod c; pub use self::{a::{One, Other}, b::Two};",
        );
        let circle = ["crate example: modules in a circle: a imports b; b imports a"];
        for (a, b) in [
            ("use crate::b;", "use crate::a;"),
            ("use crate::{c, b::Two};", "use super::a;"),
            ("use crate::Two;", "fn f() { g(crate::Other::new()) }"),
            (
                "mod inner { use super::super::b; }",
                "use super::{c, a::One};",
            ),
        ] {
            assert_eq!(
                of(&[root, ("a.rs", a), ("b.rs", b), ("c.rs", "")]),
                circle,
                "{a} {b}"
            );
        }
        assert_eq!(
            of(&[
                root,
                ("a/deep.rs", "use crate::b;"),
                ("b.rs", "use crate::c;"),
                ("c.rs", "use super::One;")
            ]),
            ["crate example: modules in a circle: a imports b; b imports c; c imports a"]
        );
    }
}
