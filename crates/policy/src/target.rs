//! Which of a route's targets gets a call.
//!
//! Targets of the lowest priority number that can be called share the calls; the next number gets some only when none of
//! the former can be. Among those of one priority two are drawn by their weights, and the one whose calls took less time
//! lately is taken (the power of two choices). The same one may be drawn twice: so a slow one keeps a share by its weight
//! squared, and shows when it is quick again.

use std::time::Duration;

use rand::{Rng, RngExt};

/// A target that could be called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Lower ones are taken first.
    pub priority: u16,
    /// Its share among those of the same priority; at least 1.
    pub weight: u16,
    /// How long its calls took lately; `None` where none was made, which counts as quick, so that it is tried.
    pub usual: Option<Duration>,
}

/// Chooses one; its index. `None` where there is none.
pub fn choose(candidates: &[Candidate], rng: &mut impl Rng) -> Option<usize> {
    let first = candidates.iter().map(|candidate| candidate.priority).min()?;
    let total: u64 = candidates
        .iter()
        .filter(|candidate| candidate.priority == first)
        .map(|candidate| u64::from(candidate.weight.max(1)))
        .sum();
    let mut draw = || {
        let mut left = rng.random_range(0..total);
        candidates.iter().position(|candidate| {
            let weight = u64::from(candidate.weight.max(1));
            let is_drawn = candidate.priority == first && left < weight;
            if candidate.priority == first && !is_drawn {
                left -= weight;
            }
            is_drawn
        })
    };
    let (one, other) = (draw()?, draw()?);
    let usual = |index: usize| candidates[index].usual.unwrap_or_default();
    Some(if usual(other) < usual(one) { other } else { one })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn candidate(priority: u16, weight: u16, usual_ms: u64) -> Candidate {
        Candidate { priority, weight, usual: Some(Duration::from_millis(usual_ms)) }
    }

    fn shares(candidates: &[Candidate]) -> Vec<u32> {
        let mut rng = StdRng::seed_from_u64(7);
        let mut shares = vec![0; candidates.len()];
        for _ in 0..10_000 {
            shares[choose(candidates, &mut rng).unwrap()] += 1;
        }
        shares
    }

    #[test]
    fn the_lowest_priority_number_gets_all() {
        assert_eq!(shares(&[candidate(9, 100, 1), candidate(1, 1, 900)]), [0, 10_000]);
        assert_eq!(choose(&[], &mut StdRng::seed_from_u64(1)), None);
    }

    #[test]
    fn equals_share_by_weight() {
        let shares = shares(&[candidate(1, 1, 50), candidate(1, 3, 50), candidate(2, 9, 50)]);
        assert!((2_300..2_700).contains(&shares[0]) && shares[2] == 0, "{shares:?}");
    }

    #[test]
    fn the_quicker_gets_more_and_the_slower_is_not_forgotten() {
        let shares = shares(&[candidate(1, 1, 50), candidate(1, 1, 500)]);
        assert!((7_200..7_800).contains(&shares[0]), "{shares:?}");
    }

    proptest! {
        #[test]
        fn whoever_is_chosen_has_the_lowest_priority(
            rows in prop::collection::vec((0_u16..4, 0_u16..5, 0_u64..100), 1..10),
            seed in any::<u64>(),
        ) {
            let candidates: Vec<_> = rows.into_iter().map(|(p, w, ms)| candidate(p, w, ms)).collect();
            let chosen = choose(&candidates, &mut StdRng::seed_from_u64(seed)).unwrap();
            let first = candidates.iter().map(|c| c.priority).min().unwrap();
            prop_assert_eq!(candidates[chosen].priority, first);
        }
    }
}
