//! Waits for what happens, where a sleep would be too short on a slow machine and too long on a fast one.

use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(10);

/// Asks every 10 ms until there is an answer, and returns it.
///
/// # Panics
///
/// When there is none in time; the message names `what` was waited for.
pub async fn wait_for<T>(what: &str, timeout: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < timeout, "waited {timeout:?} in vain for: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Asks every 10 ms until it is so.
///
/// # Panics
///
/// When it is not so in time; the message names `what` was waited for.
pub async fn wait_until(what: &str, timeout: Duration, mut holds: impl AsyncFnMut() -> bool) {
    wait_for(what, timeout, async || holds().await.then_some(())).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_ends_with_the_first_answer() {
        let mut asked = 0;
        let answer = wait_for("the third question", Duration::from_secs(5), async || {
            asked += 1;
            (asked == 3).then_some(asked)
        });
        assert_eq!(answer.await, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "waited 20ms in vain for: pigs to fly")]
    async fn waiting_in_vain_names_what_was_waited_for() {
        wait_until("pigs to fly", Duration::from_millis(20), async || false).await;
    }
}
