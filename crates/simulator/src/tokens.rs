//! How many tokens a text has, roughly as real tokenizers count: four bytes of ASCII or one and a half other
//! characters (CJK and its kin) a token. Not here: prices, limits.

/// Twelfths of a token, in which both rules are whole numbers.
const PARTS_PER_TOKEN: u64 = 12;
const PARTS_PER_ASCII_BYTE: u64 = 3;
const PARTS_PER_OTHER_CHAR: u64 = 8;

/// The tokens of `text`, rounded up.
pub fn count_tokens(text: &str) -> u64 {
    let ascii = text.bytes().filter(u8::is_ascii).count() as u64;
    // The bytes that begin a character of more than one byte are those from 0xC0 up.
    let others = text.bytes().filter(|byte| *byte >= 0xc0).count() as u64;
    (ascii * PARTS_PER_ASCII_BYTE + others * PARTS_PER_OTHER_CHAR).div_ceil(PARTS_PER_TOKEN)
}

/// The longest start of `text` that has at most `max_tokens` tokens.
pub(crate) fn cut_to_tokens(text: &str, max_tokens: u64) -> &str {
    let budget = max_tokens.saturating_mul(PARTS_PER_TOKEN);
    let mut spent = 0;
    for (at, character) in text.char_indices() {
        spent += if character.is_ascii() { PARTS_PER_ASCII_BYTE } else { PARTS_PER_OTHER_CHAR };
        if spent > budget {
            return &text[..at];
        }
    }
    text
}

/// `text` in pieces of about `tokens` tokens each, as a stream sends them.
pub(crate) fn split_by_tokens(text: &str, tokens: u64) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let piece = cut_to_tokens(rest, tokens.max(1));
        pieces.push(piece);
        rest = &rest[piece.len()..];
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_ascii_bytes_or_one_and_a_half_other_characters_are_a_token() {
        assert_eq!(count_tokens(""), 0);
        assert_eq!(count_tokens("abcd"), 1);
        assert_eq!(count_tokens("abcde"), 2);
        assert_eq!(count_tokens("你好吗"), 2);
        assert_eq!(count_tokens("你好吗你好吗ab"), 5);
    }

    #[test]
    fn a_cut_text_has_no_more_tokens_than_asked_and_no_broken_character() {
        let text = "abc 你好 déjà vu 🙂 end";
        for max in 0..12 {
            assert!(count_tokens(cut_to_tokens(text, max)) <= max);
        }
        assert_eq!(split_by_tokens(text, 1).concat(), text);
    }
}
