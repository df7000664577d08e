//! API keys: how they look, and what is kept of them.
//!
//! `sluice_`, 33 base-62 digits of 192 random bits, and 6 of the CRC-32 of all before them. The beginning lets scanners
//! for leaked secrets find one; the checksum tells a typing error from a key that is not valid (any more) without asking a
//! database. Of a key only its SHA-256 is stored: with so many random bits nobody guesses one, and a slow hash would only
//! cost time at each request.

use std::fmt;

use sha2::{Digest, Sha256};
use thiserror::Error;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RANDOM_DIGITS: usize = 33;
const CHECKSUM_DIGITS: usize = 6;
/// Digits that are shown to tell keys apart: 168 random bits stay unknown.
const SHOWN_DIGITS: usize = 4;

/// A key in hand. It shows itself to nobody who does not ask for it by name.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

/// The SHA-256 of a key: what is stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApiKeyHash(pub [u8; 32]);

/// Why a text is no key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NoApiKey {
    /// It does not begin like one.
    #[error("is no key of Sluice")]
    Foreign,
    /// It begins like one, and its checksum does not fit.
    #[error("is mistyped or cut off: its checksum does not fit")]
    Mistyped,
}

impl ApiKey {
    /// What every key begins with.
    pub const PREFIX: &'static str = "sluice_";

    /// Makes a key of random bytes, which must come from the operating system or a generator as good.
    pub fn of_random(random: [u8; 24]) -> Self {
        let text = format!("{}{}", Self::PREFIX, base_62(&random, RANDOM_DIGITS));
        let checksum = checksum(&text);
        Self(text + &checksum)
    }

    /// Reads a key that a client sent.
    pub fn parse(text: &str) -> Result<Self, NoApiKey> {
        if !text.starts_with(Self::PREFIX) {
            return Err(NoApiKey::Foreign);
        }
        let is_right_length = text.len() == Self::PREFIX.len() + RANDOM_DIGITS + CHECKSUM_DIGITS;
        match text.split_at_checked(text.len().saturating_sub(CHECKSUM_DIGITS)) {
            Some((before, given)) if is_right_length && given == checksum(before) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(NoApiKey::Mistyped),
        }
    }

    /// The key itself: for whoever made it, once.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Its beginning, by which people tell keys apart.
    pub fn hint(&self) -> String {
        format!("{}…", &self.0[..Self::PREFIX.len() + SHOWN_DIGITS])
    }

    /// What is stored of it.
    pub fn hash(&self) -> ApiKeyHash {
        ApiKeyHash(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

impl fmt::Debug for ApiKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKeyHash(…)")
    }
}

fn checksum(text: &str) -> String {
    base_62(&crc32fast::hash(text.as_bytes()).to_be_bytes(), CHECKSUM_DIGITS)
}

/// A number, given by its bytes from the highest on, in so many base-62 digits.
fn base_62(number: &[u8], digits: usize) -> String {
    let mut number = number.to_vec();
    let mut text = vec![b'0'; digits];
    for digit in text.iter_mut().rev() {
        let mut rest = 0_u16;
        for byte in &mut number {
            let part = rest * 256 + u16::from(*byte);
            // The rest is below 62, and so the quotient below 256.
            *byte = (part / 62) as u8;
            rest = part % 62;
        }
        *digit = ALPHABET[usize::from(rest)];
    }
    text.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_base_62() {
        assert_eq!(base_62(&[0, 61], 3), "00z");
        assert_eq!(base_62(&[0, 62], 3), "010");
        assert_eq!(base_62(&[0xff, 0xff, 0xff, 0xff], 6), "4gfFC3");
        assert_eq!(base_62(&[0xff; 24], RANDOM_DIGITS).trim_start_matches('0').len(), RANDOM_DIGITS);
    }

    #[test]
    fn a_key_is_read_back_and_no_digit_of_it_may_differ() {
        let key = ApiKey::of_random(std::array::from_fn(|at| at as u8 * 7));
        assert_eq!(key.expose().len(), 46);
        assert_eq!(ApiKey::parse(key.expose()), Ok(key.clone()));
        assert_eq!(ApiKey::parse(key.expose()).unwrap().hash(), key.hash());
        for at in ApiKey::PREFIX.len()..key.expose().len() {
            let mut text = key.expose().to_owned();
            let other = if &text[at..=at] == "a" { "b" } else { "a" };
            text.replace_range(at..=at, other);
            assert_eq!(ApiKey::parse(&text), Err(NoApiKey::Mistyped), "{at}");
        }
        for cut in ["sluice_", "sluice_é", &key.expose()[..45], &format!("{}0", key.expose())] {
            assert_eq!(ApiKey::parse(cut), Err(NoApiKey::Mistyped), "{cut}");
        }
        assert_eq!(ApiKey::parse("sk-123"), Err(NoApiKey::Foreign));
    }

    #[test]
    fn a_key_does_not_show_itself() {
        let key = ApiKey::of_random([9; 24]);
        assert_eq!(format!("{key:?} {:?}", key.hash()), "ApiKey(…) ApiKeyHash(…)");
        assert!(key.expose().starts_with(key.hint().trim_end_matches('…')));
        assert_eq!(key.hint().chars().count(), 12);
    }
}
