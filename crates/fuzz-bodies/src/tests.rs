//! The bodies over the corpus, and over mutations of it that are the same at each run.
//! `RUNS=100000 SEED=7` runs more and others; an input that fails is printed.

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use fastrand::Rng;

use super::BODIES;

/// Mutations a body.
const RUNS: u64 = 500;

/// The longest input.
const LONGEST: usize = 8 << 10;

/// What parsers trip over.
const AWKWARD: [&str; 24] = [
    "0",
    "-1",
    "00",
    "255",
    "65536",
    "2147483648",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "1e308",
    "1e-400",
    "NaN",
    "0x10",
    "null",
    "~",
    "{",
    "[[[[[[[[",
    "\"",
    "\\u0000",
    "\u{202e}",
    "é\u{301}",
    "\r\n",
    "&a [*a,*a]",
];

struct Mutator {
    rng: Rng,
    corpus: Vec<Vec<u8>>,
}

impl Mutator {
    fn next(&mut self) -> Vec<u8> {
        let mut data = self.pick();
        for _ in 0..self.rng.usize(1..6) {
            self.mutate(&mut data);
            data.truncate(LONGEST);
        }
        data
    }

    fn pick(&mut self) -> Vec<u8> {
        self.corpus[self.rng.usize(..self.corpus.len())].clone()
    }

    fn mutate(&mut self, data: &mut Vec<u8>) {
        let at = self.rng.usize(..=data.len());
        let end = (at + self.rng.usize(..64)).min(data.len());
        match self.rng.u8(..9) {
            0 if !data.is_empty() => {
                let at = at.min(data.len() - 1);
                data[at] ^= 1 << self.rng.u8(..8);
            }
            1 => data.insert(at, self.rng.u8(..)),
            2 => drop(data.drain(at..end)),
            3 => data.truncate(at),
            4 => {
                let piece = data[at..end].repeat(self.rng.usize(1..20));
                drop(data.splice(at..at, piece));
            }
            5 => {
                let other = self.pick();
                let from = self.rng.usize(..=other.len());
                let to = (from + self.rng.usize(..256)).min(other.len());
                drop(data.splice(at..end, other[from..to].iter().copied()));
            }
            6 | 7 => {
                // In the place of a number or a word, where there is one.
                let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
                let length = data[at..].iter().take_while(|byte| is_word(byte)).count();
                let awkward = AWKWARD[self.rng.usize(..AWKWARD.len())];
                drop(data.splice(at..at + length, awkward.bytes()));
            }
            _ => {
                let line = data[at..].split_inclusive(|byte| *byte == b'\n').next();
                let line = line.unwrap_or_default().to_vec();
                drop(data.splice(at..at, line));
            }
        }
    }
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(name);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn run(name: &str, body: fn(&[u8]), data: &[u8]) {
    let ran = catch_unwind(AssertUnwindSafe(|| body(data)));
    assert!(
        ran.is_ok(),
        "{name} panicked; into fuzz/corpus/{name} with it:\n{}",
        data.escape_ascii()
    );
}

fn fuzz(name: &str) {
    let body = BODIES.iter().find(|(its, _)| *its == name).unwrap().1;
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "{name} has no corpus");
    for data in &corpus {
        run(name, body, data);
    }
    let rng = Rng::with_seed(number("SEED").unwrap_or(0));
    let mut mutator = Mutator { rng, corpus };
    for _ in 0..number("RUNS").unwrap_or(RUNS) {
        run(name, body, &mutator.next());
    }
}

#[test]
fn every_body_has_a_target_and_a_corpus() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    for (name, _) in BODIES {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        let target = fs::read_to_string(root.join(format!("fuzz_targets/{name}.rs")));
        assert!(target.unwrap().contains("fuzz_bodies::"), "{name}");
        assert!(!corpus(name).is_empty(), "{name}");
    }
}

#[test]
fn aggregate() {
    fuzz("aggregate");
}

#[test]
fn arn() {
    fuzz("arn");
}

#[test]
fn child() {
    fuzz("child");
}

#[test]
fn config() {
    fuzz("config");
}

#[test]
fn lease() {
    fuzz("lease");
}

#[test]
fn manifest() {
    fuzz("manifest");
}

#[test]
fn properties() {
    fuzz("properties");
}

#[test]
fn recording() {
    fuzz("recording");
}

#[test]
fn trigger() {
    fuzz("trigger");
}
