//! Owns waiting: poll a state until it is the wanted one or time is up, and
//! then say the last state seen. Never sleeps for a guess. Tests drive it.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

/// A wanted state that did not come.
#[derive(Debug, thiserror::Error)]
#[error("waited {waited:?} for {what}; last seen: {last}")]
pub struct WaitError {
    /// What was waited for.
    pub what: String,
    /// For how long.
    pub waited: Duration,
    /// What the probe saw last.
    pub last: String,
}

/// The first and the longest pause between two looks.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// Probes until it returns `Ok`, at most `timeout` long. The probe's `Err` is
/// the state it saw instead; the last one is in the error.
pub async fn wait_until<T, S: Display>(
    what: &str,
    timeout: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, S>,
) -> Result<T, WaitError> {
    let start = Instant::now();
    let mut pause = BACK_OFF.0;
    let mut last = String::from("nothing: the first look did not end");
    loop {
        let left = timeout.saturating_sub(start.elapsed());
        match tokio::time::timeout(left.max(BACK_OFF.0), probe()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(seen)) => last = seen.to_string(),
            Err(_elapsed) => {}
        }
        if start.elapsed() >= timeout {
            let what = what.to_owned();
            return Err(WaitError {
                what,
                waited: timeout,
                last,
            });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(BACK_OFF.1);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn returns_what_the_probe_found() {
        let mut looks = 0;
        let found = wait_until("three looks", Duration::from_secs(5), async || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(looks) }
        });
        assert_eq!(found.await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn tells_the_last_state_seen() {
        let error = wait_until("rain", Duration::from_secs(1), async || Err::<(), _>("sunshine"));
        let text = error.await.unwrap_err().to_string();
        assert_eq!(text, "waited 1s for rain; last seen: sunshine");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_hangs_is_given_up() {
        let error = wait_until("an answer", Duration::from_secs(1), async || {
            std::future::pending::<Result<(), &str>>().await
        });
        assert!(error.await.unwrap_err().last.starts_with("nothing"));
    }
}
