//! What a crash, a full disk or somebody's hand does to the folder.

use std::fs;
use std::path::PathBuf;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::*;

fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join(FOLDER)
}

/// A folder with three refusals in it, left as by a kill; the bytes of their file.
fn left() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let spool = opened(dir.path(), ROOMY);
    let names = ["a.test", "b.test", "c.test"];
    append(&spool, &names.map(|name| refusal("job_1", name)));
    drop(spool);
    let file = folder(dir.path()).join(&segments(dir.path())[0]);
    let bytes = fs::read(&file).unwrap();
    (dir, file, bytes)
}

fn names(state_dir: &Path) -> Vec<String> {
    let spool = opened(state_dir, ROOMY);
    let read = next(&spool, Lane::Refusals);
    read.map(|read| read.names().into_iter().map(str::to_owned).collect())
        .unwrap_or_default()
}

#[test]
fn a_line_that_a_kill_cut_off_is_cut_away_and_what_follows_is_whole() {
    let (dir, file, bytes) = left();
    let ends: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').collect();
    let cuts = (0..bytes.len())
        .step_by(37)
        .chain(ends.iter().flat_map(|end| [*end, end + 1]));
    for cut in cuts {
        fs::write(&file, &bytes[..cut]).unwrap();
        let whole = ends.iter().filter(|end| **end < cut).count();
        assert_eq!(
            names(dir.path()),
            ["a.test", "b.test", "c.test"][..whole],
            "cut at {cut}"
        );
        let spool = opened(dir.path(), ROOMY);
        append(&spool, &[refusal("job_1", "d.test")]);
        assert_eq!(spool.depth().dropped, Losses::default());
        drop(spool);
        assert_eq!(names(dir.path()).last().unwrap(), "d.test", "cut at {cut}");
        for name in segments(dir.path()) {
            fs::remove_file(folder(dir.path()).join(name)).unwrap();
        }
    }
}

#[test]
fn a_damaged_file_is_set_aside_and_what_is_sound_in_it_kept() {
    let (dir, file, mut bytes) = left();
    let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    bytes[second..second + 20].fill(0);
    fs::write(&file, &bytes).unwrap();
    let spool = opened(dir.path(), ROOMY);
    assert_eq!(
        next(&spool, Lane::Refusals).unwrap().names(),
        ["a.test", "c.test"]
    );
    assert_eq!(spool.depth().dropped.refusals, 1);
    let aside = folder(dir.path()).join("damaged").join(file.file_name().unwrap());
    assert_eq!(fs::read(aside).unwrap(), bytes);
}

#[test]
fn damage_that_comes_while_it_runs_blocks_nobody() {
    let (dir, file, mut bytes) = left();
    let spool = opened(dir.path(), ROOMY);
    bytes[..20].fill(b'x');
    fs::write(&file, &bytes).unwrap();
    assert_eq!(
        next(&spool, Lane::Refusals).unwrap().names(),
        ["b.test", "c.test"]
    );
    assert_eq!(spool.depth().dropped.refusals, 1);
    spool.failed(Lane::Refusals);
    fs::remove_file(&file).unwrap();
    append(&spool, &[refusal("job_1", "d.test")]);
    let read = next(&spool, Lane::Refusals).unwrap();
    assert_eq!((read.names(), read.head.dropped), (vec!["d.test"], 3));
}

/// Where the replacement can't be written stands for a crash before it was: what is sound must be there still.
#[test]
fn a_mending_that_was_cut_short_costs_nothing_that_is_sound() {
    let (dir, file, mut bytes) = left();
    let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    bytes[second..second + 20].fill(0);
    fs::write(&file, &bytes).unwrap();
    fs::create_dir(file.with_extension("new")).unwrap();
    let spool = Spool::new(dir.path(), ROOMY);
    spool.open(at(0));
    assert!(spool.depth().disk_error.is_some());
    drop(spool);
    fs::remove_dir(file.with_extension("new")).unwrap();
    let spool = opened(dir.path(), ROOMY);
    let read = next(&spool, Lane::Refusals).expect("what is sound");
    assert_eq!(read.names(), ["a.test", "c.test"]);
    assert_eq!(read.head.dropped, 1);
    let aside = fs::read_dir(folder(dir.path()).join("damaged")).unwrap();
    assert_eq!(aside.count(), 1);
}

#[test]
fn what_was_mended_counts_though_the_folder_could_not_be_opened_then() {
    let dir = tempfile::tempdir().unwrap();
    let spool = opened(dir.path(), ROOMY);
    append(&spool, &["a.test", "b.test"].map(|name| refusal("job_1", name)));
    append(&spool, &["c.test", "d.test"].map(|name| permit("job_1", name)));
    drop(spool);
    let [permits, refusals] = segments(dir.path()).try_into().unwrap();
    let [permits, refusals] = [permits, refusals].map(|name| folder(dir.path()).join(name));
    for file in [&permits, &refusals] {
        let mut bytes = fs::read(file).unwrap();
        bytes[..20].fill(b'x');
        fs::write(file, bytes).unwrap();
    }
    fs::create_dir(permits.with_extension("new")).unwrap();
    let spool = Spool::new(dir.path(), ROOMY);
    spool.open(at(0));
    assert!(spool.depth().disk_error.is_some());
    fs::remove_dir(permits.with_extension("new")).unwrap();
    spool.open(at(2));
    let dropped = spool.depth().dropped;
    assert_eq!((dropped.refusals, dropped.permits), (1, 1));
    assert_eq!(next(&spool, Lane::Refusals).unwrap().names(), ["b.test"]);
    assert_eq!(next(&spool, Lane::Permits).unwrap().names(), ["d.test"]);
}

/// A folder with refusals in several segments; how many lie in the first.
fn several() -> (tempfile::TempDir, u64) {
    let dir = tempfile::tempdir().unwrap();
    let spool = opened(dir.path(), MIN_BYTES);
    let all: Vec<_> = (0..30).map(|n| refusal("job_1", &format!("n{n}.test"))).collect();
    append(&spool, &all);
    spool.close();
    let names = segments(dir.path());
    assert!(names.len() > 2, "{names:?}");
    let first = fs::read(folder(dir.path()).join(&names[0])).unwrap();
    let lines = entries(&first).len();
    (dir, lines as u64)
}

#[test]
fn what_was_stored_is_not_lost_with_its_file() {
    let (dir, in_first) = several();
    let spool = opened(dir.path(), MIN_BYTES);
    stored(&spool, &next_of(&spool, Lane::Refusals, 2).unwrap());
    fs::remove_file(folder(dir.path()).join(&segments(dir.path())[0])).unwrap();
    let read = next(&spool, Lane::Refusals).unwrap();
    assert_eq!(read.seqs()[0], in_first + 1);
    assert_eq!(read.head.dropped, in_first - 2);
}

#[test]
fn a_file_that_can_not_be_read_at_start_costs_itself_and_no_more() {
    let (dir, in_first) = several();
    let first = folder(dir.path()).join(&segments(dir.path())[0]);
    // As long as the state says, and longer than any segment.
    let long = (64 << 20) + 1;
    fs::File::options()
        .write(true)
        .open(&first)
        .unwrap()
        .set_len(long)
        .unwrap();
    let state = folder(dir.path()).join("state.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
    json["refusals"]["segments"][0]["bytes"] = long.into();
    fs::write(&state, json.to_string()).unwrap();
    let spool = opened(dir.path(), MIN_BYTES);
    let read = next(&spool, Lane::Refusals).unwrap();
    assert_eq!(read.seqs()[0], in_first + 1);
    assert_eq!(read.head.dropped, in_first);
}

#[test]
fn a_folder_full_of_nonsense_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let spool = folder(dir.path());
    fs::create_dir_all(spool.join("refusals-00000000000000000004.ndjson")).unwrap();
    fs::write(spool.join("refusals-00000000000000000009.ndjson"), "[]\n").unwrap();
    fs::write(spool.join("permits-7.ndjson"), "not one of ours").unwrap();
    fs::write(spool.join("permits-00000000000000000001.new"), "half").unwrap();
    fs::write(spool.join("state.json"), "{\"version\":").unwrap();
    let spool = opened(dir.path(), ROOMY);
    append(&spool, &[refusal("job_1", "a.test"), permit("job_1", "b.test")]);
    assert_eq!(next(&spool, Lane::Refusals).unwrap().names(), ["a.test"]);
    assert_eq!(next(&spool, Lane::Permits).unwrap().names(), ["b.test"]);
    assert_eq!(
        spool.depth().dropped.refusals,
        2,
        "of each damaged file at least one is lost"
    );
    let aside = fs::read_dir(folder(dir.path()).join("damaged")).unwrap().count();
    assert_eq!(aside, 3);
    let half = folder(dir.path()).join("permits-00000000000000000001.new");
    assert!(!half.exists(), "what a crash left half written goes");
    assert!(
        folder(dir.path()).join("permits-7.ndjson").exists(),
        "what is not ours is left alone"
    );
}

#[test]
fn without_its_state_the_spool_is_another_one_and_keeps_its_events() {
    let (dir, _, _) = left();
    let before = next(&opened(dir.path(), ROOMY), Lane::Refusals).unwrap();
    for text in [
        "nonsense",
        "{\"version\":2,\"id\":\"x\",\"refusals\":{\"reserved\":0,\"stored\":0,\"dropped\":0},\"permits\":{\"reserved\":0,\"stored\":0,\"dropped\":0}}",
    ] {
        fs::write(folder(dir.path()).join("state.json"), text).unwrap();
        let after = next(&opened(dir.path(), ROOMY), Lane::Refusals).unwrap();
        assert_eq!(after.names(), before.names());
        assert_ne!(
            after.head.spool, before.head.spool,
            "its numbers mean something else to the store"
        );
    }
}

#[test]
fn joined_files_of_which_a_kill_left_both_count_once() {
    let (dir, file, bytes) = left();
    let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let other = folder(dir.path()).join("refusals-00000000000000000002.ndjson");
    fs::write(&other, &bytes[second..]).unwrap();
    assert_eq!(names(dir.path()), ["a.test", "b.test", "c.test"]);
    assert!(!other.exists() && file.exists());
}

#[test]
fn a_folder_that_can_not_be_used_costs_events_only_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(folder(dir.path()), "in the way").unwrap();
    let spool = Spool::new(dir.path(), ROOMY);
    spool.open(at(0));
    append(&spool, &[refusal("job_1", "a.test"), permit("job_1", "b.test")]);
    let depth = spool.depth();
    assert_eq!((depth.dropped.refusals, depth.dropped.permits), (1, 1));
    assert!(depth.disk_error.is_some() && depth.degraded().is_some());
    fs::remove_file(folder(dir.path())).unwrap();
    let late = Encoded::of(&[refusal("job_1", "c.test")]);
    spool.append(&late, &[], Losses::default(), at(2));
    let read = next(&spool, Lane::Refusals).unwrap();
    assert_eq!((read.names(), read.head.dropped), (vec!["c.test"], 1));
    assert_eq!(spool.depth().disk_error, None);
}

/// A disk of 256 KiB below a spool that may have more. In a mount namespace of this thread's own.
#[test]
fn a_full_disk_costs_what_does_not_fit_and_leaves_whole_lines() {
    std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )
        .unwrap();
        let dir = tempfile::tempdir().unwrap();
        mount(
            Some("spool"),
            dir.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            Some("size=256k"),
        )
        .unwrap();
        let spool = opened(dir.path(), ROOMY);
        let mut taken = 0;
        for n in 0..60 {
            let events: Vec<_> = (0..20)
                .map(|m| refusal("job_1", &format!("n{n}.m{m}.test")))
                .collect();
            append(&spool, &events);
            taken += 20;
        }
        let depth = spool.depth();
        assert!(
            depth.disk_error.is_some() && depth.dropped.refusals > 0,
            "{depth:?}"
        );
        assert_eq!(depth.entries + depth.dropped.refusals, taken);
        // What is stored makes room on the disk.
        let read = next(&spool, Lane::Refusals).unwrap();
        let left = stored(&spool, &read);
        assert_eq!(left + read.batch.entries, depth.entries);
        drop(spool);
        let again = opened(dir.path(), ROOMY);
        assert_eq!(again.depth().dropped, depth.dropped, "told after a kill too");
        drop(again);
        umount2(dir.path(), MntFlags::MNT_DETACH).unwrap();
    })
    .join()
    .unwrap();
}

#[test]
fn numbers_that_no_spool_comes_to_are_damage_and_none_to_go_on_behind() {
    let (dir, file, bytes) = left();
    let last = String::from_utf8(bytes).unwrap();
    let last = last.lines().last().unwrap();
    let (_, rest) = last.split_once(',').unwrap();
    let far = format!("{{\"seq\":{},{rest}\n", u64::MAX);
    fs::write(&file, far).unwrap();
    let spool = opened(dir.path(), ROOMY);
    assert_eq!(spool.depth().dropped.refusals, 1);
    append(&spool, &[refusal("job_1", "d.test")]);
    drop(spool);
    assert_eq!(names(dir.path()), ["d.test"]);
    let state = folder(dir.path()).join("state.json");
    let text = fs::read_to_string(&state).unwrap();
    let mut json: Value = serde_json::from_str(&text).unwrap();
    json["refusals"]["reserved"] = u64::MAX.into();
    fs::write(&state, json.to_string()).unwrap();
    let spool = opened(dir.path(), ROOMY);
    append(&spool, &[refusal("job_1", "e.test")]);
    drop(spool);
    assert_eq!(names(dir.path()), ["d.test", "e.test"]);
}
