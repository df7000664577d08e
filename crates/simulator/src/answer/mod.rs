//! What a good answer says, from the seed and the prompt alone. Pure.
//!
//! Every answer holds the first twelve hex digits of its prompt's SHA-256 ([`prompt_sha256`]) and the prompt's first
//! words, so that a test can tell whether the right answer reached the right question. Not here: JSON shapes
//! (`shape`), faults (`fault_answer`).

mod schema;

use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use sluice_domain::Usage;

use crate::{
    config::TokenRange,
    random::SplitMix,
    request::{ApiRequest, Ask, Glimpse, TextFormat, TextOptions},
    tokens::{count_tokens, cut_to_tokens},
};

/// How much of the prompt is echoed, in characters.
const ECHO_CHARS: usize = 48;
/// Hex digits of the prompt's hash in an answer.
const HASH_DIGITS: usize = 12;
const WORDS: [&str; 32] = [
    "river", "gate", "stone", "water", "light", "north", "table", "quiet", "seven", "green", "paper",
    "wheel", "cloud", "field", "glass", "honey", "iron", "lemon", "maple", "night", "ocean", "plain",
    "queen", "round", "salt", "tower", "under", "valley", "winter", "yellow", "bridge", "candle",
];

/// The SHA-256 of a prompt's text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct PromptHash([u8; 32]);

impl PromptHash {
    pub(crate) fn of(prompt: &str) -> Self {
        Self(Sha256::digest(prompt.as_bytes()).into())
    }

    /// Enough of it to seed a generator or key a table.
    pub(crate) fn as_u64(self) -> u64 {
        self.0.iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
    }

    pub(crate) fn to_hex(self) -> String {
        hex(&self.0)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The SHA-256, in hex, of the text of a request's prompt: every string in `messages`, `prompt`, `suffix` and
/// `input`, in order, each followed by a line break. It doesn't depend on the model or on parameters, so it survives
/// what stands between a client and the simulator. `None` where `body` is no JSON object.
pub fn prompt_sha256(body: &[u8]) -> Option<String> {
    let fields: Map<String, Value> = serde_json::from_slice(body).ok()?;
    Some(PromptHash::of(&Glimpse::of(&fields).prompt).to_hex())
}

/// One text of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Completion {
    pub(crate) reasoning: Option<String>,
    pub(crate) text: String,
    pub(crate) finish_reason: &'static str,
    pub(crate) reasoning_tokens: u64,
    pub(crate) text_tokens: u64,
}

/// All that answers are made from.
pub(crate) struct AnswerSource {
    pub(crate) seed: u64,
    pub(crate) hash: PromptHash,
    pub(crate) range: TokenRange,
    /// Tokens of the text where somebody ordered a number.
    pub(crate) ordered_tokens: Option<u64>,
}

impl AnswerSource {
    /// A generator for one part of the answer.
    pub(crate) fn random(&self, part: u64) -> SplitMix {
        SplitMix::from_parts(&[self.seed, self.hash.as_u64(), part])
    }

    /// The texts of the answer, one for each choice of each prompt.
    pub(crate) fn completions(&self, request: &ApiRequest) -> Vec<Completion> {
        let (options, prompts) = match &request.ask {
            Ask::Chat(options) => (options, std::slice::from_ref(&request.echo)),
            Ask::Completions { prompts, options } => (options, prompts.as_slice()),
            Ask::Embeddings { .. } | Ask::Images { .. } => return Vec::new(),
        };
        let mut completions = Vec::with_capacity(prompts.len() * options.choices as usize);
        for prompt in prompts {
            for _ in 0..options.choices {
                completions.push(self.completion(prompt, options, completions.len() as u64));
            }
        }
        completions
    }

    fn completion(&self, echo: &str, options: &TextOptions, choice: u64) -> Completion {
        let mut random = self.random(choice);
        let wanted = self.ordered_tokens.unwrap_or_else(|| random.next_in(self.range.min, self.range.max));
        let text = match &options.format {
            TextFormat::Free => self.free_text(echo, wanted, &mut random),
            TextFormat::JsonObject => self.json_text(echo, wanted, &mut random),
            TextFormat::JsonSchema(schema) => schema::instance(schema, &self.tag(), &mut random).to_string(),
        };
        let reasoning = options.is_thinking.then(|| {
            let tokens = random.next_in(self.range.min, self.range.max);
            words(&format!("The user asks {}.", self.tag()), tokens, &mut random)
        });
        cut_completion(reasoning, &text, options.max_tokens.unwrap_or(u64::MAX))
    }

    /// What ties an answer to its prompt.
    pub(crate) fn tag(&self) -> String {
        self.hash.to_hex()[..HASH_DIGITS].to_owned()
    }

    fn free_text(&self, echo: &str, tokens: u64, random: &mut SplitMix) -> String {
        words(&format!("echo {} {}:", self.tag(), first_words(echo)), tokens, random)
    }

    fn json_text(&self, echo: &str, tokens: u64, random: &mut SplitMix) -> String {
        let answer = words("", tokens.saturating_sub(20).max(1), random);
        json!({"echo": self.tag(), "prompt": first_words(echo), "answer": answer}).to_string()
    }
}

/// What the answer is charged with.
pub(crate) fn usage(request: &ApiRequest, completions: &[Completion], cached_input_tokens: u64) -> Usage {
    let reasoning_tokens = completions.iter().map(|completion| completion.reasoning_tokens).sum();
    let text_tokens: u64 = completions.iter().map(|completion| completion.text_tokens).sum();
    Usage {
        input_tokens: request.prompt_tokens,
        cached_input_tokens: cached_input_tokens.min(request.prompt_tokens),
        output_tokens: text_tokens + reasoning_tokens,
        reasoning_tokens,
    }
}

/// Bounds reasoning and text together, reasoning first, as the real ones do.
fn cut_completion(reasoning: Option<String>, text: &str, max_tokens: u64) -> Completion {
    let whole_reasoning_tokens = reasoning.as_deref().map_or(0, count_tokens);
    let reasoning = reasoning.map(|text| cut_to_tokens(&text, max_tokens).to_owned());
    let reasoning_tokens = reasoning.as_deref().map_or(0, count_tokens);
    let kept = cut_to_tokens(text, max_tokens - reasoning_tokens);
    let is_cut = kept.len() < text.len() || reasoning_tokens < whole_reasoning_tokens;
    Completion {
        reasoning,
        text: kept.to_owned(),
        finish_reason: if is_cut { "length" } else { "stop" },
        reasoning_tokens,
        text_tokens: count_tokens(kept),
    }
}

fn first_words(echo: &str) -> String {
    let line = echo.split_whitespace().fold(String::new(), |mut line, word| {
        if line.len() < ECHO_CHARS * 4 {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        line
    });
    line.chars().take(ECHO_CHARS).collect()
}

/// `start`, and words after it until there are about `tokens` tokens.
fn words(start: &str, tokens: u64, random: &mut SplitMix) -> String {
    let mut text = start.to_owned();
    let mut missing_bytes = tokens.saturating_sub(count_tokens(start)).saturating_mul(4);
    while missing_bytes > 0 {
        let word = WORDS[random.next_in(0, WORDS.len() as u64 - 1) as usize];
        let separator = if text.is_empty() { "" } else { " " };
        // Writing to a String can't fail.
        let _ = write!(text, "{separator}{word}");
        missing_bytes = missing_bytes.saturating_sub((word.len() + separator.len()) as u64);
    }
    text
}

/// A unit vector that depends on `input` and the seed.
pub(crate) fn embedding(seed: u64, input: &str, dimensions: usize) -> Vec<f32> {
    let mut random = SplitMix::from_parts(&[seed, PromptHash::of(input).as_u64()]);
    let raw: Vec<f64> = (0..dimensions).map(|_| random.next_unit() * 2.0 - 1.0).collect();
    let length = raw.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    raw.iter().map(|x| (x / length) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(prompt: &str) -> AnswerSource {
        let range = TokenRange { min: 12, max: 48 };
        AnswerSource { seed: 1, hash: PromptHash::of(prompt), range, ordered_tokens: None }
    }

    fn options(format: TextFormat, max_tokens: Option<u64>) -> TextOptions {
        let (is_stream, wants_usage_chunk, is_thinking) = (false, false, true);
        TextOptions { is_stream, wants_usage_chunk, choices: 1, max_tokens, is_thinking, format }
    }

    #[test]
    fn the_same_prompt_has_the_same_answer_and_holds_its_hash() {
        let ask = |prompt: &str| source(prompt).completion(prompt, &options(TextFormat::Free, None), 0);
        assert_eq!(ask("What is water?"), ask("What is water?"));
        assert_ne!(ask("What is water?").text, ask("What is fire?").text);
        assert!(ask("What is water?").text.contains("What is water?"));
        assert!(ask("What is water?").text.contains(&source("What is water?").tag()));
    }

    #[test]
    fn no_answer_is_longer_than_max_tokens() {
        for max in 1..80 {
            let answer = source("p").completion("p", &options(TextFormat::Free, Some(max)), 0);
            let tokens = answer.reasoning_tokens + answer.text_tokens;
            assert!(tokens <= max, "{tokens} > {max}");
            assert!(answer.finish_reason == "length" || tokens < max + 1);
        }
    }

    #[test]
    fn json_mode_answers_json() {
        let answer = source("p").completion("a \"quoted\" prompt", &options(TextFormat::JsonObject, None), 0);
        let value: Value = serde_json::from_str(&answer.text).unwrap();
        assert_eq!(value["prompt"], "a \"quoted\" prompt");
    }

    #[test]
    fn an_embedding_is_a_unit_vector() {
        let vector = embedding(1, "text", 64);
        let length: f32 = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
        assert_ne!(vector, embedding(1, "other", 64));
    }

    #[test]
    fn the_prompts_hash_does_not_depend_on_model_or_parameters() {
        let one = prompt_sha256(br#"{"model":"a","messages":[{"role":"user","content":"hi"}]}"#);
        let two =
            prompt_sha256(br#"{"messages":[{"role":"user","content":"hi"}],"stream":true,"model":"b"}"#);
        assert!(one.is_some());
        assert_eq!(one, two);
        assert_eq!(prompt_sha256(b"[]"), None);
    }
}
