//! Reading mappings of the tree: known keys, and values with their rules. Problems are noted and reading goes on.

use std::{ops::RangeInclusive, time::Duration};

use serde_saphyr::{Location, Spanned};

use crate::{
    duration,
    problem::Problems,
    secret::SecretRef,
    tree::{Node, Value},
};

/// The longest list that is read.
const MAX_ITEMS: usize = 10_000;

/// A mapping of which the keys are known.
pub(crate) struct Section<'a> {
    pub(crate) path: String,
    pub(crate) location: Location,
    entries: &'a [(Spanned<String>, Node)],
}

/// A value under a key.
pub(crate) struct Field<'a> {
    pub(crate) path: String,
    pub(crate) node: &'a Node,
}

impl<'a> Section<'a> {
    /// Takes `field` as a mapping with `known` keys.
    pub(crate) fn of(field: &Field<'a>, known: &[&str], problems: &mut Problems) -> Option<Self> {
        let Value::Mapping(entries) = &field.node.value else {
            field.wrong_kind("a mapping", problems);
            return None;
        };
        let section = Self { path: field.path.clone(), location: field.node.referenced, entries };
        for (key, _) in entries {
            if !known.contains(&key.value.as_str()) {
                let message = match nearest(&key.value, known) {
                    Some(near) => format!("unknown key; did you mean {near:?}?"),
                    None => format!("unknown key; known are {}", known.join(", ")),
                };
                problems.add(section.path_of(&key.value), key.referenced, message);
            }
        }
        Some(section)
    }

    /// The value under `key`; `None` where it is absent or empty.
    pub(crate) fn get(&self, key: &str) -> Option<Field<'a>> {
        let (_, node) = self.entries.iter().find(|(known, _)| known.value == key)?;
        (node.value != Value::Null).then(|| Field { path: self.path_of(key), node })
    }

    /// The value under `key`, which must be there.
    pub(crate) fn require(&self, key: &str, problems: &mut Problems) -> Option<Field<'a>> {
        let field = self.get(key);
        if field.is_none() {
            problems.add(&self.path, self.location, format!("{key} is missing"));
        }
        field
    }

    /// The items of the list under `key`; none where it is absent.
    pub(crate) fn items(&self, key: &str, problems: &mut Problems) -> Vec<Field<'a>> {
        self.get(key).map(|field| field.items(problems)).unwrap_or_default()
    }

    /// All keys and values.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'a str, Field<'a>)> {
        self.entries
            .iter()
            .map(|(key, node)| (key.value.as_str(), Field { path: self.path_of(&key.value), node }))
    }

    /// Notes a problem with the whole section.
    pub(crate) fn problem(&self, message: impl Into<String>, problems: &mut Problems) {
        problems.add(&self.path, self.location, message);
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

impl<'a> Field<'a> {
    /// Notes a problem with this value.
    pub(crate) fn problem(&self, message: impl Into<String>, problems: &mut Problems) {
        problems.add(&self.path, self.node.referenced, message);
    }

    fn wrong_kind(&self, wanted: &str, problems: &mut Problems) {
        self.problem(format!("must be {wanted}, not {}", self.node.value.kind()), problems);
    }

    /// A list's items, each with its index in its path.
    pub(crate) fn items(&self, problems: &mut Problems) -> Vec<Field<'a>> {
        let Value::List(items) = &self.node.value else {
            self.wrong_kind("a list", problems);
            return Vec::new();
        };
        if items.len() > MAX_ITEMS {
            self.problem(format!("has {} items; at most {MAX_ITEMS} are allowed", items.len()), problems);
            return Vec::new();
        }
        let items = items.iter().enumerate();
        items.map(|(index, node)| Field { path: format!("{}[{index}]", self.path), node }).collect()
    }

    /// Text.
    pub(crate) fn text(&self, problems: &mut Problems) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) => Some(text),
            Value::Integer(_) | Value::Number(_) | Value::Boolean => {
                self.problem(
                    format!("must be text, not {}; put it in quotes", self.node.value.kind()),
                    problems,
                );
                None
            }
            Value::Null | Value::List(_) | Value::Mapping(_) => {
                self.wrong_kind("text", problems);
                None
            }
        }
    }

    /// Text that `check` makes something of.
    pub(crate) fn parsed<T>(
        &self,
        check: impl FnOnce(&str) -> Result<T, String>,
        problems: &mut Problems,
    ) -> Option<T> {
        let parsed = check(self.text(problems)?);
        parsed.map_err(|message| self.problem(message, problems)).ok()
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(&self, words: &[(&str, T)], problems: &mut Problems) -> Option<T> {
        self.parsed(
            |text| {
                let names: Vec<_> = words.iter().map(|(name, _)| *name).collect();
                words.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
                    match nearest(text, &names) {
                        Some(near) => format!("{text:?} is not known; did you mean {near:?}?"),
                        None => format!("{text:?} is not known; known are {}", names.join(", ")),
                    }
                })
            },
            problems,
        )
    }

    /// A whole number within `range`.
    pub(crate) fn integer(&self, range: RangeInclusive<u64>, problems: &mut Problems) -> Option<u64> {
        let (low, high) = (*range.start(), *range.end());
        let found = match &self.node.value {
            Value::Integer(number) => {
                u64::try_from(*number).ok().filter(|n| range.contains(n)).ok_or_else(|| number.to_string())
            }
            Value::Number(number) => Err(number.to_string()),
            Value::Null | Value::Boolean | Value::Text(_) | Value::List(_) | Value::Mapping(_) => {
                self.wrong_kind("a whole number", problems);
                return None;
            }
        };
        if let Err(given) = &found {
            self.problem(format!("{given} is not a whole number from {low} to {high}"), problems);
        }
        found.ok()
    }

    /// A duration within `range`.
    pub(crate) fn duration(
        &self,
        range: RangeInclusive<Duration>,
        problems: &mut Problems,
    ) -> Option<Duration> {
        if let Value::Integer(number) = self.node.value {
            self.problem(format!("{number} needs a unit, such as 500ms, 2s, 5m or 1h"), problems);
            return None;
        }
        self.parsed(
            |text| {
                let wait = duration::parse(text)
                    .ok_or_else(|| format!("{text:?} is not a duration such as 500ms, 2s, 5m or 1h"))?;
                if range.contains(&wait) {
                    Ok(wait)
                } else {
                    let (low, high) = (duration::render(*range.start()), duration::render(*range.end()));
                    Err(format!("{text} is not between {low} and {high}"))
                }
            },
            problems,
        )
    }

    /// A reference to a secret: `${NAME}`, `file:/path` or `{file: /path}`. What is given instead is never repeated.
    pub(crate) fn secret(&self, problems: &mut Problems) -> Option<SecretRef> {
        let reference = match &self.node.value {
            Value::Text(text) => SecretRef::parse(text),
            Value::Mapping(_) => {
                let section = Section::of(self, &["file"], problems)?;
                let path = section.require("file", problems)?;
                return path.parsed(SecretRef::file, problems);
            }
            Value::Null | Value::Boolean | Value::Integer(_) | Value::Number(_) | Value::List(_) => {
                Err(SecretRef::LITERAL_REFUSED.to_owned())
            }
        };
        reference.map_err(|message| self.problem(message, problems)).ok()
    }
}

/// The known word that a mistyped one is likely to mean.
pub(crate) fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    // Comparing is quadratic in the lengths, and a key of a megabyte is nobody's typing error.
    if given.len() > 64 {
        return None;
    }
    let given = given.to_lowercase().replace('-', "_");
    known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(&given, &word.to_lowercase().replace('-', "_")), *word))
        .filter(|(distance, word)| *distance <= word.len().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}
