//! The Kubernetes objects of files: also within lists, and beside what cannot be read.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;
use serde_yaml::Error;

use super::text::{Document, split};

/// The largest document, in bytes: a list of all that a cluster has is smaller.
const LARGEST: usize = 32 << 20;

/// Lists within lists.
const DEEPEST_LIST: usize = 8;

/// What the files hold.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) objects: Vec<Object>,
    pub(super) unread: Vec<Unread>,
}

/// One object.
#[derive(Debug)]
pub(super) struct Object {
    /// `orders.yaml document 2 items[3]`.
    pub(super) place: String,
    pub(super) value: Value,
}

/// What could not be read, and was passed over.
#[derive(Debug, Serialize)]
pub(super) struct Unread {
    pub(super) place: String,
    /// What is wrong, and what is wanted.
    pub(super) wrong: String,
}

impl Files {
    /// Reads a file, each manifest within a directory, or standard input (`-`).
    ///
    /// # Errors
    /// What was named cannot be read at all.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let mut files = Self::default();
        let context = || format!("cannot read {}", path.display());
        if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            let read = io::stdin().read_to_end(&mut bytes);
            read.with_context(context)?;
            files.add("standard input", &bytes);
        } else if fs::metadata(path).with_context(context)?.is_dir() {
            for file in manifests(path).with_context(context)? {
                let name = file.display().to_string();
                match fs::read(&file) {
                    Ok(bytes) => files.add(&name, &bytes),
                    Err(error) => files.pass_over(name, error.to_string()),
                }
            }
        } else {
            let bytes = fs::read(path).with_context(context)?;
            files.add(&path.display().to_string(), &bytes);
        }
        Ok(files)
    }

    /// Adds the objects of one file.
    pub(super) fn add(&mut self, file: &str, bytes: &[u8]) {
        for document in split(bytes) {
            let place = format!("{file} document {}", document.number);
            match parse(&document) {
                Ok(values) => {
                    for value in values {
                        self.flatten(&place, value, None, 0);
                    }
                }
                Err(wrong) => {
                    let place = format!("{place} (from line {})", document.line);
                    self.pass_over(place, wrong);
                }
            }
        }
    }

    fn pass_over(&mut self, place: String, wrong: String) {
        self.unread.push(Unread { place, wrong });
    }

    /// A `List`, a `…List` or an array is its items. `kind`: of items that do not say theirs.
    fn flatten(&mut self, place: &str, mut value: Value, kind: Option<&str>, depth: usize) {
        if let (Value::Object(object), Some(kind)) = (&mut value, kind) {
            object.entry("kind").or_insert_with(|| kind.into());
        }
        let list_of = value["kind"]
            .as_str()
            .and_then(|it| it.strip_suffix("List"));
        let list_of = list_of.map(str::to_owned);
        let items = match (&mut value, &list_of) {
            (Value::Array(items), _) => Some((std::mem::take(items), "")),
            (Value::Object(object), Some(_)) => match object.get_mut("items").map(Value::take) {
                Some(Value::Array(items)) => Some((items, " items")),
                Some(Value::Null) | None => Some((Vec::new(), " items")),
                Some(_) => {
                    let wrong = "a list whose items are none: want items: [...]";
                    return self.pass_over(place.to_owned(), wrong.to_owned());
                }
            },
            (Value::Object(_), None) => None,
            (Value::Null, _) => return,
            _ => {
                let wrong = "no object: want apiVersion, kind, metadata and spec";
                return self.pass_over(place.to_owned(), wrong.to_owned());
            }
        };
        let Some((items, name)) = items else {
            let place = place.to_owned();
            return self.objects.push(Object { place, value });
        };
        if depth == DEEPEST_LIST {
            let wrong = format!("more than {DEEPEST_LIST} lists within one another");
            return self.pass_over(place.to_owned(), wrong);
        }
        let kind = list_of.filter(|kind| !kind.is_empty());
        for (index, item) in items.into_iter().enumerate() {
            let place = format!("{place}{name}[{index}]");
            self.flatten(&place, item, kind.as_deref(), depth + 1);
        }
    }
}

/// The YAML and JSON files within a directory and those below it, but hidden ones, in order.
fn manifests(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // A link to a directory may lead back here.
        if entry.file_type()?.is_dir() {
            files.extend(manifests(&path)?);
            continue;
        }
        let is_manifest = path.extension().is_some_and(|extension| {
            ["yaml", "yml", "json"]
                .iter()
                .any(|it| extension.eq_ignore_ascii_case(it))
        });
        // A pipe may never end. What is not there is to be told.
        if is_manifest && fs::metadata(&path).map_or(true, |it| it.is_file()) {
            files.push(path);
        }
    }
    Ok(files)
}

/// The values of a document: of YAML one, of JSON also several in a row.
fn parse(document: &Document) -> Result<Vec<Value>, String> {
    let text = &document.text;
    if text.len() > LARGEST {
        return Err(format!(
            "larger than {} MiB: want one object or list of objects",
            LARGEST >> 20
        ));
    }
    if document.is_garbled() {
        return Err("no text: want UTF-8, or UTF-16 with a byte order mark".to_owned());
    }
    if text.trim_start().starts_with(['{', '['])
        && let Ok(values) = serde_json::Deserializer::from_str(text)
            .into_iter()
            .collect()
    {
        return Ok(values);
    }
    // Its own limits on nesting, nodes and aliases hold for each document.
    match serde_yaml::from_str::<Option<Value>>(text) {
        Ok(value) => Ok(value.into_iter().collect()),
        Err(error) => Err(say(error.without_snippet(), document)),
    }
}

fn say(error: &Error, document: &Document) -> String {
    if document.text.contains("{{") {
        return "a template with {{ }}: want it rendered, as `helm template` does".to_owned();
    }
    let line = error.location().map_or(1, |it| it.line());
    let line = document.line + usize::try_from(line).unwrap_or(1).saturating_sub(1);
    match error {
        Error::Budget { .. } => {
            "more nesting, nodes or aliases than any manifest has: want it written out".to_owned()
        }
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("a key");
            format!("{key} is given twice, at line {line}: want it once")
        }
        _ => format!("neither YAML nor JSON at line {line}: want a Kubernetes object"),
    }
}
