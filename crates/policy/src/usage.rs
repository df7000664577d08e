//! Tokens that an answer says it used, in the shapes of OpenAI and of DeepSeek.
//!
//! A figure that is missing, negative, absurd or of the wrong type is absent; an answer with neither input nor output
//! has no usage, and is charged at its estimate.

use serde_json::Value;
use sluice_domain::Usage;

/// No single call uses more tokens than this (a thousand full contexts): above it, a figure says nothing.
const MAX_TOKENS: f64 = 1e9;

/// Reads the `usage` object of an answer.
pub fn usage(usage: &Value) -> Option<Usage> {
    let cache_hits = tokens(&usage["prompt_cache_hit_tokens"]);
    let cached = cache_hits
        .or_else(|| tokens(&usage["prompt_tokens_details"]["cached_tokens"]))
        .or_else(|| tokens(&usage["input_tokens_details"]["cached_tokens"]));
    let input = tokens(&usage["prompt_tokens"])
        .or_else(|| tokens(&usage["input_tokens"]))
        .or_else(|| Some(cache_hits.unwrap_or(0) + tokens(&usage["prompt_cache_miss_tokens"])?));
    let output = tokens(&usage["completion_tokens"]).or_else(|| tokens(&usage["output_tokens"]));
    let reasoning = tokens(&usage["completion_tokens_details"]["reasoning_tokens"])
        .or_else(|| tokens(&usage["output_tokens_details"]["reasoning_tokens"]));
    if input.is_none() && output.is_none() {
        return None;
    }
    let (input_tokens, output_tokens) = (input.unwrap_or(0), output.unwrap_or(0));
    Some(Usage {
        input_tokens,
        cached_input_tokens: cached.unwrap_or(0).min(input_tokens),
        output_tokens,
        reasoning_tokens: reasoning.unwrap_or(0).min(output_tokens),
    })
}

fn tokens(value: &Value) -> Option<u64> {
    value.as_f64().filter(|count| (0.0..=MAX_TOKENS).contains(count)).map(|count| count as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn counted(input: u64, cached: u64, output: u64, reasoning: u64) -> Usage {
        Usage {
            input_tokens: input,
            cached_input_tokens: cached,
            output_tokens: output,
            reasoning_tokens: reasoning,
        }
    }

    #[test]
    fn both_dialects_are_read() {
        let deepseek = json!({
            "prompt_tokens": 100, "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36,
            "completion_tokens": 20, "total_tokens": 120, "completion_tokens_details": {"reasoning_tokens": 7},
        });
        assert_eq!(usage(&deepseek), Some(counted(100, 64, 20, 7)));
        let openai = json!({
            "prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 8},
        });
        assert_eq!(usage(&openai), Some(counted(100, 8, 20, 0)));
        let newer = json!({
            "input_tokens": 5, "input_tokens_details": {"cached_tokens": 1},
            "output_tokens": 6, "output_tokens_details": {"reasoning_tokens": 2},
        });
        assert_eq!(usage(&newer), Some(counted(5, 1, 6, 2)));
        let embedding = json!({"prompt_tokens": 9, "total_tokens": 9});
        assert_eq!(usage(&embedding), Some(counted(9, 0, 0, 0)));
        let split =
            json!({"prompt_cache_hit_tokens": 3, "prompt_cache_miss_tokens": 4, "completion_tokens": 1});
        assert_eq!(usage(&split), Some(counted(7, 3, 1, 0)));
    }

    #[test]
    fn nonsense_is_absent() {
        for nonsense in [
            json!(null),
            json!("many"),
            json!([]),
            json!({}),
            json!({"prompt_tokens": -5}),
            json!({"prompt_tokens": 1e20, "completion_tokens": "12"}),
            json!({"prompt_tokens": u64::MAX, "completion_tokens": null}),
        ] {
            assert_eq!(usage(&nonsense), None, "{nonsense}");
        }
        let mixed = json!({"prompt_tokens": 10, "prompt_cache_hit_tokens": 50, "completion_tokens": -1});
        assert_eq!(usage(&mixed), Some(counted(10, 10, 0, 0)));
    }

    proptest! {
        #[test]
        fn parts_never_exceed_their_whole(a in any::<f64>(), b in any::<i64>(), c in any::<u64>(), d in any::<f64>()) {
            let value = json!({
                "prompt_tokens": a, "prompt_cache_hit_tokens": b, "completion_tokens": c,
                "completion_tokens_details": {"reasoning_tokens": d},
            });
            if let Some(usage) = usage(&value) {
                prop_assert!(usage.cached_input_tokens <= usage.input_tokens);
                prop_assert!(usage.reasoning_tokens <= usage.output_tokens);
            }
        }
    }
}
