//! What both hooks share: asking within a time that was given, and asking again while it may help.
//!
//! Owns the deadline and the pauses. Everything that is asked is safe to ask twice: the gateway answers a job that is
//! registered already with that job.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::api::CallError;

/// The first pause between two tries; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest one, whatever a server asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Until when a hook tries.
#[derive(Clone, Debug)]
pub(super) struct Deadline {
    until: Instant,
    server: String,
}

impl Deadline {
    /// From now on, for asking this server.
    pub(super) fn after(patience: Duration, server: &str) -> Self {
        Self {
            until: Instant::now() + patience,
            server: server.to_owned(),
        }
    }

    /// Half of what is left.
    pub(super) fn half(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now()) / 2
    }

    /// Asks until the answer is one that asking again does not change, or the time is over; then the last error counts.
    pub(super) async fn ask<T>(
        &self,
        mut ask: impl AsyncFnMut() -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let mut pause = FIRST_PAUSE;
        let mut last = None;
        loop {
            let error = match timeout_at(self.until, ask()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => return Err(last.unwrap_or_else(|| self.too_late())),
            };
            let Some(wait) = error.temporary() else {
                return Err(error);
            };
            let next = Instant::now() + pause.max(Duration::from_secs(wait)).min(LONGEST_PAUSE);
            if next >= self.until {
                return Err(error);
            }
            sleep_until(next).await;
            pause *= 2;
            last = Some(error);
        }
    }

    fn too_late(&self) -> CallError {
        CallError::Unreachable {
            server: self.server.clone(),
            reason: "no answer in time".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn away() -> CallError {
        CallError::Unreachable {
            server: "https://gw.test/".into(),
            reason: "connection refused".into(),
        }
    }

    fn five() -> Deadline {
        Deadline::after(Duration::from_secs(5), "https://gw.test/")
    }

    fn paused() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
    }

    #[test]
    fn a_gateway_that_comes_back_in_time_is_asked_again() {
        paused().block_on(async {
            let mut asked = 0;
            let answer = five()
                .ask(async || {
                    asked += 1;
                    if asked < 4 { Err(away()) } else { Ok(asked) }
                })
                .await;
            assert_eq!(answer.unwrap(), 4);
        });
    }

    #[test]
    fn a_gateway_that_stays_away_is_given_up_within_the_deadline() {
        paused().block_on(async {
            let begun = Instant::now();
            let error = five().ask(async || Err::<(), _>(away())).await.unwrap_err();
            assert!(error.to_string().contains("refused"), "{error}");
            assert!(begun.elapsed() <= Duration::from_secs(5));
            let error = five()
                .ask(async || std::future::pending::<Result<(), CallError>>().await)
                .await
                .unwrap_err();
            assert!(error.to_string().contains("in time"), "{error}");
            assert!(begun.elapsed() <= Duration::from_secs(11));
        });
    }

    #[test]
    fn an_answer_that_will_not_change_is_not_asked_for_twice() {
        paused().block_on(async {
            let mut asked = 0;
            let strange = |reason: &str| CallError::Strange {
                server: "https://gw.test/".into(),
                reason: reason.into(),
            };
            let answer = five()
                .ask(async || {
                    asked += 1;
                    Err::<(), _>(strange("no JSON"))
                })
                .await;
            answer.unwrap_err();
            assert_eq!(asked, 1);
        });
    }
}
