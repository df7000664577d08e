//! Whether a call is made again, and when. What decides is pure; only [`Tries`] waits.

use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;
use tonic::{Code, ConnectError, Status};
use tonic_types::StatusExt;

use crate::{
    Error,
    error::{is_out_of_time, sources},
};

/// The first pause is at most this long; each doubles the next.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// No pause of our own is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Whether a request does harm when it is made a second time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Repeat {
    /// It does none: a read, a cancel, a submit with an idempotency key.
    Safe,
    /// It does if the first one was carried out: a replay, a submit without a key.
    OnlyIfNothingHappened,
}

/// Whether a call that ended so is worth making again.
pub(crate) fn is_worth_repeating(status: &Status, repeat: Repeat) -> bool {
    if is_out_of_time(status) {
        return false;
    }
    let is_ours = std::error::Error::source(status).is_some();
    match repeat {
        // Statuses with a source come from a connection that broke, whatever their code.
        Repeat::Safe => is_ours || matches!(status.code(), Code::Unavailable | Code::Aborted),
        Repeat::OnlyIfNothingHappened if is_ours => {
            sources(status).any(<dyn std::error::Error>::is::<ConnectError>)
        }
        // ABORTED says that nothing was changed; UNAVAILABLE may come after it was.
        Repeat::OnlyIfNothingHappened => status.code() == Code::Aborted,
    }
}

/// The pause before try number `tries + 1`. `spread`: 0 to 1, by chance; `floor`: what the server asks for, above which
/// the pause then lies.
fn pause(tries: u32, spread: f64, floor: Option<Duration>) -> Duration {
    let most = FIRST_PAUSE.saturating_mul(1 << tries.min(10)).min(LONGEST_PAUSE);
    // Half of it always, so that a try never follows at once.
    floor.unwrap_or_default() + most.mul_f64(f64::midpoint(1.0, spread))
}

/// The tries of one call.
#[derive(Debug)]
pub(crate) struct Tries {
    patience: Duration,
    until: Instant,
    made: u32,
}

impl Tries {
    /// Tries for `patience` from now on.
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, until: far(patience), made: 0 }
    }

    /// Something went on: patience begins anew.
    pub(crate) fn went_on(&mut self) {
        *self = Self::new(self.patience);
    }

    /// Waits for the next try, or says why there is none.
    pub(crate) async fn again(&mut self, status: &Status, repeat: Repeat) -> Result<(), Error> {
        let floor = status.get_details_retry_info().and_then(|info| info.retry_delay);
        let wait = pause(self.made, rand::rng().random_range(0.0..1.0), floor);
        if !is_worth_repeating(status, repeat) || Instant::now() + wait > self.until {
            return Err(Error::of(status));
        }
        self.made += 1;
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// So far from now; patience without end stays a time.
fn far(patience: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_hours(24 * 36_525);
    Instant::now() + patience.min(CENTURY)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn broken() -> Status {
        Status::from_error(Box::new(io::Error::other("reset")))
    }

    fn never_connected() -> Status {
        Status::from_error(Box::new(ConnectError(Box::new(io::Error::other("refused")))))
    }

    #[test]
    fn what_does_no_harm_is_repeated_wherever_trying_again_may_help() {
        for status in [broken(), never_connected(), Status::unavailable(""), Status::aborted("")] {
            assert!(is_worth_repeating(&status, Repeat::Safe), "{status:?}");
        }
        for status in [
            Status::not_found(""),
            Status::unauthenticated(""),
            Status::resource_exhausted(""),
            Status::internal(""),
            Status::deadline_exceeded(""),
            Status::from_error(Box::new(tonic::TimeoutExpired(()))),
        ] {
            assert!(!is_worth_repeating(&status, Repeat::Safe), "{status:?}");
        }
    }

    #[test]
    fn what_may_do_harm_is_repeated_only_where_nothing_happened() {
        for status in [never_connected(), Status::aborted("")] {
            assert!(is_worth_repeating(&status, Repeat::OnlyIfNothingHappened), "{status:?}");
        }
        for status in [broken(), Status::unavailable(""), Status::internal("")] {
            assert!(!is_worth_repeating(&status, Repeat::OnlyIfNothingHappened), "{status:?}");
        }
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_lie_above_what_the_server_asks_for() {
        let ms = |tries, spread, floor| pause(tries, spread, floor).as_millis();
        assert_eq!([ms(0, 0.0, None), ms(0, 1.0, None), ms(1, 1.0, None)], [50, 100, 200]);
        assert_eq!([ms(30, 0.0, None), ms(u32::MAX, 1.0, None)], [2_500, 5_000]);
        assert_eq!(ms(0, 0.0, Some(Duration::from_secs(7))), 7_050);
    }

    #[tokio::test]
    async fn patience_ends_and_begins_anew_when_something_went_on() {
        let mut tries = Tries::new(Duration::from_millis(400));
        let mut count = 0;
        while tries.again(&Status::unavailable(""), Repeat::Safe).await.is_ok() {
            count += 1;
        }
        assert!((1..5).contains(&count), "{count}");
        tries.went_on();
        tries.again(&Status::unavailable(""), Repeat::Safe).await.unwrap();
        Tries::new(Duration::MAX).again(&Status::unavailable(""), Repeat::Safe).await.unwrap();
        assert!(Tries::new(Duration::ZERO).again(&Status::unavailable(""), Repeat::Safe).await.is_err());
    }
}
