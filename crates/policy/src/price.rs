//! What a call costs: the price table of DeepSeek, by model and hour, and the cost of the tokens that were used.
//!
//! Not here: budgets and reservations. A model that is not in the table has no price: its calls are *unpriced*,
//! which is not the same as free.
//!
//! Prices: DeepSeek's price list of 2026-09-10, in USD per million tokens (so a thousandth of a dollar there is one
//! [`NanoUsd`] per token here). Peak hours are 01–04 and 06–10 UTC from Monday to Friday, which is 09–12 and 14–18 in
//! Beijing on the same date; Chinese public holidays are off-peak all day.

use chrono::{DateTime, Datelike, NaiveDate, Timelike, Utc, Weekday};
use sluice_domain::{NanoUsd, Usage};

/// The price of one token of each kind, in [`NanoUsd`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenPrices {
    /// A token of the prompt that came from the provider's context cache.
    pub cached_input: NanoUsd,
    /// Any other token of the prompt.
    pub input: NanoUsd,
    /// A token of the answer, reasoning included.
    pub output: NanoUsd,
}

const fn prices(cached_input: i64, input: i64, output: i64) -> TokenPrices {
    TokenPrices { cached_input: NanoUsd(cached_input), input: NanoUsd(input), output: NanoUsd(output) }
}

struct PricedModel {
    name: &'static str,
    off_peak: TokenPrices,
    peak: TokenPrices,
}

const MODELS: [PricedModel; 2] = [
    PricedModel { name: "deepseek-flash", off_peak: prices(3, 150, 600), peak: prices(6, 300, 1_200) },
    PricedModel { name: "deepseek-v4-pro", off_peak: prices(22, 660, 1_980), peak: prices(44, 1_320, 3_960) },
];

/// First and last day (month, day) of the Chinese public holidays of 2026, from the notice of the General Office of
/// the State Council of 2025-11-04 on the arrangement of holidays in 2026. Days at a weekend are in it too: they
/// cost nothing and keep the ranges as the notice has them. Working days that make up for a holiday lie on weekends,
/// which are never peak.
const HOLIDAYS_2026: [((u32, u32), (u32, u32)); 7] = [
    ((1, 1), (1, 3)),   // New Year
    ((2, 15), (2, 23)), // Spring Festival
    ((4, 4), (4, 6)),   // Qingming
    ((5, 1), (5, 5)),   // Labour Day
    ((6, 19), (6, 21)), // Dragon Boat Festival
    ((9, 25), (9, 27)), // Mid-Autumn Festival
    ((10, 1), (10, 7)), // National Day
];

/// Whether `date` is a Chinese public holiday. Only 2026 is known; in other years no day is one, which prices those
/// days too high rather than too low.
pub fn is_public_holiday(date: NaiveDate) -> bool {
    let day = (date.month(), date.day());
    date.year() == 2026 && HOLIDAYS_2026.iter().any(|&(first, last)| (first..=last).contains(&day))
}

/// Whether DeepSeek charges its peak prices at `at`.
pub fn is_peak(at: DateTime<Utc>) -> bool {
    let is_weekend = matches!(at.weekday(), Weekday::Sat | Weekday::Sun);
    matches!(at.hour(), 1..4 | 6..10) && !is_weekend && !is_public_holiday(at.date_naive())
}

/// What a token of `model` costs at `at`; `None` where the model has no known price.
///
/// `model` is the name that answered (`response.model`) where there is one: aliases move.
pub fn price(model: &str, at: DateTime<Utc>) -> Option<TokenPrices> {
    let priced = MODELS.iter().find(|priced| priced.name == model)?;
    Some(if is_peak(at) { priced.peak } else { priced.off_peak })
}

/// What `usage` of `model` costs for a call that was sent at `at`; `None` where the model has no known price.
///
/// Never negative: more cached tokens than there were in the prompt count as the whole prompt, and sums saturate.
pub fn cost(model: &str, usage: &Usage, at: DateTime<Utc>) -> Option<NanoUsd> {
    let prices = price(model, at)?;
    let cached_tokens = usage.cached_input_tokens.min(usage.input_tokens);
    let parts = [
        (cached_tokens, prices.cached_input),
        (usage.input_tokens - cached_tokens, prices.input),
        (usage.output_tokens, prices.output),
    ];
    Some(parts.into_iter().map(|(tokens, price)| times(tokens, price)).sum())
}

fn times(tokens: u64, price: NanoUsd) -> NanoUsd {
    NanoUsd(i64::try_from(tokens).unwrap_or(i64::MAX).saturating_mul(price.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    const MONDAY_PEAK: &str = "2026-10-12T01:00:00Z";
    const MONDAY_NIGHT: &str = "2026-10-12T00:59:59Z";

    #[test]
    fn peak_hours_are_half_open_and_on_working_days_only() {
        for (time, is) in [
            (MONDAY_NIGHT, false),
            (MONDAY_PEAK, true),
            ("2026-10-12T03:59:59Z", true),
            ("2026-10-12T04:00:00Z", false),
            ("2026-10-12T05:59:59Z", false),
            ("2026-10-12T06:00:00Z", true),
            ("2026-10-12T09:59:59Z", true),
            ("2026-10-12T10:00:00Z", false),
            ("2026-10-10T02:00:00Z", false), // a Saturday, though it makes up for a holiday
            ("2026-10-07T02:00:00Z", false), // the last day of National Day
            ("2026-10-08T02:00:00Z", true),
            ("2026-02-16T07:00:00Z", false), // Spring Festival
            ("2027-01-01T02:00:00Z", true),  // a year that the table doesn't have
        ] {
            assert_eq!(is_peak(at(time)), is, "{time}");
        }
    }

    #[test]
    fn a_million_tokens_cost_what_the_price_list_says() {
        let million = 1_000_000;
        for (model, time, cached, missed, output) in [
            ("deepseek-flash", MONDAY_NIGHT, 0.003, 0.15, 0.60),
            ("deepseek-flash", MONDAY_PEAK, 0.006, 0.30, 1.20),
            ("deepseek-v4-pro", MONDAY_NIGHT, 0.022, 0.66, 1.98),
            ("deepseek-v4-pro", MONDAY_PEAK, 0.044, 1.32, 3.96),
        ] {
            let usd = |input_tokens, cached_input_tokens, output_tokens| {
                let usage = Usage { input_tokens, cached_input_tokens, output_tokens, reasoning_tokens: 0 };
                cost(model, &usage, at(time))
            };
            assert_eq!(usd(million, million, 0), NanoUsd::from_usd(cached));
            assert_eq!(usd(million, 0, 0), NanoUsd::from_usd(missed));
            assert_eq!(usd(0, 0, million), NanoUsd::from_usd(output));
        }
    }

    #[test]
    fn an_unknown_model_is_unpriced() {
        assert_eq!(cost("qwen3", &Usage::default(), at(MONDAY_PEAK)), None);
    }

    proptest! {
        #[test]
        fn no_usage_costs_less_than_nothing_or_panics(
            input in any::<u64>(), cached in any::<u64>(), output in any::<u64>(), seconds in 0_i64..4_000_000_000,
        ) {
            let usage = Usage {
                input_tokens: input, cached_input_tokens: cached, output_tokens: output, reasoning_tokens: 0,
            };
            let at = DateTime::from_timestamp(seconds, 0).unwrap();
            for model in ["deepseek-flash", "deepseek-v4-pro"] {
                prop_assert!(cost(model, &usage, at).unwrap().0 >= 0);
            }
        }
    }
}
