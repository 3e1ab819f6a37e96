//! The bounds that the kernel puts on pipes: descriptors of the process, and pages of a user without
//! privileges. In a process of its own, since both are the process's.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, setresgid, setresuid};
use tidegate_proxy::relay::pipes::{Lent, PipePool};

/// The largest pipe that a user may ask for, by default.
const MEBIBYTE: usize = 1 << 20;

#[test]
fn a_pool_at_the_kernels_bounds_lends_nothing_or_less_and_recovers() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
    let pool = PipePool::new(8, MEBIBYTE);
    let taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(pool.take().is_none(), "EMFILE: the caller copies");
    assert_eq!(pool.made(), 0, "the place is free again");
    drop(taken);
    assert_eq!(pool.take().map(|pipe| pipe.capacity()), Some(MEBIBYTE));

    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let nobody = 65_534;
    setresgid(
        Gid::from_raw(nobody),
        Gid::from_raw(nobody),
        Gid::from_raw(nobody),
    )
    .unwrap();
    setresuid(
        Uid::from_raw(nobody),
        Uid::from_raw(nobody),
        Uid::from_raw(nobody),
    )
    .unwrap();
    let soft: usize = std::fs::read_to_string("/proc/sys/fs/pipe-user-pages-soft")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let pool = PipePool::new(soft, MEBIBYTE);
    // A few more than fit into what the user may have in all.
    let lent: Vec<Lent> = (0..soft * 4_096 / MEBIBYTE + 8)
        .map_while(|_| pool.take())
        .collect();
    let small = lent.iter().filter(|pipe| pipe.capacity() < MEBIBYTE).count();
    assert!(small >= 8, "EPERM: {small} of {} pipes are small", lent.len());
    assert!(
        lent.iter().all(|pipe| pipe.capacity() >= 4_096),
        "and still usable"
    );
}
