//! A network of one's own: never-dial addresses such as loopback can't stand for foreign servers.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// Runs a test in a fresh, unnamed network namespace whose loopback interface has these addresses too.
/// The namespace ends with the thread.
pub(crate) fn in_netns<F: Future<Output = ()>>(
    addresses: &[&str],
    test: impl FnOnce() -> F + Send + 'static,
) {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("the tests run as root");
        ip(&["link", "set", "lo", "up"]);
        for address in addresses {
            ip(&["address", "add", &address, "dev", "lo"]);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .expect("iproute2 is installed");
    assert!(
        output.status.success(),
        "ip {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
