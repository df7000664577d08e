//! What can be changed in the text of a function.
//!
//! Not a parser: words are recognised outside of comments and strings, and a condition ends where its brackets or its
//! clause do. What that gets wrong is no valid function and is left out when it is planted.

use std::ops::Range;

/// One change of a function's text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edit {
    /// Which bytes of the text it replaces.
    pub range: Range<usize>,
    /// By what.
    pub with: String,
    /// The line it stands in, from 1.
    pub line: usize,
    /// What it does, for people.
    pub what: String,
}

impl Edit {
    /// The text with the change.
    pub fn applied(&self, text: &str) -> String {
        format!("{}{}{}", &text[..self.range.start], self.with, &text[self.range.end..])
    }
}

/// Words at which a condition ends, unless they stand in brackets of its own.
const ENDS_A_CONDITION: [&str; 18] = [
    "AND",
    "OR",
    "WHERE",
    "ORDER",
    "GROUP",
    "LIMIT",
    "RETURNING",
    "FOR",
    "THEN",
    "LOOP",
    "UNION",
    "ON",
    "SELECT",
    "HAVING",
    "FROM",
    "SET",
    "ELSE",
    "END",
];

/// All changes of a function, in the order of its text: conditions taken out, bounds moved by one, locks and limits
/// dropped, increments left out, doubles no longer passed over.
pub fn edits(text: &str) -> Vec<Edit> {
    let body = text.find("AS $").unwrap_or(0);
    let words: Vec<Range<usize>> = words(text).into_iter().filter(|word| word.start > body).collect();
    let mut edits = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let following = |count: usize| words.get(at + count).map_or("", |word| &text[word.clone()]);
        let edit = |range: Range<usize>, with: &str| edit(text, range, with);
        match &text[word.clone()] {
            "AND" | "WHERE" | "IF" if following(1) != "LOOP" => {
                // The second half of BETWEEN … AND is no condition.
                let mut last = words[at.saturating_sub(4)..at].iter().rev().map(|word| &text[word.clone()]);
                let is_between = last.find(|word| ["AND", "BETWEEN"].contains(word)) == Some("BETWEEN");
                let condition = condition(text, &words[at + 1..]);
                if let Some(condition) = condition.filter(|_| !is_between) {
                    let with = if &text[word.clone()] == "IF" { "false" } else { "true" };
                    edits.push(edit(condition, with));
                }
            }
            "FOR" if following(1) == "UPDATE" || following(2) == "SHARE" => {
                edits.extend(lock_edits(text, &words[at..]));
            }
            "LIMIT" => edits.extend(condition(text, &words[at + 1..]).map(|count| edit(count, "ALL"))),
            "ON" if following(1) == "CONFLICT" && following(3) == "NOTHING" => {
                edits.push(edit(word.start..words[at + 3].end, ""));
            }
            "<" => edits.push(edit(word.clone(), "<=")),
            "<=" => edits.push(edit(word.clone(), "<")),
            ">" => edits.push(edit(word.clone(), ">=")),
            ">=" => edits.push(edit(word.clone(), ">")),
            "+" if following(1) == "1" => edits.push(edit(words[at + 1].clone(), "0")),
            _ => {}
        }
    }
    edits
}

fn edit(text: &str, range: Range<usize>, with: &str) -> Edit {
    let line = text[..range.start].lines().count().max(1);
    let old = text[range.clone()].split_whitespace().collect::<Vec<_>>().join(" ");
    let mut what = if with.is_empty() { format!("without {old}") } else { format!("{old} → {with}") };
    // A sign or a number alone tells nobody which one is meant.
    if old.len() < 3 || with.is_empty() {
        let begin = text[..range.start].rfind('\n').map_or(0, |end| end + 1);
        let end = text[range.end..].find('\n').map_or(text.len(), |end| range.end + end);
        what = format!("{what} in: {}", text[begin..end].trim());
    }
    Edit { range, with: with.to_owned(), line, what }
}

/// `FOR UPDATE … SKIP LOCKED` and its kin: without passing over what is locked, and without the lock.
fn lock_edits(text: &str, words: &[Range<usize>]) -> Vec<Edit> {
    let is = |at: usize, word: &str| words.get(at).is_some_and(|range| &text[range.clone()] == word);
    let strength = (1..4).find(|at| is(*at, "UPDATE") || is(*at, "SHARE")).unwrap_or(1);
    let table = if is(strength + 1, "OF") { strength + 2 } else { strength };
    if is(table + 1, "SKIP") && is(table + 2, "LOCKED") {
        let all = words[0].start..words[table + 2].end;
        return vec![edit(text, words[table + 1].start..words[table + 2].end, ""), edit(text, all, "")];
    }
    vec![edit(text, words[0].start..words[table].end, "")]
}

/// The condition that begins with the first word.
fn condition(text: &str, words: &[Range<usize>]) -> Option<Range<usize>> {
    let first = words.first()?;
    let mut depth = 0_usize;
    let mut end = first.start;
    let (mut is_after_between, mut before) = (false, "");
    for word in words {
        let is_part = match &text[word.clone()] {
            "AND" => is_after_between,
            "FROM" => before == "DISTINCT",
            _ => false,
        };
        match &text[word.clone()] {
            "(" | "[" | "CASE" => depth += 1,
            ")" | "]" | ";" | "," if depth == 0 => break,
            // The end of the text itself.
            quote if quote.starts_with('$') && quote.ends_with('$') => break,
            ")" | "]" => depth -= 1,
            "END" if depth > 0 => depth -= 1,
            other if depth == 0 && !is_part && ENDS_A_CONDITION.contains(&other) => break,
            _ => {}
        }
        before = &text[word.clone()];
        is_after_between = before == "BETWEEN" || is_after_between && before != "AND";
        end = word.end;
    }
    (end > first.start).then_some(first.start..end)
}

/// Words, numbers, brackets and operators with their places; comments, strings and blanks are passed over.
fn words(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut words = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let length = match bytes[at] {
            b'-' if rest.starts_with("--") => {
                at += rest.find('\n').unwrap_or(rest.len());
                continue;
            }
            b'\'' => 1 + rest[1..].find('\'').map_or(rest.len() - 1, |end| end + 1),
            b if b.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            b'-' if rest.starts_with("->") => rest.bytes().skip(1).take_while(|b| *b == b'>').count() + 1,
            b if is_of_a_name(b) => rest.bytes().take_while(|b| is_of_a_name(*b)).count(),
            b if b"<>=!".contains(&b) => rest.bytes().take_while(|b| b"<>=!".contains(b)).count(),
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
        words.push(at..at + length);
        at += length;
    }
    words
}

fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.$:".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutants(body: &str) -> Vec<String> {
        let text = format!("CREATE FUNCTION f() AS $$ {body} $$");
        edits(&text).iter().map(|edit| edit.what.clone()).collect()
    }

    /// Without the line.
    fn bare(body: &str) -> Vec<String> {
        let cut = |what: &String| what.split(" in: ").next().unwrap_or_default().to_owned();
        mutants(body).iter().map(cut).collect()
    }

    #[test]
    fn conditions_go_one_by_one() {
        assert_eq!(
            bare("SELECT 1 FROM t WHERE a = 1 AND (b OR c) AND d IN (SELECT x AND y) ORDER BY e;"),
            ["a = 1 → true", "(b OR c) → true", "d IN (SELECT x AND y) → true", "y → true"]
        );
        assert_eq!(mutants("x BETWEEN 1 AND 2"), [""; 0]);
        assert_eq!(mutants("IF NOT FOUND THEN RETURN; END IF;"), ["NOT FOUND → false"]);
    }

    #[test]
    fn bounds_locks_and_counts_are_changed() {
        assert_eq!(bare("a <= b -- c < d\n < 'e < f'"), ["<= → <", "< → <="]);
        assert_eq!(
            bare("SELECT 1 LIMIT n FOR UPDATE OF r SKIP LOCKED"),
            ["n → ALL", "without SKIP LOCKED", "without FOR UPDATE OF r SKIP LOCKED"]
        );
        assert_eq!(bare("SELECT 1 FOR UPDATE OF r; x"), ["without FOR UPDATE OF r"]);
        assert_eq!(bare("SELECT 1 FOR KEY SHARE;"), ["without FOR KEY SHARE"]);
        assert_eq!(bare("x := y + 1;"), ["1 → 0"]);
        assert_eq!(bare("INSERT ON CONFLICT DO NOTHING;"), ["without ON CONFLICT DO NOTHING"]);
    }

    #[test]
    fn a_condition_ends_where_it_ends() {
        assert_eq!(bare("WHERE a IS DISTINCT FROM b AND c"), ["a IS DISTINCT FROM b → true", "c → true"]);
        assert_eq!(bare("WHERE a BETWEEN 1 AND 2 AND c"), ["a BETWEEN 1 AND 2 → true", "c → true"]);
        assert_eq!(mutants("WHERE a = CASE WHEN b THEN 1 END AND c")[0], "a = CASE WHEN b THEN 1 END → true");
        assert_eq!(mutants("x := body -> 'a' ->> 'b';"), [""; 0]);
    }

    #[test]
    fn a_sign_is_named_with_its_line() {
        assert_eq!(mutants("\n  a < b\n"), ["< → <= in: a < b"]);
    }

    #[test]
    fn an_edit_changes_its_place_alone() {
        let text = "AS $$ a < b AND c < d";
        let changed: Vec<String> = edits(text).iter().map(|edit| edit.applied(text)).collect();
        assert_eq!(changed, ["AS $$ a <= b AND c < d", "AS $$ a < b AND true", "AS $$ a < b AND c <= d"]);
    }
}
