//! What changed between two texts: as a unified diff and as rows for two columns.
//!
//! Pure. Owns the bounds: a diff is stored with every change of a policy, so it holds the beginning of a large one and
//! says so; whole texts are among the versions.

use std::fmt::Write as _;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use similar::udiff::UnifiedHunkHeader;
use similar::{Algorithm, DiffOp, capture_diff_slices, group_diff_ops};
use utoipa::ToSchema;

/// Lines around a change.
const CONTEXT: usize = 3;
/// Lines, old and new, between the first change and the last that are compared one by one; more are shown as one
/// replacement. Myers' algorithm is quadratic in them at worst: these take tens of milliseconds.
const MAX_COMPARED: usize = 8_000;
/// Bytes of the unified diff, and of the texts in rows.
const MAX_BYTES: usize = 32 << 10;
/// Rows.
const MAX_ROWS: usize = 1_000;
/// Bytes of one line in a row or in the unified diff.
const MAX_LINE: usize = 1_000;

/// The difference between two texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Diff {
    /// As `diff -u` writes it, without the two lines that name files. Empty when the texts are equal.
    pub unified: String,
    /// The same for two columns.
    pub side_by_side: Vec<DiffRow>,
    /// Lines that were added.
    pub added: u32,
    /// Lines that were removed.
    pub removed: u32,
    /// There is more than is shown here.
    pub truncated: bool,
}

/// One row of two columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiffRow {
    /// What it is.
    pub kind: RowKind,
    /// The line on the left.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub old: Option<DiffLine>,
    /// The line on the right.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub new: Option<DiffLine>,
}

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RowKind {
    /// The same on both sides.
    Same,
    /// Another line in its place.
    Changed,
    /// Only on the right.
    Added,
    /// Only on the left.
    Removed,
    /// Equal lines are left out here; it has no line of its own.
    Gap,
}

/// A line of one side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiffLine {
    /// Its number, from 1.
    pub number: u32,
    /// Its text without the line's end, cut when it is long.
    pub text: String,
}

impl Diff {
    /// Compares two texts.
    pub fn of(old: &str, new: &str) -> Self {
        let (old, new): (Vec<&str>, Vec<&str>) = (lines(old), lines(new));
        let ops = compare(&old, &new);
        let changed = |op: &&DiffOp| !matches!(op, DiffOp::Equal { .. });
        let (added, removed) = ops.iter().filter(changed).fold((0, 0), |(added, removed), op| {
            (added + op.new_range().len(), removed + op.old_range().len())
        });
        let groups = group_diff_ops(ops, CONTEXT);
        let (unified, cut) = unified(&groups, &old, &new);
        let (side_by_side, cut_too) = side_by_side(&groups, &old, &new);
        Self {
            unified,
            side_by_side,
            added: added as u32,
            removed: removed as u32,
            truncated: cut || cut_too,
        }
    }
}

/// Lines with their ends, so that a missing last one is a difference.
fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

fn compare(old: &[&str], new: &[&str]) -> Vec<DiffOp> {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let rest = old[head..].iter().rev().zip(new[head..].iter().rev());
    let tail = rest.take_while(|(a, b)| a == b).count();
    let (old_len, new_len) = (old.len() - head - tail, new.len() - head - tail);
    if old_len + new_len <= MAX_COMPARED {
        return capture_diff_slices(Algorithm::Myers, old, new);
    }
    let equal = |old_index, new_index, len| DiffOp::Equal {
        old_index,
        new_index,
        len,
    };
    let replaced = DiffOp::Replace {
        old_index: head,
        old_len,
        new_index: head,
        new_len,
    };
    let ops = [
        equal(0, 0, head),
        replaced,
        equal(head + old_len, head + new_len, tail),
    ];
    ops.into_iter()
        .filter(|op| !op.old_range().is_empty() || !op.new_range().is_empty())
        .collect()
}

/// The unified diff, and whether it was cut.
fn unified(groups: &[Vec<DiffOp>], old: &[&str], new: &[&str]) -> (String, bool) {
    let mut out = String::new();
    for group in groups {
        let _ = writeln!(out, "{}", UnifiedHunkHeader::new(group));
        for op in group {
            let (minus, plus) = match op {
                DiffOp::Equal { .. } => (' ', None),
                DiffOp::Delete { .. } | DiffOp::Insert { .. } | DiffOp::Replace { .. } => ('-', Some('+')),
            };
            let removed = op.old_range().map(|at| (minus, old[at]));
            let added = op.new_range().filter_map(|at| Some((plus?, new[at])));
            for (sign, line) in removed.chain(added) {
                if out.len() + line.len().min(MAX_LINE) > MAX_BYTES {
                    return (out, true);
                }
                let (text, cut) = shorten(line);
                let _ = writeln!(out, "{sign}{text}{}", if cut { "…" } else { "" });
                if !line.ends_with('\n') {
                    out.push_str("\\ No newline at end of file\n");
                }
            }
        }
    }
    (out, false)
}

/// Rows for two columns, and whether they were cut.
fn side_by_side(groups: &[Vec<DiffOp>], old: &[&str], new: &[&str]) -> (Vec<DiffRow>, bool) {
    let mut rows = Vec::new();
    let mut bytes = 0;
    for (nth, group) in groups.iter().enumerate() {
        if nth > 0 {
            rows.push(DiffRow {
                kind: RowKind::Gap,
                old: None,
                new: None,
            });
        }
        for op in group {
            let (left, right) = (op.old_range(), op.new_range());
            for at in 0..left.len().max(right.len()) {
                let row = row(op, (&left, old), (&right, new), at);
                let texts = [&row.old, &row.new].into_iter().flatten();
                bytes += texts.map(|line| line.text.len()).sum::<usize>();
                if rows.len() >= MAX_ROWS || bytes > MAX_BYTES {
                    return (rows, true);
                }
                rows.push(row);
            }
        }
    }
    (rows, false)
}

type Side<'a> = (&'a Range<usize>, &'a [&'a str]);

fn row(op: &DiffOp, (left, old): Side<'_>, (right, new): Side<'_>, at: usize) -> DiffRow {
    let line = |range: &Range<usize>, lines: &[&str]| {
        let at = range.start + at;
        range.contains(&at).then(|| {
            let (text, cut) = shorten(lines[at]);
            DiffLine {
                number: at as u32 + 1,
                text: format!("{text}{}", if cut { "…" } else { "" }),
            }
        })
    };
    let (old, new) = (line(left, old), line(right, new));
    let kind = match (op, &old, &new) {
        (DiffOp::Equal { .. }, _, _) => RowKind::Same,
        (_, Some(_), Some(_)) => RowKind::Changed,
        (_, Some(_), None) => RowKind::Removed,
        (_, None, _) => RowKind::Added,
    };
    DiffRow { kind, old, new }
}

/// A line without its end, and whether something of it is missing.
fn shorten(line: &str) -> (&str, bool) {
    let line = line.strip_suffix('\n').unwrap_or(line);
    let end = line.floor_char_boundary(MAX_LINE);
    (&line[..end], end < line.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    /// A text of so many lines.
    fn lines(count: u32, line: impl Fn(u32) -> String) -> String {
        (0..count).map(line).collect::<Vec<_>>().concat()
    }

    #[test]
    fn a_changed_line_is_shown_both_ways() {
        let diff = Diff::of("a\nb\nc\n", "a\nB\nc\nd\n");
        assert_eq!(diff.unified, "@@ -1,3 +1,4 @@\n a\n-b\n+B\n c\n+d\n");
        let kinds: Vec<RowKind> = diff.side_by_side.iter().map(|row| row.kind).collect();
        assert_eq!(
            kinds,
            [RowKind::Same, RowKind::Changed, RowKind::Same, RowKind::Added]
        );
        assert_eq!((diff.added, diff.removed, diff.truncated), (2, 1, false));
    }

    #[test]
    fn equal_texts_have_no_difference_and_a_missing_last_newline_is_one() {
        assert_eq!(Diff::of("a\n", "a\n"), Diff::default());
        let diff = Diff::of("a\n", "a");
        assert_eq!(
            diff.unified,
            "@@ -1 +1 @@\n-a\n+a\n\\ No newline at end of file\n"
        );
    }

    #[test]
    fn far_changes_have_a_gap_between_them() {
        let old = lines(40, |n| format!("{n}\n"));
        let new = old.replace("\n2\n", "\ntwo\n").replace("\n35\n", "\n");
        let rows = Diff::of(&old, &new).side_by_side;
        let gaps = rows.iter().filter(|row| row.kind == RowKind::Gap).count();
        assert_eq!(gaps, 1, "{rows:?}");
        assert!(rows.iter().any(|row| row.kind == RowKind::Removed));
    }

    #[test]
    fn a_large_difference_is_cut_and_says_so() {
        let old = lines(50_000, |n| format!("old-{n}.test:443\n"));
        let new = lines(50_000, |n| format!("new-{n}.test:443\n"));
        let diff = Diff::of(&old, &new);
        assert!(diff.truncated);
        assert_eq!((diff.added, diff.removed), (50_000, 50_000));
        assert!(diff.unified.len() <= MAX_BYTES + MAX_LINE);
        assert!(diff.side_by_side.len() <= MAX_ROWS);
        let line = "é".repeat(1 << 19);
        let diff = Diff::of("", &line);
        assert!(
            diff.unified.len() < 2 * MAX_LINE && diff.unified.contains('…'),
            "{}",
            diff.unified.len()
        );
    }

    #[test]
    fn one_changed_line_of_a_megabyte_is_found() {
        let old = lines(60_000, |n| format!("a{n}.test:443\n"));
        let diff = Diff::of(&old, &old.replace("a30000.test", "b30000.test"));
        assert_eq!((diff.added, diff.removed, diff.truncated), (1, 1, false));
    }

    proptest! {
        /// Applying the rows of a diff to the left side gives the right side.
        #[test]
        fn rows_lead_from_one_text_to_the_other(old in "([ab]\n){0,12}", new in "([abc]\n){0,12}") {
            let diff = Diff::of(&old, &new);
            prop_assert_eq!(old == new, diff.unified.is_empty());
            let rows = diff.side_by_side.iter();
            let (mut minus, mut plus) = (0, 0);
            for row in rows {
                for (line, text) in [(&row.old, &old), (&row.new, &new)] {
                    if let Some(line) = line {
                        prop_assert_eq!(text.lines().nth(line.number as usize - 1), Some(line.text.as_str()));
                    }
                }
                minus += u32::from(matches!(row.kind, RowKind::Removed | RowKind::Changed));
                plus += u32::from(matches!(row.kind, RowKind::Added | RowKind::Changed));
            }
            prop_assert_eq!((plus, minus), (diff.added, diff.removed));
        }
    }
}
