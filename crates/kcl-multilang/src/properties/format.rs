//! Java's format of `.properties` files (`java.util.Properties#load`): ISO-8859-1 with `\uXXXX`.

use std::collections::BTreeMap;

/// The keys and values of a file; of a key that comes twice the last value counts.
///
/// # Errors
/// A `\u` without four hexadecimal digits: Java refuses the whole file.
pub fn parse(bytes: &[u8]) -> Result<BTreeMap<String, String>, String> {
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    let text = text.replace("\r\n", "\n");
    let mut entries = BTreeMap::new();
    let mut lines = text.split(['\n', '\r']);
    while let Some(line) = lines.next() {
        let mut line = trim_start(line).to_owned();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        while continues(&line) {
            line.pop();
            // An empty one ends the value.
            line.push_str(trim_start(lines.next().unwrap_or_default()));
        }
        let (key, value) = split(&line);
        entries.insert(unescape(key)?, unescape(value)?);
    }
    Ok(entries)
}

fn trim_start(line: &str) -> &str {
    line.trim_start_matches([' ', '\t', '\u{c}'])
}

/// Ends with an odd number of backslashes.
fn continues(line: &str) -> bool {
    let backslashes = line.chars().rev().take_while(|it| *it == '\\').count();
    backslashes % 2 == 1
}

/// At the first `=`, `:` or blank that no backslash precedes.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|it: char| {
        let ends = !escaped && matches!(it, '=' | ':' | ' ' | '\t' | '\u{c}');
        escaped = it == '\\' && !escaped;
        ends
    });
    let Some(end) = end else { return (line, "") };
    let rest = trim_start(&line[end..]);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (&line[..end], trim_start(rest))
}

fn unescape(text: &str) -> Result<String, String> {
    let mut units = Vec::new();
    let mut rest = text.chars();
    while let Some(it) = rest.next() {
        let it = match it {
            '\\' => match rest.next() {
                Some('u') => {
                    let digits: String = rest.by_ref().take(4).collect();
                    let unit = u16::from_str_radix(&digits, 16).ok();
                    let unit = unit.filter(|_| digits.len() == 4 && !digits.starts_with('+'));
                    units.push(unit.ok_or_else(|| {
                        format!("\\u{digits} in {text:?}: want \\u and four hexadecimal digits")
                    })?);
                    continue;
                }
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some(other) => other,
                None => break,
            },
            other => other,
        };
        units.extend_from_slice(it.encode_utf16(&mut [0; 2]));
    }
    Ok(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// As Java's own documentation has it.
    #[rstest]
    #[case("Truth = Beauty", "Truth", "Beauty")]
    #[case("  Truth:Beauty", "Truth", "Beauty")]
    #[case("Truth                    :Beauty", "Truth", "Beauty")]
    #[case("cheeses", "cheeses", "")]
    #[case("a b c", "a", "b c")]
    #[case("a==b", "a", "=b")]
    #[case("a\\ b\\:c\\=d=e", "a b:c=d", "e")]
    #[case("a=b  ", "a", "b  ")]
    #[case("a = \"b\"", "a", "\"b\"")]
    #[case("a=b # no comment", "a", "b # no comment")]
    #[case("a=1,\\\n   2,\\\r\n\t3", "a", "1,2,3")]
    #[case("a=x\\\\\nb=2", "a", "x\\")]
    #[case("a=1,\\\n\nb=2", "a", "1,")]
    #[case("a=1,\\\r\n\r\nb=2", "b", "2")]
    #[case("a=1,\\\r\rb=2", "b", "2")]
    #[case("a=1,\\", "a", "1,")]
    #[case("a=\\u00e4\\t\\z", "a", "\u{e4}\tz")]
    #[case("a=\\ud83d\\ude00", "a", "\u{1f600}")]
    #[case("# c\n! d\n\n  # e\na=1\r\na=2\r", "a", "2")]
    fn files_are_read_as_java_reads_them(
        #[case] text: &str,
        #[case] key: &str,
        #[case] value: &str,
    ) {
        let entries = parse(text.as_bytes()).unwrap();
        assert_eq!(
            entries.get(key).map(String::as_str),
            Some(value),
            "{entries:?}"
        );
    }

    #[test]
    fn bytes_are_iso_8859_1() {
        assert_eq!(parse(b"a=\xe4").unwrap()["a"], "\u{e4}");
    }

    #[rstest]
    #[case("a=\\u12")]
    #[case("a=\\u+123")]
    #[case("a=\\uxyzw")]
    fn a_broken_escape_is_refused(#[case] text: &str) {
        assert!(parse(text.as_bytes()).unwrap_err().contains("hexadecimal"));
    }
}
