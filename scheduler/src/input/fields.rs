//! The fields of an object that clients send, each read as the type it should have.

use std::{collections::BTreeMap, str::FromStr};

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;

use super::{InputFault, InvalidInput, is_deeper_than, members::Members, pointer_step, suggestion};

/// How deeply input may be nested.
const MAX_DEPTH: usize = 128;

/// An object whose members have known names and stand at most once.
pub(crate) struct Fields<'a> {
    /// Pointer of the object itself.
    at: String,
    members: Members<'a>,
}

impl<'a> Fields<'a> {
    /// Takes apart a whole document.
    pub(crate) fn of_document(document: &'a [u8], known: &[&str]) -> Result<Self, InvalidInput> {
        Self { at: String::new(), members: members_of_document(document)? }.checked(known)
    }

    /// Takes apart the member `name`, which is an object too.
    pub(crate) fn object(&self, name: &str, known: &[&str]) -> Result<Option<Self>, InvalidInput> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let at = self.pointer(name);
        match serde_json::from_str(raw.get()) {
            Ok(members) => Self { at, members }.checked(known).map(Some),
            Err(_) => Err(wrong_type(at, "an object", raw)),
        }
    }

    fn checked(self, known: &[&str]) -> Result<Self, InvalidInput> {
        for (index, (name, _)) in self.members.0.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let message = format!("unknown field {name:?}; {}", suggestion(name, known));
                return Err(InvalidInput::at(self.pointer(name), "unknown_field", message));
            }
            if self.members.0[..index].iter().any(|(earlier, _)| earlier == name) {
                let message = format!("field {name:?} stands there twice");
                return Err(InvalidInput::at(self.pointer(name), "duplicate_field", message));
            }
        }
        Ok(self)
    }

    /// The pointer of a member.
    pub(crate) fn pointer(&self, name: &str) -> String {
        format!("{}{}", self.at, pointer_step(name))
    }

    /// The raw value of a member; `null` counts as absent.
    pub(crate) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.members.last(name).filter(|raw| raw.get() != "null")
    }

    /// A member that is a string.
    pub(crate) fn string(&self, name: &str) -> Result<Option<String>, InvalidInput> {
        self.raw(name).map(|raw| string(self.pointer(name), raw)).transpose()
    }

    /// A member that is a string with a meaning.
    pub(crate) fn parsed<T, E: std::fmt::Display>(
        &self,
        name: &str,
        parse: impl FnOnce(String) -> Result<T, E>,
    ) -> Result<Option<T>, InvalidInput> {
        let Some(text) = self.string(name)? else { return Ok(None) };
        parse(text).map(Some).map_err(|error| InvalidInput::value(self.pointer(name), error))
    }

    /// A member that is one of some words.
    pub(crate) fn word<T: FromStr<Err = sluice_domain::UnknownWord>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, InvalidInput> {
        self.parsed(name, |text| text.parse())
    }

    /// A member that is a whole number within bounds.
    pub(crate) fn integer(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<Option<i64>, InvalidInput> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        if !raw.get().starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            return Err(wrong_type(self.pointer(name), "a whole number", raw));
        }
        match serde_json::from_str::<i64>(raw.get()) {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let message =
                    format!("{name} must be a whole number from {} to {}", range.start(), range.end());
                Err(InvalidInput::value(self.pointer(name), message))
            }
        }
    }

    /// A member that is true or false.
    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, InvalidInput> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        serde_json::from_str(raw.get())
            .map(Some)
            .map_err(|_| wrong_type(self.pointer(name), "true or false", raw))
    }

    /// A member that is a time.
    pub(crate) fn time(&self, name: &str) -> Result<Option<DateTime<Utc>>, InvalidInput> {
        self.parsed(name, |text| time(&text).ok_or_else(|| format!("{name} {TIME_RULE}")))
    }

    /// A member that is a flat map of strings.
    pub(crate) fn string_map(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, InvalidInput> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let members: Members<'_> = serde_json::from_str(raw.get())
            .map_err(|_| wrong_type(self.pointer(name), "an object of strings", raw))?;
        let mut map = BTreeMap::new();
        for (key, value) in members.0 {
            let pointer = format!("{}{}", self.pointer(name), pointer_step(&key));
            let value = string(pointer.clone(), value)?;
            if map.insert(key, value).is_some() {
                return Err(InvalidInput::at(pointer, "duplicate_field", "the key stands there twice"));
            }
        }
        Ok(Some(map))
    }
}

/// The members of a whole document, whatever their names are.
pub(super) fn members_of_document(document: &[u8]) -> Result<Members<'_>, InvalidInput> {
    let text = std::str::from_utf8(document).map_err(|error| {
        let message = format!("the text is not UTF-8 at byte {}", error.valid_up_to());
        InvalidInput::malformed("invalid_utf8", message)
    })?;
    if is_deeper_than(MAX_DEPTH, document) {
        let message = format!("the JSON is nested deeper than {MAX_DEPTH} levels");
        return Err(InvalidInput::malformed("too_deep", message));
    }
    serde_json::from_str(text).map_err(|error| {
        if error.is_data() {
            InvalidInput::malformed("not_an_object", "the text must be one JSON object")
        } else {
            InvalidInput::malformed("malformed_json", format!("the text is not JSON: {error}"))
        }
    })
}

/// What a time must look like.
pub(super) const TIME_RULE: &str = "must be an RFC 3339 time with a zone, such as 2026-10-01T12:00:00Z";

/// A time as clients write it.
pub(super) fn time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc())
}

/// A raw value that must be a string which Postgres can hold.
pub(super) fn string(pointer: String, raw: &RawValue) -> Result<String, InvalidInput> {
    if !raw.get().starts_with('"') {
        return Err(wrong_type(pointer, "a string", raw));
    }
    let text: String = serde_json::from_str(raw.get()).map_err(|_| {
        InvalidInput::value(
            pointer.clone(),
            "the string holds half of a surrogate pair, which is no character",
        )
    })?;
    if text.contains('\0') {
        return Err(InvalidInput::value(pointer, "the string must not hold NUL (\\u0000)"));
    }
    Ok(text)
}

pub(super) fn wrong_type(pointer: String, right: &str, raw: &RawValue) -> InvalidInput {
    let given = match raw.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    };
    InvalidInput {
        fault: InputFault::Invalid,
        code: "invalid_type",
        message: format!("must be {right}, not {given}"),
        pointer: Some(pointer),
    }
}
