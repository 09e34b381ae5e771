//! What is written for people: links and anchors lead somewhere, both tutorials are the same, what
//! is quoted is what programs say, and every list is whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const REPOSITORY: &str = "https://github.com/keda-kinesis-scaler/keda-kinesis-scaler/blob/main/";

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file below a folder, by its path from the root.
fn files(folder: &str, end: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir()
                && !["target", "node_modules"].contains(&&*name)
                && !name.starts_with('.')
            {
                folders.push(path);
            } else if name.ends_with(end) {
                let path = path.strip_prefix(root()).unwrap();
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Every Markdown file of the repository, and its text.
pub fn pages() -> BTreeMap<String, String> {
    let folders = ["docs", "crates", "charts", "examples", "tests"];
    let below = folders.iter().flat_map(|folder| files(folder, ".md"));
    let at_the_root = fs::read_dir(root()).unwrap().filter_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.ends_with(".md").then_some(name)
    });
    below
        .chain(at_the_root)
        .map(|path| (path.clone(), read(&path)))
        .collect()
}

/// The lines of a page that are not code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// The anchors that a forge makes of a page's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let mut seen = BTreeMap::new();
    headings
        .map(|line| {
            let slug: String = line
                .trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect();
            let count = seen.entry(slug.clone()).or_insert(0);
            *count += 1;
            match count {
                1 => slug,
                n => format!("{slug}-{}", *n - 1),
            }
        })
        .collect()
}

/// Where a link of a page leads within the repository, and to which anchor. `None`: elsewhere.
fn target(page: &str, link: &str) -> Option<(String, String)> {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let from_root = match path.strip_prefix(REPOSITORY) {
        Some(path) => PathBuf::from(path),
        None if link.contains("://") => return None,
        None if path.is_empty() => PathBuf::from(page),
        None => Path::new(page).parent().unwrap().join(path),
    };
    let mut parts: Vec<_> = Vec::new();
    for part in from_root.components() {
        match part.as_os_str().to_str().unwrap() {
            ".." => drop(parts.pop().unwrap_or_else(|| panic!("{page}: {link}"))),
            part => parts.push(part),
        }
    }
    Some((parts.join("/"), anchor.to_owned()))
}

fn links(text: &str) -> impl Iterator<Item = &str> {
    let after = prose(text).flat_map(|line| line.split("](").skip(1));
    after.filter_map(|rest| rest.split([')', ' ']).next())
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    let mut wrong = Vec::new();
    let mut followed = 0;
    for (page, text) in &pages {
        for link in links(text) {
            let Some((path, anchor)) = target(page, link) else {
                continue;
            };
            followed += 1;
            let there = root().join(&path).exists();
            let text = pages
                .get(&path)
                .or_else(|| pages.get(&format!("{path}/README.md")));
            let anchored =
                anchor.is_empty() || text.is_some_and(|it| anchors(it).contains(&anchor));
            if !there || !anchored {
                wrong.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(wrong.is_empty(), "these lead nowhere: {wrong:#?}");
    assert!(followed > 150, "{followed} links");
}

#[test]
fn the_site_has_every_page() {
    let summary = read("docs/SUMMARY.md");
    let listed: BTreeSet<_> = links(&summary)
        .map(|link| target("docs/SUMMARY.md", link).unwrap().0)
        .collect();
    let all: BTreeSet<_> = files("docs", ".md").into_iter().collect();
    let missing: Vec<_> = all.difference(&listed).collect();
    assert_eq!(missing, ["docs/SUMMARY.md"]);
}

/// The title, then whom it is for.
#[test]
fn every_page_says_whom_it_is_for() {
    for page in files("docs", ".md") {
        // The Chinese tutorial says it in Chinese; one is a list of links, others are decisions.
        if page == "docs/SUMMARY.md" || page.contains("/decisions/") {
            continue;
        }
        let text = read(&page);
        let first = text.lines().nth(2).unwrap();
        let says = first.starts_with("For ") || page.ends_with(".zh.md") && first.contains("适合");
        assert!(says, "{page} begins with {first:?}: want \"For …\"");
    }
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 120, "{lines} lines");
}

/// A page's headings by level and number, and its code without comments.
fn shape(text: &str) -> (Vec<String>, Vec<String>) {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let headings = headings.map(|line| {
        let number = line.split(' ').nth(1).unwrap();
        let numbered = number.ends_with('.') && number.len() > 1;
        let level = line.split(' ').next().unwrap();
        format!("{level} {}", if numbered { number } else { "" })
    });
    let blocks = text.split("\n```").collect::<Vec<_>>();
    let code = blocks.iter().skip(1).step_by(2);
    let code = code.map(|block| {
        let lines = block.lines().map(|line| match line.split_once("# ") {
            Some((before, _)) => before.trim_end(),
            None => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    });
    (headings.collect(), code.collect())
}

#[test]
fn both_tutorials_have_the_same_headings_and_code() {
    let (english, chinese) = (read("docs/tutorial.md"), read("docs/tutorial.zh.md"));
    let ((headings, code), (also, too)) = (shape(&english), shape(&chinese));
    assert_eq!(headings, also);
    for (one, other) in code.iter().zip(&too) {
        assert_eq!(one, other);
    }
    assert_eq!(code.len(), too.len());
    let needs = |text: &str| text.matches("<!-- needs: ").count();
    assert_eq!(needs(&english), needs(&chinese));
    let rows = |text: &str| prose(text).filter(|line| line.starts_with('|')).count();
    assert_eq!(rows(&english), rows(&chinese));
}

pub fn between<'a>(text: &'a str, mark: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("<!-- {mark}:begin -->")).unwrap();
    rest.split_once(&format!("<!-- {mark}:end -->")).unwrap().0
}

/// What stands as code in the first cell of each row.
fn quoted(table: &str) -> Vec<&str> {
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.map(|row| row.split(" | ").next().unwrap());
    cells
        .flat_map(|cell| cell.split('`').step_by(2))
        .filter(|it| !it.is_empty())
        .collect()
}

#[test]
fn what_troubleshooting_quotes_is_what_programs_say() {
    let crates = ["kinesis-edge", "right-sizing", "kinesis-consumer"];
    let folders = crates.map(|name| format!("crates/{name}/src"));
    let folders = folders.iter().map(String::as_str).chain(["src"]);
    let said: String = folders
        .flat_map(|folder| files(folder, ".rs"))
        .map(|file| {
            let text = read(&file);
            // A literal over several lines.
            let lines = text.split("\\\n").enumerate();
            lines
                .map(|(index, part)| if index == 0 { part } else { part.trim_start() })
                .collect::<String>()
        })
        .collect();
    let guide = read("docs/troubleshooting.md");
    let mut parts = 0;
    for mark in ["errors", "consumer-errors"] {
        for text in quoted(between(&guide, mark)) {
            for part in text.split('…') {
                let part = part.trim_matches([' ', ':', ',', ';', '.']);
                assert!(said.contains(part), "nothing says {part:?} of {text:?}");
                parts += 1;
            }
        }
    }
    assert!(parts > 30, "{parts}");
}

#[test]
fn the_librarys_lists_of_events_and_settings_are_whole() {
    let readme = read("crates/kinesis-consumer/README.md");
    let of_table = |mark: &str| {
        let codes = between(&readme, mark).split('`').skip(1).step_by(2);
        codes.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let source = |path: &str, head: &str| {
        let text = read(&format!("crates/kinesis-consumer/src/face/{path}"));
        let (_, rest) = text.split_once(head).unwrap();
        rest.split_once("\n}").unwrap().0.to_owned()
    };
    let events = source("event.rs", "pub enum Event {");
    let events = events.lines().filter_map(|line| {
        let name = line.strip_prefix("    ")?.trim_end_matches([' ', '{', ',']);
        (name.starts_with(char::is_uppercase)).then(|| name.to_owned())
    });
    assert_eq!(of_table("events"), events.collect());
    let settings = source("config.rs", "pub struct Config {");
    let told = of_table("properties");
    for line in settings.lines() {
        let Some((name, _)) = line
            .trim()
            .strip_prefix("pub ")
            .and_then(|it| it.split_once(':'))
        else {
            continue;
        };
        assert!(told.contains(name), "the table of properties lacks {name}");
    }
}

/// Actions, with the service named once for those that follow it.
#[test]
fn the_consumers_permissions_are_those_of_its_policies() {
    let readme = read("crates/kinesis-to-dynamodb/README.md");
    let (_, section) = readme.split_once("## Permissions").unwrap();
    let mut service = "";
    let mut told = BTreeSet::new();
    for code in section.split('`').skip(1).step_by(2) {
        let action = match code.split_once(':') {
            Some((named, action)) => {
                service = named;
                action
            }
            None => code,
        };
        if action.chars().all(char::is_alphanumeric) {
            told.insert(format!("{service}:{action}"));
        }
    }
    let mut allowed = BTreeSet::new();
    for policy in ["consumer", "consumer-fan-out", "consumer-streams"] {
        let policy = read(&format!("examples/iam/{policy}-policy.json"));
        let policy: serde_json::Value = serde_json::from_str(&policy).unwrap();
        for statement in policy["Statement"].as_array().unwrap() {
            let actions = statement["Action"].as_array().unwrap().iter();
            allowed.extend(actions.map(|it| it.as_str().unwrap().to_owned()));
        }
    }
    assert_eq!(told, allowed);
}
