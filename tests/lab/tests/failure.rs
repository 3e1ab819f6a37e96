//! Shows that a build that fails half-way removes what it had made. Alone in
//! its binary: it looks for traces of every lab of this process.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use tidegate_lab::{Lab, Site};

#[test]
fn a_build_that_fails_half_way_leaves_nothing() {
    // Nobody in the lab has this address, so the last step of all fails.
    let stranger = Site::new("stranger.test", ["100.64.0.1".parse().unwrap()]);
    let error = Lab::builder().site(stranger).build().unwrap_err();
    assert!(error.to_string().contains("100.64.0.1:443"), "{error}");
    let pid = std::process::id();
    let marks = [format!("tg-{pid}-"), format!("{pid}-")];
    for dir in ["/run/netns", "/etc/netns", "/run/tidegate-lab"] {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap();
            assert!(
                !marks.iter().any(|mark| name.starts_with(mark)),
                "{dir}/{name} is left"
            );
        }
    }
}
