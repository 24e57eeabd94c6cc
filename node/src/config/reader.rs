//! Reads a TOML document section by section and gathers every problem with its place, instead of
//! stopping at the first. Whatever nobody asked for is an unknown key.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::nearest::nearest;
use super::problem::{Place, Problem};

/// Environment variables that set keys: `CAMPANILE_SECTION__KEY`.
pub(super) const PREFIX: &str = "CAMPANILE_";

/// One value as it was written, before it is understood.
pub(super) struct Scalar {
    pub(super) text: String,
    kind: Kind,
}

enum Kind {
    Text,
    Integer,
    Boolean,
    /// From the environment, where nothing is quoted.
    Bare,
    Other(&'static str),
}

impl Scalar {
    fn of(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self { text: text.to_string(), kind: Kind::Text },
            DeValue::Integer(number) => Self { text: number.to_string(), kind: Kind::Integer },
            DeValue::Boolean(value) => Self { text: value.to_string(), kind: Kind::Boolean },
            other => Self { text: String::new(), kind: Kind::Other(other.type_str()) },
        }
    }

    pub(super) fn as_text(&self) -> Result<&str, String> {
        match self.kind {
            Kind::Text | Kind::Bare => Ok(&self.text),
            Kind::Integer => Err(format!("expected text in quotes, found the number {}", self.text)),
            Kind::Boolean => Err(format!("expected text in quotes, found {}", self.text)),
            Kind::Other(found) => Err(format!("expected text in quotes, found {found}")),
        }
    }

    pub(super) fn as_number<T: std::str::FromStr>(&self) -> Result<T, String> {
        match self.kind {
            Kind::Integer | Kind::Bare => {
                self.text.parse().map_err(|_| format!("{} is not a whole number in range", self.text))
            }
            Kind::Text => Err(format!("expected a number, found the text {:?}", self.text)),
            Kind::Boolean => Err(format!("expected a number, found {}", self.text)),
            Kind::Other(found) => Err(format!("expected a number, found {found}")),
        }
    }

    pub(super) fn as_bool(&self) -> Result<bool, String> {
        match (&self.kind, self.text.as_str()) {
            (Kind::Boolean | Kind::Bare, "true") => Ok(true),
            (Kind::Boolean | Kind::Bare, "false") => Ok(false),
            _ => Err("expected true or false, without quotes".to_owned()),
        }
    }
}

/// The document, the environment over it, and the problems found so far.
pub(super) struct Reader<'a> {
    source: &'a str,
    base: &'a Path,
    environment: BTreeMap<String, String>,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a str, base: &'a Path, environment: &BTreeMap<String, String>) -> Self {
        let environment = environment
            .iter()
            .filter_map(|(name, value)| {
                let rest = name.strip_prefix(PREFIX)?;
                // Without a section it is a switch of the program (CAMPANILE_BIN), not a key.
                rest.contains("__").then(|| (rest.to_lowercase().replacen("__", ".", 1), value.clone()))
            })
            .collect();
        Self { source, base, environment, problems: Vec::new() }
    }

    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        Place::in_text(self.source, span.start)
    }

    pub(super) fn problem(&mut self, place: Place, message: impl Into<String>, help: Option<String>) {
        self.problems.push(Problem { place, message: message.into(), help });
    }

    /// Environment variables that no section asked for.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        for key in std::mem::take(&mut self.environment).into_keys() {
            let name = format!("{PREFIX}{}", key.to_uppercase().replacen('.', "__", 1));
            self.problem(Place::Environment(name), format!("no key `{key}` can be set from the environment"), None);
        }
        self.problems
    }
}

/// One table being read. Keys it was asked for are known; `finish` reports the rest.
pub(super) struct Section<'r, 'a, 'd> {
    reader: &'r mut Reader<'a>,
    /// `cluster`, or empty for the document itself.
    path: String,
    table: Option<&'d DeTable<'d>>,
    /// Where a problem of the whole section is shown.
    place: Place,
    known: Vec<&'static str>,
    from_environment: bool,
}

impl<'r, 'a, 'd> Section<'r, 'a, 'd> {
    pub(super) fn new(
        reader: &'r mut Reader<'a>,
        path: impl Into<String>,
        table: Option<&'d DeTable<'d>>,
        place: Place,
        from_environment: bool,
    ) -> Self {
        Self { reader, path: path.into(), table, place, known: Vec::new(), from_environment }
    }

    /// The value of `key` as `parse` understands it, or `default` when it is absent or wrong.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&Scalar) -> Result<T, String>,
    ) -> T {
        self.read_optional(key, parse).unwrap_or(default)
    }

    pub(super) fn read_optional<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&Scalar) -> Result<T, String>,
    ) -> Option<T> {
        let (scalar, place) = self.find(key)?;
        match parse(&scalar) {
            Ok(value) => Some(value),
            Err(message) => {
                self.reader.problem(place, format!("{}: {message}", self.name(key)), None);
                None
            }
        }
    }

    /// A path; relative ones start at the directory of the configuration file.
    pub(super) fn path(&mut self, key: &'static str, default: &Path) -> PathBuf {
        let base = self.reader.base;
        self.read(key, base.join(default), |scalar| match scalar.as_text()? {
            "" => Err("the path is empty".to_owned()),
            text => Ok(base.join(text)),
        })
    }

    /// The raw value of `key`, for lists and tables.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.known.push(key);
        entry(self.table?, key).map(|(_, value)| value)
    }

    /// Reports a problem at `key`, or at the section if the key is not written.
    pub(super) fn problem_at(&mut self, key: &str, message: impl Into<String>, help: Option<String>) {
        let place = self.place_of(key);
        let message = format!("{}: {}", self.name(key), message.into());
        self.reader.problem(place, message, help);
    }

    pub(super) fn reader(&mut self) -> &mut Reader<'a> {
        self.reader
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) {
        let Some(table) = self.table else { return };
        for (key, _) in table.iter().filter(|(key, _)| !self.known.contains(&key.get_ref().as_ref())) {
            let place = self.reader.place(&key.span());
            let within = if self.path.is_empty() { String::new() } else { format!(" in [{}]", self.path) };
            let help = match nearest(key.get_ref(), &self.known) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            self.reader.problem(place, format!("unknown key `{}`{within}", key.get_ref()), Some(help));
        }
    }

    fn find(&mut self, key: &'static str) -> Option<(Scalar, Place)> {
        self.known.push(key);
        if self.from_environment
            && let Some(text) = self.reader.environment.remove(&format!("{}.{key}", self.path))
        {
            let name = format!("{PREFIX}{}__{}", self.path.to_uppercase(), key.to_uppercase());
            return Some((Scalar { text, kind: Kind::Bare }, Place::Environment(name)));
        }
        let (_, value) = entry(self.table?, key)?;
        Some((Scalar::of(value.get_ref()), self.reader.place(&value.span())))
    }

    fn place_of(&self, key: &str) -> Place {
        match self.table.and_then(|table| entry(table, key)) {
            Some((key, _)) => self.reader.place(&key.span()),
            None => self.place.clone(),
        }
    }

    fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

type Entry<'r> = (&'r Spanned<std::borrow::Cow<'r, str>>, &'r Spanned<DeValue<'r>>);

fn entry<'r>(table: &'r DeTable<'r>, key: &str) -> Option<Entry<'r>> {
    table.iter().find(|(name, _)| name.get_ref() == key)
}
