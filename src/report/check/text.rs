//! From a file's bytes to its YAML documents, each read by itself, so that a broken one spoils no
//! other.

use std::borrow::Cow;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// One document of a file.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Document {
    /// Which of the file's documents that hold something, from 1.
    pub(super) number: usize,
    /// The line of the file on which it starts, from 1.
    pub(super) line: usize,
    pub(super) text: String,
}

impl Document {
    /// Does it have what no text has? It is in another encoding than UTF-8, or UTF-16 with a byte
    /// order mark.
    pub(super) fn is_garbled(&self) -> bool {
        self.text.contains(['\0', char::REPLACEMENT_CHARACTER])
    }
}

/// The documents that hold more than comments.
///
/// YAML ends a document at a line that starts with `---` or `...`, whatever stands around it; a
/// byte order mark may stand at the start of each.
pub(super) fn split(bytes: &[u8]) -> Vec<Document> {
    let mut documents = Vec::new();
    let mut text = String::new();
    let mut start = 1;
    let text_of_file = decode(bytes);
    for (index, line) in text_of_file.lines().enumerate() {
        let line = line.trim_start_matches(BYTE_ORDER_MARK);
        let begins = after_marker(line, "---");
        if begins.is_none() && after_marker(line, "...").is_none() {
            // Directives, such as %YAML, stand before the first line of a document.
            if !line.starts_with('%') || holds_something(&text) {
                text.push_str(line);
            }
            text.push('\n');
            continue;
        }
        close(&mut documents, &mut text, start);
        start = index + 1;
        // What follows on the line belongs to the document, in its column.
        text = begins.map_or_else(String::new, |rest| format!("   {rest}"));
        text.push('\n');
    }
    close(&mut documents, &mut text, start);
    documents
}

fn close(documents: &mut Vec<Document>, text: &mut String, line: usize) {
    let text = std::mem::take(text);
    if holds_something(&text) {
        documents.push(Document {
            number: documents.len() + 1,
            line,
            text,
        });
    }
}

fn holds_something(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    lines.any(|line| !line.is_empty() && !line.starts_with('#'))
}

fn after_marker<'a>(line: &'a str, marker: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(marker)?;
    (rest.is_empty() || rest.starts_with([' ', '\t'])).then_some(rest)
}

/// What is no text becomes [`char::REPLACEMENT_CHARACTER`].
fn decode(bytes: &[u8]) -> Cow<'_, str> {
    let utf16 = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = rest.chunks(2).map(|pair| match *pair {
            [one, two] => unit([one, two]),
            // A lone surrogate: half a character.
            _ => 0xd800,
        });
        let letters = char::decode_utf16(units);
        Cow::Owned(
            letters
                .map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect(),
        )
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ => String::from_utf8_lossy(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(bytes: &[u8]) -> Vec<(usize, usize, String)> {
        let documents = split(bytes).into_iter();
        documents
            .map(|it| (it.number, it.line, it.text.trim().to_owned()))
            .collect()
    }

    #[test]
    fn documents_are_split_at_their_markers() {
        let file = "# none yet\n---\na: 1\r\n--- # two\nb: |\n  ---\n  x\n...\n\u{feff}---\n\u{feff}c: 3\n---- \n---\n";
        assert_eq!(
            texts(file.as_bytes()),
            [
                (1, 2, "a: 1".to_owned()),
                (2, 4, "# two\nb: |\n  ---\n  x".to_owned()),
                (3, 9, "c: 3\n----".to_owned()),
            ]
        );
        assert_eq!(texts(b"--- {a: 1}"), [(1, 1, "{a: 1}".to_owned())]);
        assert_eq!(texts(b"%YAML 1.2\n---\na: 1"), [(1, 2, "a: 1".to_owned())]);
        assert!(texts(b"").is_empty());
    }

    #[test]
    fn utf_16_is_told_by_its_mark() {
        let units = || "\u{feff}é: 😀".encode_utf16();
        let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
        for bytes in [little.as_slice(), &big] {
            assert_eq!(texts(bytes), [(1, 1, "é: 😀".to_owned())]);
        }
        assert!(split(&little[2..])[0].is_garbled());
        assert!(split(&big[..big.len() - 1])[0].is_garbled());
        assert!(split(b"a: \xe9")[0].is_garbled());
    }
}
