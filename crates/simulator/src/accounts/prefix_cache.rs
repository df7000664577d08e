//! The context cache: which starts of prompts have been seen, in blocks. A start is cached from the third request on
//! that has it. Pure but for its own memory.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use crate::tokens::count_tokens;

/// Bytes of one block: 64 tokens of ASCII.
const BLOCK_BYTES: usize = 256;
/// Requests that must have had a start before it is cached.
const SEEN_BEFORE_CACHED: u8 = 2;
/// Starts that are remembered; then all are forgotten, as a provider may do at any time.
const MAX_STARTS: usize = 1_000_000;

/// Starts of prompts and how often each was seen.
#[derive(Debug, Default)]
pub(crate) struct PrefixCache {
    seen: HashMap<u64, u8>,
}

impl PrefixCache {
    /// Tokens at the start of `prompt` that are cached; the prompt is counted as seen.
    pub(crate) fn lookup(&mut self, account: &str, model: &str, prompt: &str) -> u64 {
        if prompt.len() < BLOCK_BYTES {
            return 0;
        }
        if self.seen.len() > MAX_STARTS {
            self.seen.clear();
        }
        let mut hasher = DefaultHasher::new();
        (account, model).hash(&mut hasher);
        let mut cached_blocks = 0;
        for (at, block) in prompt.as_bytes().chunks_exact(BLOCK_BYTES).enumerate() {
            block.hash(&mut hasher);
            let count = self.seen.entry(hasher.finish()).or_insert(0);
            if *count >= SEEN_BEFORE_CACHED && cached_blocks == at {
                cached_blocks = at + 1;
            }
            *count = count.saturating_add(1);
        }
        let end = prompt.floor_char_boundary(cached_blocks * BLOCK_BYTES);
        count_tokens(&prompt[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_start_is_cached_from_the_third_request_on() {
        let mut cache = PrefixCache::default();
        let system = "s".repeat(600);
        let mut ask = |model: &str, tail: &str| cache.lookup("a", model, &format!("{system}{tail}"));
        assert_eq!([ask("m", "one"), ask("m", "two"), ask("m", "three")], [0, 0, 128]);
        assert_eq!(ask("another", "four"), 0);
    }

    #[test]
    fn characters_are_never_cut() {
        let mut cache = PrefixCache::default();
        let prompt = "语".repeat(400);
        for _ in 0..2 {
            assert_eq!(cache.lookup("a", "m", &prompt), 0);
        }
        assert!(cache.lookup("a", "m", &prompt) > 0);
    }
}
