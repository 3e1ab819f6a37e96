//! The futures of one HTTP/2 connection, run by the flow's own task: they borrow from the flow and end with
//! it, however it ends. Owns nothing else. Driven by [`super::serve`].

use std::pin::Pin;
use std::sync::{Arc, Weak};

use futures_util::stream::{FuturesUnordered, StreamExt};
use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio::sync::Notify;

type Task<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Runs futures until it is dropped. How many there can be is bounded by the streams of the connections that
/// spawn them.
#[derive(Default)]
pub(super) struct Tasks<'a> {
    queue: Arc<Queue<'a>>,
    running: FuturesUnordered<Task<'a>>,
}

#[derive(Default)]
struct Queue<'a> {
    fresh: Mutex<Vec<Task<'a>>>,
    more: Notify,
}

/// Hands futures over. Holds the queue weakly, because queued futures hold spawners.
#[derive(Clone)]
pub(super) struct Spawner<'a>(Weak<Queue<'a>>);

impl<'a> Tasks<'a> {
    pub(super) fn spawner(&self) -> Spawner<'a> {
        Spawner(Arc::downgrade(&self.queue))
    }

    /// Runs what is spawned; never returns.
    pub(super) async fn run(&mut self) {
        loop {
            self.running.extend(std::mem::take(&mut *self.queue.fresh.lock()));
            tokio::select! {
                () = self.queue.more.notified() => {}
                Some(()) = self.running.next() => {}
            }
        }
    }
}

impl<'a, F: Future<Output = ()> + Send + 'a> Executor<F> for Spawner<'a> {
    fn execute(&self, future: F) {
        if let Some(queue) = self.0.upgrade() {
            queue.fresh.lock().push(Box::pin(future));
            queue.more.notify_one();
        }
    }
}
