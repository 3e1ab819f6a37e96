//! Bars over time: where each stands in a picture, how high it is, and what the lines behind it say.
//!
//! Pure: numbers in, numbers out. It draws nothing; the template does, with attributes only. Every bar says in words what
//! it shows, and the same numbers stand in a table beside the picture.

use std::borrow::Borrow;

/// Height of the picture, in its own units.
pub(crate) const HEIGHT: u64 = 180;
/// What the times below take.
const BELOW: u64 = 22;
const ABOVE: u64 = 8;
/// A bar that is not nothing is seen.
const LEAST: u64 = 2;

/// How wide a picture is. Text grows and shrinks with it, so there is one for each kind of screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The class of the picture, and what its ids begin with.
    pub(crate) name: &'static str,
    /// Width, in its own units.
    pub(crate) width: u64,
    /// What the numbers at the left take.
    pub(crate) left: u64,
    /// Times below, at most.
    times: usize,
}

/// For a desk.
pub(crate) const WIDE: Frame = Frame {
    name: "wide",
    width: 720,
    left: 52,
    times: 6,
};
/// For a phone.
pub(crate) const NARROW: Frame = Frame {
    name: "narrow",
    width: 320,
    left: 46,
    times: 4,
};

/// A column of what is to be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Column {
    /// The time, short: what stands below.
    pub(crate) time: String,
    /// What it shows, in words.
    pub(crate) said: String,
    /// Where it leads.
    pub(crate) href: String,
    /// From below: refused, would be refused.
    pub(crate) values: [u64; 2],
}

/// A column in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bar {
    pub(crate) x: u64,
    pub(crate) width: u64,
    pub(crate) said: String,
    pub(crate) href: String,
    /// From below: class, upper edge, height.
    pub(crate) parts: Vec<(&'static str, u64, u64)>,
}

/// A line behind the bars, with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) y: u64,
    pub(crate) number: String,
}

/// The picture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chart {
    pub(crate) frame: Frame,
    pub(crate) bars: Vec<Bar>,
    pub(crate) lines: Vec<Line>,
    /// Times below: middle and text.
    pub(crate) times: Vec<(u64, String)>,
}

impl Chart {
    /// The upper edge of what bars stand in, and its lower.
    pub(crate) const TOP: u64 = ABOVE;
    pub(crate) const FLOOR: u64 = HEIGHT - BELOW;

    /// Places columns, the oldest at the left.
    pub(crate) fn of(columns: &[Column], frame: Frame) -> Self {
        let mut chart = Self {
            frame,
            ..Self::default()
        };
        let many = columns.len() as u64;
        if many == 0 {
            return chart;
        }
        let sum = |column: &Column| {
            column
                .values
                .iter()
                .fold(0_u64, |sum, one| sum.saturating_add(*one))
        };
        let most = round_up(columns.iter().map(sum).max().unwrap_or_default());
        let every = columns.len().div_ceil(frame.times.max(1));
        for (place, column) in columns.iter().enumerate() {
            let place_of = |place: usize| frame.left + (frame.width - frame.left) * place as u64 / many;
            let (from, to) = (place_of(place), place_of(place + 1));
            let gap = u64::from(to - from > 4) * 2;
            if place.is_multiple_of(every) {
                chart.times.push((from.midpoint(to), column.time.clone()));
            }
            chart.bars.push(Bar {
                x: from,
                width: to - from - gap,
                said: column.said.clone(),
                href: column.href.clone(),
                parts: stacked(column.values, most),
            });
        }
        let half = most.is_multiple_of(2).then_some(most / 2);
        for number in [Some(0), half, Some(most)].into_iter().flatten() {
            chart.lines.push(Line {
                y: Self::FLOOR - height(number, most),
                number: short(number),
            });
        }
        chart
    }
}

/// Heights of a column's parts, one upon the other.
fn stacked(values: [u64; 2], most: u64) -> Vec<(&'static str, u64, u64)> {
    let mut parts = Vec::new();
    let mut floor = Chart::FLOOR;
    for (class, value) in ["bar-refuse", "bar-would-refuse"].into_iter().zip(values) {
        if value > 0 {
            let tall = height(value, most).max(LEAST).min(floor - Chart::TOP);
            floor -= tall;
            parts.push((class, floor, tall));
        }
    }
    parts
}

fn height(value: u64, most: u64) -> u64 {
    let room = u128::from(Chart::FLOOR - Chart::TOP);
    u64::try_from(u128::from(value) * room / u128::from(most.max(1))).unwrap_or(0)
}

/// The next number that reads well: 1, 2 or 5 and zeros, 4 at least.
fn round_up(number: u64) -> u64 {
    let mut step = 1_u64;
    loop {
        for times in [1, 2, 5] {
            match step.checked_mul(times) {
                Some(round) if round >= number && round >= 4 => return round,
                Some(_) => {}
                None => return u64::MAX,
            }
        }
        match step.checked_mul(10) {
            Some(next) => step = next,
            None => return u64::MAX,
        }
    }
}

/// A number in few signs: 1 200 is `1.2k`. Templates have some by reference.
pub(crate) fn short(number: impl Borrow<u64>) -> String {
    let number = *number.borrow();
    let (unit, sign) = match number {
        0..1_000 => return number.to_string(),
        1_000..1_000_000 => (1_000, "k"),
        1_000_000..1_000_000_000 => (1_000_000, "M"),
        _ => (1_000_000_000, "G"),
    };
    let (whole, tenth) = (number / unit, number % unit * 10 / unit);
    if tenth == 0 || whole >= 100 {
        format!("{whole}{sign}")
    } else {
        format!("{whole}.{tenth}{sign}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(refused: u64, would: u64) -> Column {
        Column {
            values: [refused, would],
            ..Column::default()
        }
    }

    #[test]
    fn bars_stand_side_by_side_and_stay_in_the_picture() {
        let sizes = [1, 24, 28, 30, 168, 600].map(|many| (many, WIDE));
        for (many, frame) in sizes
            .into_iter()
            .chain([(24, NARROW), (30, NARROW), (200, NARROW)])
        {
            let chart = Chart::of(&vec![column(u64::MAX, u64::MAX); many], frame);
            assert_eq!(chart.bars.len(), many);
            let mut right = frame.left;
            for bar in &chart.bars {
                assert!(bar.x >= right && bar.width > 0, "{bar:?}");
                right = bar.x + bar.width;
                for (_, top, tall) in &bar.parts {
                    assert!(*top >= Chart::TOP && top + tall <= Chart::FLOOR, "{bar:?}");
                }
            }
            assert!(right <= frame.width);
            assert!(chart.times.len() <= frame.times);
        }
        assert!(Chart::of(&[], WIDE).bars.is_empty());
    }

    #[test]
    fn one_refusal_is_seen_beside_a_million() {
        let chart = Chart::of(&[column(1, 0), column(1_000_000, 0), column(0, 0)], WIDE);
        let tall = |at: usize| chart.bars.get(at).map(|bar| bar.parts.clone());
        assert_eq!(tall(0), Some(vec![("bar-refuse", 156, 2)]));
        assert_eq!(tall(1), Some(vec![("bar-refuse", 8, 150)]));
        assert_eq!(tall(2), Some(Vec::new()));
        let numbers: Vec<&str> = chart.lines.iter().map(|line| line.number.as_str()).collect();
        assert_eq!(numbers, ["0", "500k", "1M"]);
    }

    #[test]
    fn parts_stand_upon_each_other() {
        let chart = Chart::of(&[column(5, 5)], WIDE);
        let parts = chart.bars.first().map(|bar| bar.parts.clone());
        assert_eq!(
            parts,
            Some(vec![("bar-refuse", 83, 75), ("bar-would-refuse", 8, 75)])
        );
    }

    #[test]
    fn numbers_read_well() {
        for (number, wanted) in [
            (0, 5),
            (4, 5),
            (6, 10),
            (101, 200),
            (999, 1_000),
            (u64::MAX, u64::MAX),
        ] {
            assert_eq!(round_up(number), wanted, "{number}");
        }
        for (number, wanted) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1k"),
            (1_250, "1.2k"),
            (250_000, "250k"),
        ] {
            assert_eq!(short(number), wanted);
        }
    }
}
