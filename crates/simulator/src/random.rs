//! A small generator of pseudo-random numbers whose sequence never changes between versions, so that a seed printed
//! by a failed test repeats it for ever. Not here: anything that must be hard to guess.

/// `SplitMix64`: 64 bits of state, one output per step.
#[derive(Clone, Debug)]
pub(crate) struct SplitMix(u64);

impl SplitMix {
    /// A generator whose sequence depends on all of `parts` and on their order.
    pub(crate) fn from_parts(parts: &[u64]) -> Self {
        let mut state = Self(0x9e37_79b9_7f4a_7c15);
        for part in parts {
            state.0 ^= *part;
            state.0 = state.next_u64();
        }
        state
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0.0..1.0`.
    pub(crate) fn next_unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in `low..=high`; `low` where the range is empty.
    pub(crate) fn next_in(&mut self, low: u64, high: u64) -> u64 {
        let width = high.saturating_sub(low).saturating_add(1);
        low + ((u128::from(self.next_u64()) * u128::from(width)) >> 64) as u64
    }

    /// Standard normal, by Box and Muller.
    pub(crate) fn next_normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.next_unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.next_unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_of_a_seed_is_fixed_for_ever() {
        let mut random = SplitMix::from_parts(&[1, 2]);
        let first = [random.next_u64(), random.next_u64()];
        let mut again = SplitMix::from_parts(&[1, 2]);
        assert_eq!(first, [again.next_u64(), again.next_u64()]);
        assert_ne!(first[0], SplitMix::from_parts(&[2, 1]).next_u64());
    }

    #[test]
    fn ranges_hold_their_ends() {
        let mut random = SplitMix::from_parts(&[7]);
        let drawn: Vec<u64> = (0..1000).map(|_| random.next_in(3, 5)).collect();
        assert!(drawn.iter().all(|n| (3..=5).contains(n)));
        assert!([3, 4, 5].iter().all(|n| drawn.contains(n)));
        assert_eq!(random.next_in(9, 2), 9);
    }
}
