//! What a JSON parser that skips values does not look at: how deep they are nested, and whether escapes make
//! characters. One pass over the bytes.

/// As deep as the parsers further on follow, with room for what wraps a body.
const MAX_DEPTH: usize = 100;

/// Says what is wrong with a JSON text, if it is one of these things; columns are bytes, from 1.
pub fn problem_of(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let (mut depth, mut at, mut in_string) = (0_usize, 0_usize, false);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            0 => return Some(format!("holds a NUL byte at column {}", at + 1)),
            b'"' => in_string = !in_string,
            b'\\' if in_string => match surrogate_problem(bytes, at) {
                Ok(length) => at += length - 1,
                Err(problem) => return Some(problem),
            },
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Some(format!("is nested deeper than {MAX_DEPTH} levels at column {}", at + 1));
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The length of the escape at `at`, or what is wrong with it. Escapes that are none are left to the parser.
fn surrogate_problem(bytes: &[u8], at: usize) -> Result<usize, String> {
    let lone = || {
        let escape = String::from_utf8_lossy(&bytes[at..(at + 6).min(bytes.len())]).into_owned();
        Err(format!("holds the lone surrogate {escape} at column {}, which is no character", at + 1))
    };
    match unit(bytes, at) {
        Some(0xd800..=0xdbff) => match unit(bytes, at + 6) {
            Some(0xdc00..=0xdfff) => Ok(12),
            _ => lone(),
        },
        Some(0xdc00..=0xdfff) => lone(),
        Some(_) => Ok(6),
        None => Ok(2),
    }
}

/// The UTF-16 unit of an escape `\u` with four digits at `at`.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0_u16, |value, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(value << 4 | digit as u16)
    })
}
