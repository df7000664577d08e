//! When a delivery is tried again: at once, soon, and then over three days, as Standard Webhooks proposes.

use std::time::Duration;

/// After each try in vain; the tenth is the last.
const DELAYS_S: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

/// So often a delivery is tried.
pub const MOST_TRIES: u32 = DELAYS_S.len() as u32 + 1;

/// What a target asks for counts as a floor up to here.
const LONGEST_ASKED: Duration = Duration::from_hours(24);

/// How long to wait after `tries` tries in vain; `None`: that was the last. `retry_after`: what the target asked for.
/// `luck` (0 to 1, uniform) spreads deliveries that failed together by a fifth to both sides.
pub fn next_try(tries: u32, retry_after: Option<Duration>, luck: f64) -> Option<Duration> {
    let usual = Duration::from_secs(*DELAYS_S.get(tries.saturating_sub(1) as usize)?);
    let spread = usual.mul_f64(0.8 + 0.4 * luck.clamp(0.0, 1.0));
    let asked = retry_after.unwrap_or_default().min(LONGEST_ASKED);
    // Above the floor, too, those that were refused together come apart.
    Some(spread.max(asked + asked.mul_f64(0.1 * luck.clamp(0.0, 1.0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_spread_over_three_days_and_then_end() {
        let total: Duration = (1..MOST_TRIES).map(|tries| next_try(tries, None, 0.5).unwrap()).sum();
        assert_eq!(total, Duration::from_secs(272_105));
        assert_eq!(next_try(1, None, 0.0), Some(Duration::from_secs(4)));
        assert_eq!(next_try(1, None, 1.0), Some(Duration::from_secs(6)));
        assert_eq!(next_try(MOST_TRIES, None, 0.5), None);
        assert_eq!(next_try(u32::MAX, Some(Duration::from_secs(1)), 0.5), None);
    }

    #[test]
    fn what_a_target_asks_for_is_a_floor_within_reason() {
        let minute = Some(Duration::from_mins(1));
        assert_eq!(next_try(1, minute, 0.0), minute);
        assert_eq!(next_try(1, minute, 1.0), Some(Duration::from_secs(66)));
        assert_eq!(next_try(2, minute, 0.5), Some(Duration::from_mins(5)));
        assert_eq!(next_try(1, Some(Duration::MAX), 0.0), Some(LONGEST_ASKED));
    }
}
