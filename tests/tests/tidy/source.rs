//! Rust source as the rules see it: lines without comments and literals, which lines are test code, and functions.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One Rust file of the workspace.
pub(crate) struct Source {
    /// Relative to the workspace, with `/`.
    pub(crate) path: String,
    pub(crate) raw: Vec<String>,
    /// The same lines with comments and the content of literals blanked.
    pub(crate) code: Vec<String>,
    /// Whether the line is compiled for tests only.
    pub(crate) test: Vec<bool>,
}

/// A function's name, the doc comment above it, and its lines (from 0, last one included).
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) first: usize,
    pub(crate) last: usize,
}

pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests crate lies in the workspace").to_owned()
}

/// All files below `dir`, relative to the workspace and sorted, without build output and hidden directories.
pub(crate) fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).expect("a directory of the workspace can be read") {
            let path = entry.expect("a directory entry can be read").path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let hidden = name.starts_with('.') && name != ".ci";
            if hidden || name == "target" || name == "proptest-regressions" {
                continue;
            }
            if path.is_dir() {
                waiting.push(path);
            } else {
                let relative = path.strip_prefix(workspace()).expect("files lie in the workspace");
                found.push(relative.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    found.sort();
    found
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file of the workspace.
pub(crate) fn sources() -> Vec<Source> {
    let paths: Vec<String> = files(&workspace()).into_iter().filter(|path| path.ends_with(".rs")).collect();
    let mut sources: Vec<Source> = paths.iter().map(|path| Source::parse(path, &read(path))).collect();
    let test_files: BTreeSet<String> = sources.iter().flat_map(Source::test_modules).collect();
    for source in &mut sources {
        let below = |module: &String| source.path.starts_with(module.as_str());
        if source.path.starts_with("tests/") || source.path.contains("/tests/") || test_files.iter().any(below) {
            source.test.fill(true);
        }
    }
    sources
}

impl Source {
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let raw: Vec<String> = text.lines().map(str::to_owned).collect();
        let code: Vec<String> = blank(text).lines().map(str::to_owned).collect();
        let mut test = vec![false; raw.len()];
        for first in 0..code.len() {
            if code[first].trim_start().starts_with("#[cfg(test)]")
                && let Some(last) = block_end(&code, first)
            {
                test[first..=last].fill(true);
            }
        }
        Self { path: path.to_owned(), raw, code, test }
    }

    /// Path prefixes of files that this one includes for tests only: `#[cfg(test)] mod x;`.
    fn test_modules(&self) -> Vec<String> {
        let (dir, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let children = match name {
            "mod.rs" | "lib.rs" | "main.rs" => dir.to_owned(),
            _ => format!("{dir}/{}", name.trim_end_matches(".rs")),
        };
        let mut found = Vec::new();
        for (at, line) in self.code.iter().enumerate() {
            if !line.trim_start().starts_with("#[cfg(test)]") {
                continue;
            }
            let attribute = self.raw.get(at + 1).and_then(|line| line.trim().strip_prefix("#[path = \""));
            if let Some(file) = attribute.and_then(|rest| rest.split('"').next()) {
                found.push(format!("{dir}/{file}"));
            }
            let next = self.code[at + 1..].iter().take(2).find_map(|line| line.split("mod ").nth(1));
            if let Some(module) = next.and_then(|rest| rest.trim().strip_suffix(';')) {
                found.extend([format!("{children}/{module}.rs"), format!("{children}/{module}/")]);
            }
        }
        found
    }

    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for (first, line) in self.code.iter().enumerate() {
            let Some(name) = function_name(line) else { continue };
            if let Some(last) = block_end(&self.code, first) {
                found.push(Function { name, doc: self.doc_above(first), first, last });
            }
        }
        found
    }

    fn doc_above(&self, line: usize) -> String {
        let above = self.raw[..line].iter().rev().map(|line| line.trim());
        above.take_while(|line| line.starts_with("///") || line.starts_with("#[")).collect::<Vec<_>>().join("\n")
    }

    /// Lines of code (from 1) for which `wanted` holds.
    pub(crate) fn lines<'a>(&'a self, wanted: impl Fn(&str, bool) -> bool + 'a) -> impl Iterator<Item = usize> + 'a {
        let lines = self.code.iter().zip(&self.test).enumerate();
        lines.filter(move |(_, (line, test))| wanted(line, **test)).map(|(at, _)| at + 1)
    }
}

/// Whether `word` stands in `line` as a word of its own that is not a part of a longer path (`a::word`, `.word`).
pub(crate) fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !joins(before) && !matches!(before, Some(':' | '.')) && !joins(after)
    })
}

fn function_name(line: &str) -> Option<String> {
    let (before, after) = line.split_once("fn ")?;
    let declares = before.split_whitespace().all(|word| {
        word.starts_with("pub") || matches!(word, "async" | "const" | "unsafe" | "extern" | "default" | "in" | "crate)")
    });
    let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (declares && !name.is_empty()).then_some(name)
}

/// The line where the first block that opens at or after `first` closes; none if a `;` ends the item before.
fn block_end(code: &[String], first: usize) -> Option<usize> {
    let (mut braces, mut others, mut opened) = (0i32, 0i32, false);
    for (at, line) in code.iter().enumerate().skip(first) {
        for c in line.chars() {
            match c {
                '(' | '[' => others += 1,
                ')' | ']' => others -= 1,
                '{' => (braces, opened) = (braces + 1, true),
                '}' => braces -= 1,
                ';' if !opened && others == 0 => return None,
                _ => {}
            }
            if opened && braces == 0 {
                return Some(at);
            }
        }
    }
    None
}

/// `text` with comments and the content of string and character literals replaced by spaces.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skip(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// The end of the comment or literal that starts at `at`, or `at` if none does.
fn skip(chars: &[char], at: usize) -> usize {
    let starts = |text: &str| text.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    let word_before = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    if starts("//") {
        return position(chars, at, |rest| rest[0] == '\n').unwrap_or(chars.len());
    }
    if starts("/*") {
        return position(chars, at + 2, |rest| rest.starts_with(&['*', '/'])).map_or(chars.len(), |end| end + 2);
    }
    if starts("r\"") || starts("r#") || (starts("br") && !word_before) {
        return raw_string(chars, at).filter(|_| !word_before).unwrap_or(at);
    }
    if starts("\"") {
        return quoted(chars, at, '"');
    }
    // A lifetime has no second quote two or three characters on.
    if starts("'") && (chars.get(at + 1) == Some(&'\\') || chars.get(at + 2) == Some(&'\'')) {
        return quoted(chars, at, '\'');
    }
    at
}

fn position(chars: &[char], from: usize, found: impl Fn(&[char]) -> bool) -> Option<usize> {
    (from..chars.len()).find(|at| found(&chars[*at..]))
}

fn quoted(chars: &[char], at: usize, quote: char) -> usize {
    let mut end = at + 1;
    while end < chars.len() && chars[end] != quote {
        end += if chars[end] == '\\' { 2 } else { 1 };
    }
    (end + 1).min(chars.len())
}

fn raw_string(chars: &[char], at: usize) -> Option<usize> {
    let hashes_from = at + 1 + usize::from(chars[at] == 'b');
    let hashes = chars[hashes_from..].iter().take_while(|c| **c == '#').count();
    let open = hashes_from + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    position(chars, open + 1, |rest| rest.starts_with(&close)).map(|end| end + close.len())
}
