//! Answers of providers: their JSON, what they are taken for, and what their usage costs.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sluice_domain::Usage;
use sluice_policy::{
    answer_json::{json_digest, lenient_json},
    classify::{AnswerShape, Expectation, classify},
    price::{cost, is_peak},
    usage::usage,
};

const STATUS_CODES: [u16; 16] =
    [200, 200, 200, 201, 204, 302, 400, 401, 402, 404, 429, 429, 499, 500, 503, 529];
const SHAPES: [AnswerShape; 4] =
    [AnswerShape::Chat, AnswerShape::Completion, AnswerShape::Embeddings, AnswerShape::Other];
const PRICED_MODELS: [&str; 2] = ["deepseek-flash", "deepseek-v4-pro"];
/// Above what any counted usage costs: twice 10^9 tokens of the dearest kind.
const MOST_USD: f64 = 8_000.0;

/// The first byte says what was asked for and the status, the rest is the body.
pub(crate) fn check(bytes: &[u8]) {
    let Some((&choice, body)) = bytes.split_first() else { return };
    let status_code = STATUS_CODES[usize::from(choice & 15)];
    let shape = SHAPES[usize::from(choice >> 4 & 3)];
    let expected = Expectation { shape, is_json_mode: choice & 64 != 0 };
    let digest = json_digest(body);
    let whole = lenient_json(body);
    assert!(whole.is_none() || digest.is_some(), "the digest refuses what the whole takes");
    let verdict = classify(status_code, digest.as_ref(), expected);
    assert!(verdict.is_err() || (200..300).contains(&status_code), "{status_code} is no success");
    let counted = digest.as_ref().and_then(|json| usage(&json["usage"]));
    if let Ok(strict) = serde_json::from_slice::<Value>(body)
        && (strict.is_object() || strict.is_array())
    {
        assert_eq!(classify(status_code, Some(&strict), expected), verdict, "the digest is judged otherwise");
        assert_eq!(usage(&strict["usage"]), counted, "the digest is charged otherwise");
    }
    if let Some(counted) = counted {
        check_cost(&counted);
    }
}

fn check_cost(counted: &Usage) {
    assert!(counted.cached_input_tokens <= counted.input_tokens);
    assert!(counted.reasoning_tokens <= counted.output_tokens);
    let [night, day] = [at("2026-10-12T00:30:00Z"), at("2026-10-12T02:00:00Z")];
    assert!(is_peak(day) && !is_peak(night));
    for model in PRICED_MODELS {
        let [off_peak, peak] =
            [night, day].map(|at| cost(model, counted, at).expect("the model has a price"));
        assert!(off_peak.0 >= 0 && off_peak <= peak, "{off_peak} and {peak}");
        assert!((0.0..=MOST_USD).contains(&peak.as_usd()), "{peak} for {counted:?}");
    }
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a fixed time")
}
