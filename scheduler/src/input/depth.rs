//! How deeply JSON text is nested, without recursion and without building values.

/// Whether arrays and objects in `text` are nested deeper than `limit`. Text that is no JSON gets an answer too.
pub(crate) fn is_deeper_than(limit: usize, text: &[u8]) -> bool {
    let (mut depth, mut is_in_string, mut is_escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_in_string => is_escaped = true,
            b'"' => is_in_string = !is_in_string,
            _ if is_in_string => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::is_deeper_than;

    #[test]
    fn brackets_in_strings_do_not_count() {
        assert!(!is_deeper_than(1, br#"{"a":"[[[[\"[[["}"#));
        assert!(is_deeper_than(1, br#"{"a":[]}"#));
        assert!(!is_deeper_than(2, br#"{"a":[],"b":[{}]}"#[..13].as_ref()));
        assert!(is_deeper_than(128, "[".repeat(129).as_bytes()));
        assert!(!is_deeper_than(128, "[".repeat(128).as_bytes()));
    }
}
