//! Tests of the journal: what a crash at any byte leaves, what damage does, and that it stays small.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use tidegate_control_wire::record::{BlockChange, BlockLayer, Change};

use super::*;

const START: Moment = Moment::from_millis(1_000_000);

fn later(seconds: u64) -> Moment {
    START.plus(Duration::from_secs(seconds))
}

fn at(generation: u64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + i64::try_from(generation).unwrap()).unwrap()
}

fn block(pattern: &str) -> Change {
    Change::Block(BlockChange {
        layer: BlockLayer::Deployment,
        add: vec![pattern.to_owned()],
        remove: Vec::new(),
    })
}

fn batch(reset: bool, generation: u64, changes: Vec<Change>) -> Batch {
    Batch {
        epoch: "one".into(),
        reset,
        changes,
        generation: Generation(generation),
        at: at(generation),
    }
}

/// A mirror with its journal.
struct Scene {
    folder: tempfile::TempDir,
    mirror: Mirror,
    journal: Journal,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::read(folder.path(), |_| panic!("nothing is there")).unwrap();
        Self {
            folder,
            mirror: Mirror::new(),
            journal,
        }
    }

    fn take(&mut self, batch: Batch) {
        self.take_at(batch, START);
    }

    fn take_at(&mut self, batch: Batch, now: Moment) {
        let mut news = News::default();
        news.add(&batch);
        self.mirror.apply(batch);
        self.journal.keep(news, now, || Snapshot::of(&self.mirror));
    }

    fn retry(&mut self, now: Moment) {
        self.journal
            .keep(News::default(), now, || Snapshot::of(&self.mirror));
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join(FILE)
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.file()).unwrap()
    }
}

/// What a state directory makes of a new gateway, and every batch on the way.
fn read(folder: &Path) -> Result<(Mirror, Vec<Batch>, Journal), JournalError> {
    let (mut mirror, mut batches) = (Mirror::new(), Vec::new());
    let journal = Journal::read(folder, |batch| {
        batches.push(batch.clone());
        mirror.apply(batch);
    })?;
    Ok((mirror, batches, journal))
}

/// The patterns that it blocks, in order.
fn holds(mirror: &Mirror) -> Vec<String> {
    let mut all = Vec::new();
    for change in mirror.snapshot() {
        let Change::Block(change) = change else {
            panic!("{change:?}");
        };
        all.extend(change.add);
    }
    all.sort();
    all
}

#[test]
fn a_new_gateway_finds_what_the_last_one_was_told() {
    let mut scene = Scene::new();
    scene.take(batch(true, 1, vec![block("a.test")]));
    scene.take(batch(false, 2, vec![block("b.test")]));
    scene.take(batch(false, 3, Vec::new()));
    scene.take(batch(false, 4, vec![block("c.test")]));
    let (mirror, batches, journal) = read(scene.folder.path()).unwrap();
    assert_eq!(holds(&mirror), holds(&scene.mirror));
    assert_eq!(mirror.resume(), scene.mirror.resume());
    assert_eq!(journal.newest(), at(4));
    assert_eq!(batches.len(), 3, "a batch without changes is not worth a write");
    let mode = std::fs::metadata(scene.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds digests of tokens");
}

#[test]
fn every_truncation_of_the_file_is_a_prefix_of_the_batches() {
    let mut scene = Scene::new();
    scene.take(batch(true, 1, vec![block("a.test"), block("é.test")]));
    scene.take(batch(false, 2, vec![block("b.test")]));
    scene.take(batch(false, 3, vec![block("c.test"), block("d.test")]));
    let (whole, all) = (scene.bytes(), read(scene.folder.path()).unwrap().1);
    let first = String::from_utf8_lossy(&whole)
        .find("\"kind\":\"block\"")
        .unwrap();
    let first = first
        + String::from_utf8_lossy(&whole[first..])
            .find("\"frame\":\"commit\"")
            .unwrap();
    let first = first + whole[first..].iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let mut seen = std::collections::BTreeSet::new();
    for length in 0..=whole.len() {
        std::fs::write(scene.file(), &whole[..length]).unwrap();
        let found = read(scene.folder.path());
        if length > 0 && length < first {
            // No crash leaves this: it is said to be damaged, and as good as nothing.
            assert!(found.is_err(), "cut at {length}");
            continue;
        }
        let (mut mirror, batches, mut journal) = found.unwrap();
        assert_eq!(batches, all[..batches.len()], "cut at {length}");
        seen.insert(batches.len());
        // And the next batch follows on what is left.
        let next = batch(mirror.resume().is_none(), 9, vec![block("next.test")]);
        let mut news = News::default();
        news.add(&next);
        mirror.apply(next);
        journal.keep(news, START, || Snapshot::of(&mirror));
        assert_eq!(journal.problem(), None);
        let (again, ..) = read(scene.folder.path()).unwrap();
        assert_eq!(holds(&again), holds(&mirror), "cut at {length}");
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[test]
fn a_tail_of_nonsense_was_a_crash_and_nonsense_in_front_of_a_batch_is_damage() {
    let mut scene = Scene::new();
    scene.take(batch(true, 1, vec![block("a.test")]));
    scene.take(batch(false, 2, vec![block("b.test")]));
    let whole = scene.bytes();
    for tail in [
        &b"\0\0\0\0"[..],
        b"\0\0\n\0\n",
        b"{\"frame\":\"change\"}\n",
        b"{\"frame\":\"beg",
    ] {
        std::fs::write(scene.file(), [&whole, tail].concat()).unwrap();
        let (mirror, batches, _) = read(scene.folder.path()).unwrap();
        assert_eq!(
            (batches.len(), mirror.generation()),
            (2, Generation(2)),
            "{tail:?}"
        );
        assert_eq!(scene.bytes(), whole, "the tail is cut off");
    }
    let second_line = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let mut damaged = whole.clone();
    damaged[second_line + 3] = 0xff;
    std::fs::write(scene.file(), &damaged).unwrap();
    match read(scene.folder.path()) {
        Err(JournalError::Damaged { line: 2, .. }) => {}
        other => panic!("{:?}", other.map(|(mirror, ..)| mirror)),
    }
    assert_eq!(scene.bytes(), damaged, "it is left for a person to look at");
    let begins_twice = [&whole[..], &whole[..second_line], &whole[second_line..]].concat();
    std::fs::write(scene.file(), begins_twice).unwrap();
    assert!(matches!(
        read(scene.folder.path()),
        Err(JournalError::Damaged { .. })
    ));
    for nonsense in [
        "not a journal\nat all\n",
        "not a journal",
        "\n",
        "{\"frame\":\"begin\"",
    ] {
        std::fs::write(scene.file(), nonsense).unwrap();
        assert!(
            matches!(
                read(scene.folder.path()),
                Err(JournalError::Damaged { line: 1, .. })
            ),
            "{nonsense:?}"
        );
    }
    std::fs::write(scene.file(), "").unwrap();
    assert!(read(scene.folder.path()).is_ok_and(|(mirror, ..)| !mirror.is_synced()));
}

#[test]
fn a_snapshot_takes_the_place_of_what_was_there() {
    let mut scene = Scene::new();
    scene.take(batch(true, 1, vec![block("a.test")]));
    scene.take(batch(false, 2, vec![block("b.test")]));
    scene.take(batch(true, 9, vec![block("z.test")]));
    let text = String::from_utf8(scene.bytes()).unwrap();
    assert!(text.contains("z.test") && !text.contains("a.test") && !text.contains("b.test"));
    let (mirror, ..) = read(scene.folder.path()).unwrap();
    assert_eq!(mirror.generation(), Generation(9));
}

#[test]
fn it_is_written_anew_when_it_has_grown_over_twice_its_snapshot() {
    let mut scene = Scene::new();
    let long = format!("{}.test", "x".repeat(60));
    let add = || vec![block(&long)];
    let remove = || {
        vec![Change::Block(BlockChange {
            layer: BlockLayer::Deployment,
            add: Vec::new(),
            remove: vec![long.clone(); 200],
        })]
    };
    scene.take(batch(true, 1, add()));
    let (mut most, mut shrank) = (0, 0);
    let mut last = scene.bytes().len();
    for generation in 2..400 {
        let changes = if generation % 2 == 0 { remove() } else { add() };
        scene.take(batch(false, generation, changes));
        let length = std::fs::metadata(scene.file()).unwrap().len() as usize;
        shrank += usize::from(length < last);
        (last, most) = (length, most.max(length));
    }
    assert!(
        shrank > 0 && most < 2 << 20,
        "{shrank} times, {most} bytes at most"
    );
    let (mirror, ..) = read(scene.folder.path()).unwrap();
    assert_eq!(holds(&mirror), holds(&scene.mirror));
    assert_eq!(mirror.generation(), Generation(399));
}

#[test]
fn a_disk_that_refuses_is_said_and_tried_again_and_leaves_no_gap() {
    let mut scene = Scene::new();
    scene.take(batch(true, 1, vec![block("a.test")]));
    // The folder is gone, so nothing can be written anew; root may write anywhere else.
    let (folder, aside) = (
        scene.folder.path().to_owned(),
        scene.folder.path().with_extension("aside"),
    );
    std::fs::rename(&folder, &aside).unwrap();
    scene.take(batch(true, 2, vec![block("b.test")]));
    let problem = scene.journal.problem().unwrap().to_owned();
    assert!(
        problem.starts_with("can't write ") && problem.contains(FILE),
        "{problem}"
    );
    std::fs::rename(&aside, &folder).unwrap();
    scene.take_at(batch(false, 3, vec![block("c.test")]), later(4));
    assert!(scene.journal.problem().is_some(), "too soon to try again");
    let (mirror, ..) = read(scene.folder.path()).unwrap();
    assert_eq!(mirror.generation(), Generation(1), "the older state is whole");
    scene.retry(later(6));
    assert_eq!(scene.journal.problem(), None);
    let (mirror, _, journal) = read(scene.folder.path()).unwrap();
    assert_eq!(holds(&mirror), holds(&scene.mirror));
    assert_eq!((mirror.generation(), journal.newest()), (Generation(3), at(3)));
    let before = scene.bytes();
    scene.retry(later(60));
    assert_eq!(scene.bytes(), before, "nothing is written when nothing is new");
}

#[test]
fn half_a_batch_on_disk_is_not_followed_by_another() {
    let mut scene = Scene::new();
    scene.take(batch(true, 1, vec![block("a.test")]));
    // As after a write that the disk took only half of: what the journal appends to is not writable any more.
    scene.journal.open = Some(File::open(scene.file()).unwrap());
    scene.take(batch(false, 2, vec![block("b.test")]));
    assert!(scene.journal.problem().is_some());
    scene.take_at(batch(false, 3, vec![block("c.test")]), later(6));
    assert_eq!(scene.journal.problem(), None);
    let (mirror, batches, _) = read(scene.folder.path()).unwrap();
    assert_eq!(batches.len(), 1, "everything was written anew");
    assert_eq!(holds(&mirror), holds(&scene.mirror));
}

#[test]
fn several_batches_are_kept_as_they_came() {
    let mut scene = Scene::new();
    scene.take(batch(true, 1, vec![block("a.test")]));
    let mut news = News::default();
    for generation in 2..5 {
        let next = batch(false, generation, vec![block(&format!("{generation}.test"))]);
        news.add(&next);
        scene.mirror.apply(next);
    }
    let Scene { journal, mirror, .. } = &mut scene;
    journal.keep(news, START, || Snapshot::of(mirror));
    let (mirror, batches, _) = read(scene.folder.path()).unwrap();
    assert_eq!(batches.len(), 4);
    assert_eq!(holds(&mirror), holds(&scene.mirror));
}

#[test]
fn what_waits_for_a_slow_disk_is_bounded() {
    let mut scene = Scene::new();
    scene.take(batch(true, 1, vec![block("a.test")]));
    let pattern = format!("{}.test", "x".repeat(60));
    let mut news = News::default();
    let next = batch(false, 2, vec![block(&pattern); 1_000]);
    for _ in 0..=MAX_WAITING / 100_000 {
        news.add(&next);
        assert!(news.lines.len() <= MAX_WAITING + 200_000);
    }
    assert!(
        news.reset && news.lines.is_empty(),
        "everything is written instead"
    );
    scene.mirror.apply(next);
    let Scene { journal, mirror, .. } = &mut scene;
    journal.keep(news, START, || Snapshot::of(mirror));
    assert_eq!(holds(&read(scene.folder.path()).unwrap().0), holds(&scene.mirror));
}

proptest! {
    #[test]
    fn damage_is_never_taken_for_another_history(
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut scene = Scene::new();
        scene.take(batch(true, 1, vec![block("a.test")]));
        scene.take(batch(false, 2, vec![block("b.test")]));
        let whole = scene.bytes();
        let mut damaged = whole.clone();
        let place = place.index(whole.len());
        damaged[place] = byte;
        std::fs::write(scene.file(), &damaged).unwrap();
        // Either the damage is seen, or it is in the text of a record: then every batch is still one.
        if let Ok((_, batches, _)) = read(scene.folder.path()) {
            prop_assert!(batches.len() <= 2);
            prop_assert!(batches.first().is_none_or(|first| first.reset));
            prop_assert!(batches.iter().skip(1).all(|next| !next.reset));
        }
    }
}
