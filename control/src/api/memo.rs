//! Counts over large tables, kept for a while, so that a page does not wait for each of them.
//!
//! Owns for how long: what costs little is never kept, and what is kept is made anew beside who looks at it. Who changes
//! what is counted says so ([`Memo::forget`]), and is shown the new counts at once.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::time::Instant;

/// What is made faster than this is made each time.
const CHEAP: Duration = Duration::from_millis(10);
/// Kept for so many times what it cost, then made anew while it is still shown.
const WORTH: u32 = 50;
/// What is older is not shown.
const STALE: Duration = Duration::from_secs(30);
/// Different questions.
const MOST: usize = 256;

/// Answers by question.
#[derive(Debug)]
pub(super) struct Memo<T> {
    kept: Arc<Mutex<Kept<T>>>,
}

#[derive(Debug)]
struct Kept<T> {
    answers: HashMap<String, Answer<T>>,
    /// Rises with each change: an answer that was begun before one is not kept.
    changes: u64,
}

#[derive(Clone, Debug)]
struct Answer<T> {
    value: T,
    at: Instant,
    cost: Duration,
    /// Somebody makes it anew.
    making: bool,
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        let kept = Kept {
            answers: HashMap::new(),
            changes: 0,
        };
        Self {
            kept: Arc::new(Mutex::new(kept)),
        }
    }
}

impl<T: Clone + Send + 'static> Memo<T> {
    /// The answer to a question: one that is kept, else made by `make`. An error is not kept.
    pub(super) async fn get<E, F>(&self, question: String, make: F) -> Result<T, E>
    where
        E: Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let now = Instant::now();
        let shown = {
            let mut kept = self.kept.lock();
            let fresh = kept.answers.get_mut(&question);
            fresh
                .filter(|answer| now.duration_since(answer.at) < STALE)
                .map(|answer| {
                    let is_old = now.duration_since(answer.at) > answer.cost.saturating_mul(WORTH);
                    let again = is_old && !answer.making;
                    answer.making |= again;
                    (answer.value.clone(), again)
                })
        };
        let kept = Arc::clone(&self.kept);
        match shown {
            Some((value, false)) => Ok(value),
            Some((value, true)) => {
                tokio::spawn(made(kept, question, make));
                Ok(value)
            }
            None => made(kept, question, make).await,
        }
    }

    /// What is counted became another.
    pub(super) fn forget(&self) {
        let mut kept = self.kept.lock();
        kept.changes += 1;
        kept.answers.clear();
    }
}

async fn made<T: Clone, E>(
    kept: Arc<Mutex<Kept<T>>>,
    question: String,
    make: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let (begun, changes) = (Instant::now(), kept.lock().changes);
    let made = make.await;
    let cost = begun.elapsed();
    let mut kept = kept.lock();
    match &made {
        Ok(value) if cost >= CHEAP && kept.changes == changes => {
            if kept.answers.len() >= MOST && !kept.answers.contains_key(&question) {
                kept.answers.clear();
            }
            let answer = Answer {
                value: value.clone(),
                at: begun,
                cost,
                making: false,
            };
            kept.answers.insert(question, answer);
        }
        Ok(_) | Err(_) => {
            kept.answers.remove(&question);
        }
    }
    made
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::time::{advance, sleep};

    use super::*;

    /// Counts how often it was asked.
    #[derive(Clone, Default)]
    struct Source(Arc<AtomicU64>);

    impl Source {
        async fn count(self, takes: Duration) -> Result<u64, ()> {
            sleep(takes).await;
            Ok(self.0.fetch_add(1, Ordering::SeqCst) + 1)
        }
    }

    async fn ask(memo: &Memo<u64>, source: &Source, takes: u64) -> u64 {
        let make = source.clone().count(Duration::from_millis(takes));
        memo.get("all".into(), make).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_costs_little_is_made_each_time() {
        let (memo, source) = (Memo::default(), Source::default());
        assert_eq!(
            (ask(&memo, &source, 9).await, ask(&memo, &source, 9).await),
            (1, 2)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_costs_much_is_kept_and_made_anew_beside_who_looks() {
        let (memo, source) = (Memo::default(), Source::default());
        assert_eq!(
            (ask(&memo, &source, 100).await, ask(&memo, &source, 100).await),
            (1, 1)
        );
        advance(Duration::from_secs(6)).await;
        let before = Instant::now();
        assert_eq!(
            (ask(&memo, &source, 100).await, ask(&memo, &source, 100).await),
            (1, 1)
        );
        assert_eq!(before, Instant::now(), "nobody waited");
        sleep(Duration::from_millis(200)).await;
        assert_eq!(
            (ask(&memo, &source, 100).await, source.0.load(Ordering::SeqCst)),
            (2, 2)
        );
        advance(STALE).await;
        assert_eq!(ask(&memo, &source, 100).await, 3, "too old to be shown");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_seen_at_once_and_by_who_asked_before_it() {
        let (memo, source) = (Memo::default(), Source::default());
        assert_eq!(ask(&memo, &source, 100).await, 1);
        memo.forget();
        assert_eq!(ask(&memo, &source, 100).await, 2);
        memo.forget();
        let (asked, ()) = tokio::join!(ask(&memo, &source, 100), async {
            sleep(Duration::from_millis(50)).await;
            memo.forget();
        });
        assert_eq!(asked, 3);
        assert_eq!(
            ask(&memo, &source, 100).await,
            4,
            "what was counted before is not kept"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn questions_are_bounded_and_errors_are_not_kept() {
        let memo = Memo::<u64>::default();
        let slow = |wrong: bool| async move {
            sleep(Duration::from_millis(20)).await;
            if wrong { Err(()) } else { Ok(1) }
        };
        for n in 0..=MOST {
            memo.get(n.to_string(), slow(false)).await.unwrap();
        }
        assert!(memo.kept.lock().answers.len() <= MOST);
        memo.get("wrong".into(), slow(true)).await.unwrap_err();
        assert!(!memo.kept.lock().answers.contains_key("wrong"));
    }
}
