//! What happens to bytes that go one way.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::Direction;

/// TCP's least time before it sends a lost piece again (Linux; RFC 6298 would have a second).
const RETRANSMIT_AFTER: Duration = Duration::from_millis(200);
/// Doubling no further than this.
const MOST_LOSSES_IN_A_ROW: u32 = 5;
/// A drip is cut into so many pieces a second, where it has as many bytes.
const PIECES_A_SECOND: u32 = 20;

/// How bytes that go one way are treated. The default passes them on.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Flow {
    /// Nothing passes.
    pub is_silent: bool,
    /// So many bytes a second at most, on each connection.
    pub bytes_per_second: Option<u32>,
    /// Each piece comes later by this.
    pub delay: Duration,
    /// Each connection is reset after so many more bytes.
    pub cut_after: Option<u64>,
    /// How probably a piece is lost, and comes later.
    pub loss: f64,
}

impl Flow {
    /// How many of `waiting` bytes go next.
    pub(super) fn piece(&self, waiting: usize) -> usize {
        match self.bytes_per_second {
            Some(rate) => waiting.min((rate / PIECES_A_SECOND).max(1) as usize),
            None => waiting,
        }
    }

    /// How long a piece of so many bytes takes.
    pub(super) fn duration(&self, piece: usize, losses: &mut Losses) -> Duration {
        let dripping = match self.bytes_per_second {
            Some(rate) => Duration::from_secs_f64(piece as f64 / f64::from(rate.max(1))),
            None => Duration::ZERO,
        };
        self.delay + dripping + losses.next(self.loss)
    }
}

/// Which pieces of one connection and direction are lost.
#[derive(Debug)]
pub(super) struct Losses(StdRng);

impl Losses {
    pub(super) fn of(seed: u64, number: u64, direction: Direction) -> Self {
        let place = number * 2 + direction.index() as u64;
        Self(StdRng::seed_from_u64(seed ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// How long the next piece takes by being lost, perhaps several times.
    fn next(&mut self, loss: f64) -> Duration {
        let mut lost_for = Duration::ZERO;
        for losses in 0..MOST_LOSSES_IN_A_ROW {
            if loss <= 0.0 || !self.0.random_bool(loss.min(1.0)) {
                break;
            }
            lost_for += RETRANSMIT_AFTER * 2_u32.pow(losses);
        }
        lost_for
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(seed: u64) -> Vec<Duration> {
        let mut losses = Losses::of(seed, 3, Direction::ToClient);
        (0..100).map(|_| losses.next(0.3)).collect()
    }

    #[test]
    fn a_seed_repeats_its_losses() {
        assert_eq!(losses(7), losses(7));
        assert_ne!(losses(7), losses(8));
        let lost = losses(7).iter().filter(|lost| !lost.is_zero()).count();
        assert!((15..45).contains(&lost), "{lost}");
    }

    #[test]
    fn a_drip_goes_in_small_pieces() {
        let drip = Flow { bytes_per_second: Some(100), ..Flow::default() };
        let mut losses = Losses::of(1, 0, Direction::ToServer);
        assert_eq!((drip.piece(1000), drip.duration(5, &mut losses)), (5, Duration::from_millis(50)));
        let byte = Flow { bytes_per_second: Some(1), ..Flow::default() };
        assert_eq!((byte.piece(1000), byte.duration(1, &mut losses)), (1, Duration::from_secs(1)));
        assert_eq!(Flow::default().piece(1000), 1000);
    }
}
