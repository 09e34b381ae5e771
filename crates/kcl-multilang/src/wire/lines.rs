//! The child's lines, of bounded length.

/// The longest line that is looked at: a message has no more than two numbers in it.
pub const LONGEST: usize = 64 << 10;

/// Makes lines of bytes as they come: `\n`, `\r` and `\r\n` end one. Of a line that is longer than
/// [`LONGEST`] the rest is left out.
#[derive(Debug, Default)]
pub struct Lines {
    line: Vec<u8>,
    /// Bytes of the line that were left out.
    cut: usize,
}

/// One line, without its end; blank ones are none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// Its text; what is not UTF-8 is replaced.
    pub text: String,
    /// How many bytes were left out at its end.
    pub cut: usize,
}

impl Lines {
    /// The lines that end in these bytes.
    pub fn push(&mut self, bytes: &[u8], mut to: impl FnMut(Line)) {
        for part in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let ended = matches!(part.last(), Some(b'\n' | b'\r'));
            let text = &part[..part.len() - usize::from(ended)];
            let fits = text.len().min(LONGEST - self.line.len());
            self.line.extend_from_slice(&text[..fits]);
            self.cut += text.len() - fits;
            if ended && let Some(line) = self.end() {
                to(line);
            }
        }
    }

    /// The line at hand, as nothing comes any more.
    pub fn end(&mut self) -> Option<Line> {
        let cut = std::mem::take(&mut self.cut);
        let text = String::from_utf8_lossy(&self.line).trim().to_owned();
        self.line.clear();
        self.line.shrink_to(4 << 10);
        (!text.is_empty()).then_some(Line { text, cut })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(pieces: &[&[u8]]) -> Vec<Line> {
        let (mut lines, mut all) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.push(piece, |line| all.push(line));
        }
        all.extend(lines.end());
        all
    }

    fn texts(pieces: &[&[u8]]) -> Vec<String> {
        all(pieces).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn lines_end_by_any_convention_and_blank_ones_are_none() {
        let bytes: &[&[u8]] = &[b"\n{\"a\":", b"1}\n\r\n  \nb\rc\r\n\n", b"no end"];
        assert_eq!(texts(bytes), ["{\"a\":1}", "b", "c", "no end"]);
        assert_eq!(texts(&[b"\xff\xfe\n"]), ["\u{fffd}\u{fffd}"]);
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_one_is_whole() {
        let long = vec![b'x'; 3 * LONGEST];
        let lines = all(&[&long, b"yz\nnext\n"]);
        assert_eq!(
            (lines[0].text.len(), lines[0].cut),
            (LONGEST, 2 * LONGEST + 2)
        );
        assert_eq!((lines[1].text.as_str(), lines[1].cut), ("next", 0));
    }

    proptest! {
        #[test]
        fn pieces_make_the_lines_of_the_whole(bytes in prop::collection::vec(any::<u8>(), 0..2000), at in 0..2000usize) {
            let at = at.min(bytes.len());
            prop_assert_eq!(all(&[&bytes[..at], &bytes[at..]]), all(&[&bytes]));
        }
    }
}
