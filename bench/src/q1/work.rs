//! The jobs of Q1, the same for everybody, and the least time that they can take.

use std::fmt::Write as _;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

/// What every party's jobs are made from.
const SEED: u64 = 1;
/// What the simulator serves.
pub const MODEL: &str = "gpt-sim";
/// Bytes of ASCII that the simulator counts as a token.
const BYTES_PER_TOKEN: usize = 4;
const MAX_TOKENS: [u64; 4] = [64, 256, 512, 1_024];

/// What is allowed in any window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allowance {
    /// Requests.
    pub requests: u64,
    /// Tokens.
    pub tokens: u64,
    /// The window.
    pub window_s: u64,
}

impl Allowance {
    /// The least time in which so much can be done: windows that don't overlap hold one allowance each, and the first is
    /// spent at once, so `n` allowances take `n - 1` windows.
    pub fn least_seconds(&self, requests: u64, tokens: u64) -> f64 {
        let allowances = requests.div_ceil(self.requests).max(tokens.div_ceil(self.tokens));
        (allowances.saturating_sub(1) * self.window_s) as f64
    }
}

/// Requests in the order in which they are submitted.
#[derive(Clone, Debug)]
pub struct Work {
    bodies: Vec<Value>,
}

impl Work {
    /// So many: prompts of 20 to 1,000 tokens (each length as likely by its logarithm), four values of `max_tokens`, and
    /// answers of a fifth to nine tenths of it, ordered from the simulator.
    pub fn of(count: usize) -> Self {
        let mut random = StdRng::seed_from_u64(SEED);
        let mut body = |number: usize| {
            let tokens = (20.0 * 50_f64.powf(random.random_range(0.0..1.0))) as usize;
            let max_tokens = MAX_TOKENS[random.random_range(0..MAX_TOKENS.len())];
            let answer = (max_tokens as f64 * random.random_range(0.2..0.9)) as u64;
            let mut content = format!("{number} [[sim:none tokens={answer}]] ");
            let missing = (tokens * BYTES_PER_TOKEN).saturating_sub(content.len());
            content.extend(std::iter::repeat_n("word ", missing / 5));
            json!({
                "model": MODEL, "max_tokens": max_tokens, "messages": [{"role": "user", "content": content}]
            })
        };
        Self { bodies: (0..count).map(&mut body).collect() }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.bodies.len()
    }

    /// Every `parts`-th line from the `part`-th on, as `sluice submit` takes them.
    pub fn lines(&self, part: usize, parts: usize) -> String {
        let mut text = String::new();
        for (number, body) in self.bodies.iter().enumerate().skip(part).step_by(parts) {
            let line = json!({
                "custom_id": number.to_string(), "method": "POST", "url": "/v1/chat/completions", "body": body
            });
            // Writing to a String can't fail.
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_allowance_is_spent_at_once() {
        let allowance = Allowance { requests: 10, tokens: 1_000, window_s: 60 };
        for (requests, tokens, least) in
            [(10, 1_000, 0.0), (11, 10, 60.0), (1, 1_001, 60.0), (30, 900, 120.0), (0, 0, 0.0)]
        {
            assert!((allowance.least_seconds(requests, tokens) - least).abs() < 1e-9, "{requests} {tokens}");
        }
    }

    #[test]
    fn parts_hold_all_of_the_work_once() {
        let work = Work::of(10);
        assert_eq!(work.len(), 10);
        let lines: usize = (0..4).map(|part| work.lines(part, 4).lines().count()).sum();
        assert_eq!(lines, 10);
        assert_eq!(work.lines(0, 1), Work::of(10).lines(0, 1));
    }
}
