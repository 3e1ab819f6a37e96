//! Owns entering a network namespace: one thread at a time, by `setns`.
//! Never changes the namespace of the caller's thread: what enters is always
//! a thread made for it. `Machine` and the fake internet's runtime drive it.

use std::fs::File;
use std::future::Future;

use nix::sched::{CloneFlags, setns};
use tokio::runtime;

use crate::claim;
use crate::error::{During, LabError};

/// Moves the calling thread into the namespace, for good. Only for threads
/// that were made for it.
pub(crate) fn join(namespace: &str) -> Result<(), LabError> {
    let path = claim::handle(namespace);
    let file = File::open(&path).during(format!("open {}", path.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).during(format!("enter {namespace}"))
}

/// Runs `work` on a thread inside the namespace and waits for it.
pub(crate) fn enter<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
    let inside = || join(namespace).map(|()| work());
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(namespace.to_owned());
        let thread = thread.spawn_scoped(scope, inside).during("start a thread")?;
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Like [`enter`], for a future: it runs on a runtime of its own on a thread
/// inside the namespace, so every socket it opens is in there.
pub(crate) async fn enter_async<T, F>(
    namespace: String,
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<T, LabError>
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let inside = move || {
        join(&namespace)?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        Ok(runtime.during("start a runtime")?.block_on(work()))
    };
    let (done, result) = tokio::sync::oneshot::channel();
    let thread = std::thread::spawn(move || {
        // The caller may have given up; then nobody wants the result.
        let _abandoned = done.send(inside());
    });
    match result.await {
        Ok(result) => result,
        Err(_died) => match thread.join() {
            Ok(()) => unreachable!("a thread that ends well has sent its result"),
            Err(panic) => std::panic::resume_unwind(panic),
        },
    }
}
