//! Keeps the documents true: every test that `tests/e2e/README.md` and `ARCHITECTURE.md` name exists, every row names a
//! test or says why none, and what the README tells a reader to write is accepted.
//!
//! Owns the notation of those files. A code span `FILE::test` names the file by the end of its path, without `.rs` or
//! `.mjs`; `::test` alone means the file named last. Reads sources as text; never runs or judges a test.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Finds the tests of a file's text.
type Reader = fn(&str) -> BTreeSet<String>;

/// Where the repository begins.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

/// Every test of the tree: its file, as a path from the root without its extension, and its name.
fn tests() -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
                continue;
            }
            for (extension, names) in [(".rs", marked as Reader), (".mjs", scenarios)] {
                let Some(stem) = name.strip_suffix(extension) else {
                    continue;
                };
                let at = path.with_file_name(stem);
                let at = at.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                found.insert(at, names(&fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

/// The functions that stand below a test attribute, those inside of `proptest!` included.
fn marked(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut marked = false;
    for line in source.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        }
        let Some(rest) = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ") else {
            continue;
        };
        if std::mem::take(&mut marked) {
            names.extend(rest.split('(').next().map(str::to_owned));
        }
    }
    names
}

/// The scenarios of the browser tier: what a module exports to be run.
fn scenarios(source: &str) -> BTreeSet<String> {
    let exported = source
        .lines()
        .filter_map(|line| line.strip_prefix("export async function "));
    exported
        .filter_map(|rest| rest.split('(').next().map(str::to_owned))
        .collect()
}

/// The code spans of a line.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// What the file names: line number, file (the end of its path) and test.
fn named(text: &str) -> Vec<(usize, String, String)> {
    let mut file = String::new();
    let mut all = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for (before, test) in spans(line).filter_map(|span| span.rsplit_once("::")) {
            // A command line or a module's name.
            if test.is_empty() || before.contains(' ') {
                continue;
            }
            if !before.is_empty() {
                before.clone_into(&mut file);
            }
            all.push((index + 1, file.clone(), test.to_owned()));
        }
    }
    all
}

fn matrix() -> String {
    fs::read_to_string(root().join("tests/e2e/README.md")).unwrap()
}

#[test]
fn every_named_test_exists() {
    let tests = tests();
    let mut wrong = Vec::new();
    for document in ["tests/e2e/README.md", "ARCHITECTURE.md"] {
        for (line, file, test) in named(&fs::read_to_string(root().join(document)).unwrap()) {
            if let Err(what) = find(&tests, &file, &test) {
                wrong.push(format!("{document}, line {line}: {what}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_scenario_of_the_browser_has_its_row() {
    let listed: BTreeSet<_> = named(&matrix())
        .into_iter()
        .map(|(_, file, test)| (file, test))
        .collect();
    let mut missing = Vec::new();
    for (path, names) in tests() {
        let Some(file) = path
            .strip_prefix("tests/browser/")
            .filter(|file| file.starts_with("scenarios/"))
        else {
            continue;
        };
        let unlisted = names
            .into_iter()
            .filter(|name| !listed.contains(&(file.to_owned(), name.clone())));
        missing.extend(unlisted.map(|name| format!("{file}::{name}")));
    }
    assert!(
        missing.is_empty(),
        "no row of tests/e2e/README.md names {missing:?}"
    );
}

/// One file whose path ends so, and the test in it.
fn find(tests: &BTreeMap<String, BTreeSet<String>>, file: &str, test: &str) -> Result<(), String> {
    let ending = format!("/{file}");
    let mut files = tests
        .iter()
        .filter(|(path, _)| format!("/{path}").ends_with(&ending));
    match (files.next(), files.next()) {
        (Some((_, names)), None) if names.contains(test) => Ok(()),
        (Some(_), None) => Err(format!("{file}.rs has no test {test}")),
        (None, _) => Err(format!("there is no file {file}.rs")),
        (Some((one, _)), Some((other, _))) => Err(format!("{file} is {one} and {other}")),
    }
}

/// The indented block of the project's README that begins with this line.
fn block(first: &str) -> String {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let lines = text
        .lines()
        .skip_while(|line| line.trim_start() != first || !line.starts_with("    "));
    lines
        .map_while(|line| line.strip_prefix("    "))
        .fold(String::new(), |all, line| all + line + "\n")
}

/// Its policy has no remark, and its configuration is read: `status` fails only because nobody answers.
#[test]
fn what_the_readme_says_to_write_is_accepted() {
    let folder = std::env::temp_dir().join(format!("tidegate-readme-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let run = |words: &[&str], file: &str, text: String| {
        assert!(text.lines().count() > 3, "the README has another block: {text}");
        let path = folder.join(file);
        fs::write(&path, text).unwrap();
        std::process::Command::new(tidegate_e2e::tidegate())
            .args(words)
            .arg(path)
            .output()
            .unwrap()
    };
    let policy = run(&["check", "--strict"], "ci.yaml", block("egress-policy: block"));
    assert_eq!(policy.status.code(), Some(0), "{policy:?}");
    let state = format!("  state-dir: {}\n", folder.display());
    let config = run(
        &["status", "--config"],
        "tidegate.yaml",
        block("version: 1") + &state,
    );
    assert_eq!(config.status.code(), Some(1), "{config:?}");
    assert!(
        !String::from_utf8_lossy(&config.stderr).contains("tidegate.yaml"),
        "{config:?}"
    );
    fs::remove_dir_all(&folder).unwrap();
}

/// The last cell of a row is what shows it: a test, or why this version has none.
#[test]
fn every_row_names_what_shows_it() {
    let text = matrix();
    let bare: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.contains("| shown by"))
        .filter(|line| {
            let last = line.trim_end_matches(['|', ' ']).rsplit(" | ").next().unwrap();
            !last.contains("::") && !last.contains("`make ") && !last.contains("out of scope:")
        })
        .collect();
    assert!(bare.is_empty(), "{}", bare.join("\n"));
}

/// Every id of the list of evasions stands in the first cell of a row, once; ranges are written `T02–T07`.
#[test]
fn every_evasion_has_its_row() {
    let text = matrix();
    let listed = text
        .split("\n## Evasions")
        .nth(1)
        .expect("the chapter of evasions");
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for line in listed
        .lines()
        .filter(|line| line.starts_with("| ") && !line.contains("| shown by"))
    {
        for id in line
            .trim_start_matches("| ")
            .split(" | ")
            .next()
            .unwrap()
            .split(", ")
            .flat_map(range)
        {
            *seen.entry(id).or_default() += 1;
        }
    }
    let families = [
        ("D", 28),
        ("H", 43),
        ("Q", 12),
        ("L", 20),
        ("N", 15),
        ("A", 12),
        ("M", 8),
    ];
    let all = families
        .into_iter()
        .flat_map(|(letter, last)| (1..=last).map(move |n| format!("{letter}{n:02}")));
    // The list has gaps: T starts at 02 and knows no 08, 09, 24, 27 to 29; H starts at 02 and ends with H50.
    let tls = (2..=66)
        .filter(|n| ![8, 9, 24, 27, 28, 29].contains(n))
        .map(|n| format!("T{n:02}"));
    let wanted = all.filter(|id| id != "H01").chain(tls).chain(["H50".to_owned()]);
    let missing: Vec<_> = wanted.filter(|id| seen.get(id) != Some(&1)).collect();
    assert!(missing.is_empty(), "missing or listed twice: {missing:?}");
}

/// `T02–T07` is six ids; anything else is one.
fn range(text: &str) -> Vec<String> {
    let Some((first, last)) = text.trim().split_once('–') else {
        return vec![text.trim().to_owned()];
    };
    let (letter, from) = first.split_at(1);
    let to = last.trim_start_matches(letter).parse::<u32>().unwrap();
    (from.parse::<u32>().unwrap()..=to)
        .map(|n| format!("{letter}{n:02}"))
        .collect()
}

/// The reader of sources finds what the test harness would run, and nothing else.
#[test]
fn tests_are_told_from_other_functions() {
    let source = "#[test]\nfn one() {}\n#[tokio::test(start_paused = true)]\nasync fn two() {}\nfn helper() {}\n\
                  proptest! {\n    #[test]\n    fn three(n in 0..9) {}\n}\n#[test]\n#[should_panic]\nfn four() {}\n";
    assert_eq!(
        marked(source),
        ["four", "one", "three", "two"].map(str::to_owned).into()
    );
    let module = "export async function one(visits) {}\nasync function helper() {}\nexport const two = 2;\n";
    assert_eq!(scenarios(module), ["one".to_owned()].into());
    let text = "`a/b::one`, `::two` and `word`, `run --test it::is`, `::`\n`c::three`";
    let found: Vec<_> = named(text)
        .into_iter()
        .map(|(_, file, test)| file + " " + &test)
        .collect();
    assert_eq!(found, ["a/b one", "a/b two", "c three"]);
}
