//! Which module of a crate names which: every path that starts with `crate`, `self` or `super`, in
//! `use` groups however nested and in the middle of code alike.

use std::collections::{BTreeMap, BTreeSet};

/// A crate's modules and what they name.
#[derive(Debug)]
pub(super) struct Crate {
    modules: BTreeSet<Vec<String>>,
    /// (file, the module that names, the path that it names).
    names: Vec<(String, Vec<String>, Vec<String>)>,
}

impl Crate {
    /// Reads the files below `root`: (path, text).
    pub(super) fn read(root: &str, files: Vec<(String, String)>) -> Self {
        let mut modules = BTreeSet::new();
        let mut names = Vec::new();
        for (file, text) in files {
            let path = file.strip_prefix(root).unwrap().trim_start_matches('/');
            let module: Vec<_> = path
                .trim_end_matches(".rs")
                .split('/')
                .map(str::to_owned)
                .collect();
            if ["lib", "main"].contains(&module[0].as_str()) {
                continue;
            }
            for used in paths(&module, &tokens(&text)) {
                names.push((file.clone(), module.clone(), used));
            }
            modules.insert(module);
        }
        Self { modules, names }
    }

    /// What goes against the order, in which each may use those before it; and modules side by side
    /// that use each other in a circle.
    pub(super) fn against(&self, order: &[&str]) -> Vec<String> {
        let rank = |name: &str| order.iter().position(|known| *known == name);
        let mut wrong = Vec::new();
        for module in &self.modules {
            if rank(&module[0]).is_none() {
                wrong.push(format!("{} has no place in the order", module[0]));
            }
        }
        let mut beside: BTreeMap<&[String], BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
        for (file, from, to) in &self.names {
            let Some(first) = to.first() else { continue };
            if rank(first) > rank(&from[0]) {
                wrong.push(format!("{file} uses {}", to.join("::")));
            }
            let common = from.iter().zip(to).take_while(|(a, b)| a == b).count();
            if let (Some(a), Some(b)) = (from.get(common), to.get(common))
                && common > 0
                && self.modules.contains(&to[..=common])
            {
                let level = beside.entry(&from[..common]).or_default();
                level.entry(a).or_default().insert(b);
            }
        }
        for (parent, uses) in &beside {
            if let Some(circle) = circle(uses) {
                wrong.push(format!("{}: {}", parent.join("::"), circle.join(" → ")));
            }
        }
        wrong
    }
}

/// Some circle, its first module again at the end.
fn circle<'a>(uses: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Option<Vec<&'a str>> {
    fn walk<'a>(
        at: &'a str,
        uses: &BTreeMap<&'a str, BTreeSet<&'a str>>,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> bool {
        if let Some(start) = way.iter().position(|seen| *seen == at) {
            way.drain(..start);
            way.push(at);
            return true;
        }
        if !done.insert(at) {
            return false;
        }
        way.push(at);
        let found = uses
            .get(at)
            .is_some_and(|next| next.iter().any(|next| walk(next, uses, way, done)));
        if !found {
            way.pop();
        }
        found
    }
    let mut done = BTreeSet::new();
    uses.keys().find_map(|start| {
        let mut way = Vec::new();
        walk(start, uses, &mut way, &mut done).then_some(way)
    })
}

/// Words, `::`, and every other character that is no space; without comments and text.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            3 + raw.find("\"#").unwrap() + 2
        } else if first == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|c| {
                let end = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                end
            });
            1 + end.unwrap() + 1
        } else if rest.starts_with("'\"'") || rest.starts_with("'{'") || rest.starts_with("'}'") {
            3
        } else if is_word(first) {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            tokens.push(rest[..length].to_owned());
            length
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

/// The paths within the crate that a module names, from its root.
fn paths(module: &[String], tokens: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    // Modules within the file: (name, depth of braces).
    let mut inner: Vec<(&String, usize)> = Vec::new();
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "{" => {
                depth += 1;
                if at >= 2 && tokens[at - 2] == "mod" {
                    inner.push((&tokens[at - 1], depth));
                }
            }
            "}" => {
                inner.retain(|(_, opened)| *opened < depth);
                depth -= 1;
            }
            "crate" | "self" | "super"
                if tokens.get(at + 1).is_some_and(|next| next == "::")
                    && (at == 0 || tokens[at - 1] != "::") =>
            {
                let names = inner.iter().map(|(name, _)| (*name).clone());
                let here: Vec<_> = module.iter().cloned().chain(names).collect();
                tree(&mut tokens[at..].iter().peekable(), here, &mut found);
            }
            _ => {}
        }
    }
    found
}

type Rest<'a> = std::iter::Peekable<std::slice::Iter<'a, String>>;

/// Reads a path, or a group of them, below `path`.
fn tree(rest: &mut Rest<'_>, mut path: Vec<String>, found: &mut Vec<Vec<String>>) {
    loop {
        match rest.peek().map(|token| token.as_str()) {
            Some("{") => {
                rest.next();
                while rest.peek().is_some_and(|token| *token != "}") {
                    tree(rest, path.clone(), found);
                    // `as name`, and the comma.
                    while rest
                        .next_if(|token| *token != "}" && *token != ",")
                        .is_some()
                    {}
                    rest.next_if(|token| *token == ",");
                }
                rest.next();
                return;
            }
            Some("crate") => path.clear(),
            Some("self") => {}
            Some("super") => {
                path.pop();
            }
            Some(name) if name.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                path.push(name.to_owned());
            }
            _ => {
                found.push(path);
                return;
            }
        }
        rest.next();
        if rest.next_if(|token| *token == "::").is_none() {
            found.push(path);
            return;
        }
    }
}

#[test]
fn nested_groups_super_and_paths_in_code_are_seen() {
    let module: Vec<_> = ["a", "b"].map(str::to_owned).into();
    let text = r#"
        // crate::comment::No
        use crate::{c::{self, D, e::{F as G, h}}, i};
        use super::{j::K, *};
        fn l() { crate::m::n::<O>("crate::text::No"); self::p::q() }
        mod tests { use super::super::r; }
        use super::s;
    "#;
    let found: Vec<_> = paths(&module, &tokens(text))
        .iter()
        .map(|path| path.join("::"))
        .collect();
    let want = [
        "c",
        "c::D",
        "c::e::F",
        "c::e::h",
        "i",
        "a::j::K",
        "a",
        "m::n",
        "a::b::p::q",
        "a::r",
        "a::s",
    ];
    assert_eq!(found, want);
}

#[test]
fn steps_against_the_order_and_circles_are_found() {
    let file = |name: &str, text: &str| (format!("src/{name}.rs"), text.to_owned());
    let wrong = Crate::read(
        "src",
        vec![
            file("low", "use crate::high::X;"),
            file("high/a", "use super::b::Y;"),
            file("high/b", "use crate::high::c::Z;"),
            file("high/c", "fn f() { super::a::g() }"),
        ],
    )
    .against(&["low", "high"]);
    assert_eq!(wrong, ["src/low.rs uses high::X", "high: a → b → c → a"]);
}
