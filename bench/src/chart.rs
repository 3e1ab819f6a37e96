//! Charts in SVG: bars of what rounds gave ([`bars`]), with least and most beside the median, and curves of
//! growth ([`curves`]). Several panels stand below each other in one picture.
//!
//! Owns how a picture looks. Never measures and never rounds what it is given but for the eye. Benchmarks drive it:
//!
//! ```
//! use tidegate_bench::chart::{Axis, Curve, Curves, curves};
//! let lookup = Curve::new("one lookup", [(1e2, 80.0), (1e4, 83.0), (1e6, 89.0)]);
//! let panel = Curves::new("Lookup", Axis::log("rules"), Axis::linear("ns")).curve(lookup);
//! assert!(curves(&[panel]).unwrap().starts_with("<svg"));
//! ```

use std::fmt::Display;
use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::measure::Spread;

const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(0x33, 0x33, 0x33);
const PALE: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
const OURS: RGBColor = RGBColor(0x0b, 0x7a, 0x75);
const THEIRS: RGBColor = RGBColor(0x8d, 0x9d, 0xb6);
/// Told apart by those who see few colours, too (Okabe and Ito).
const LINES: [RGBColor; 6] = [
    RGBColor(0x0b, 0x7a, 0x75),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
];

const WIDTH: i32 = 860;
const MARGIN: i32 = 16;
/// Where bars begin: names stand before.
const NAMES: i32 = 250;
/// Kept for the figures behind the longest bar.
const FIGURES: i32 = 170;
const HEADING: i32 = 42;
const ROW: i32 = 24;
const CURVES_HEIGHT: i32 = 340;

/// One bar: what some rounds gave.
#[derive(Debug, Clone)]
pub struct Bar {
    name: String,
    spread: Spread,
    ours: bool,
}

/// A panel of bars with one unit.
#[derive(Debug, Clone)]
pub struct Bars {
    title: String,
    digits: usize,
    rows: Vec<Bar>,
}

impl Bars {
    /// An empty panel; the title names the unit. Figures are written with that many `digits` behind the point.
    pub fn new(title: impl Into<String>, digits: usize) -> Self {
        Self {
            title: title.into(),
            digits,
            rows: Vec::new(),
        }
    }

    /// Adds a bar; `ours` ones have a colour of their own.
    #[must_use]
    pub fn bar(mut self, name: impl Into<String>, spread: Spread, ours: bool) -> Self {
        self.rows.push(Bar {
            name: name.into(),
            spread,
            ours,
        });
        self
    }

    /// Whether it has no bar.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn height(&self) -> i32 {
        row_at(self.rows.len()) + MARGIN
    }
}

/// Where row `index` begins; a picture has few.
fn row_at(index: usize) -> i32 {
    HEADING + i32::try_from(index).unwrap_or(0) * ROW
}

/// The SVG of these panels, one below the other. A panel without bars, or with a figure that is none, is an error.
pub fn bars(panels: &[Bars]) -> Result<String> {
    for panel in panels {
        let finite = |bar: &Bar| bar.spread.most.is_finite() && bar.spread.least >= 0.0;
        ensure!(
            !panel.rows.is_empty() && panel.rows.iter().all(finite),
            "{}: nothing to draw",
            panel.title
        );
    }
    let heights: Vec<_> = panels.iter().map(Bars::height).collect();
    picture(&heights, |index, area| draw_bars(area, &panels[index]))
}

fn draw_bars(area: &Area, panel: &Bars) -> Result<()> {
    heading(area, &panel.title)?;
    let longest = panel.rows.iter().map(|bar| bar.spread.most).fold(0.0, f64::max);
    let room = f64::from(WIDTH - NAMES - FIGURES - MARGIN);
    let length = |figure: f64| match longest {
        0.0 => NAMES,
        _ => NAMES + (figure / longest * room).round() as i32,
    };
    for (row, bar) in panel.rows.iter().enumerate() {
        let (top, bottom) = (row_at(row), row_at(row + 1) - 6);
        let middle = i32::midpoint(top, bottom);
        text(area, &bar.name, (NAMES - 8, middle), HPos::Right)?;
        let end = length(bar.spread.median);
        let colour = if bar.ours { OURS } else { THEIRS };
        let body = Rectangle::new([(NAMES, top), (end, bottom)], colour.filled());
        area.draw(&body).map_err(broken)?;
        let (least, most) = (length(bar.spread.least), length(bar.spread.most));
        let whisker = PathElement::new([(least, middle), (most, middle)], INK.stroke_width(1));
        area.draw(&whisker).map_err(broken)?;
        for end in [least, most] {
            let tick = PathElement::new([(end, middle - 4), (end, middle + 4)], INK.stroke_width(1));
            area.draw(&tick).map_err(broken)?;
        }
        let digits = panel.digits;
        let figures = format!("{:.digits$}", bar.spread);
        text(area, &figures, (most.max(end) + 8, middle), HPos::Left)?;
    }
    Ok(())
}

/// What runs along an edge.
#[derive(Debug, Clone)]
pub struct Axis {
    name: String,
    log: bool,
}

impl Axis {
    /// From zero on, in equal steps.
    pub fn linear(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            log: false,
        }
    }

    /// In powers of ten; values must be above zero.
    pub fn log(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            log: true,
        }
    }
}

/// One curve: points from left to right.
#[derive(Debug, Clone)]
pub struct Curve {
    name: String,
    points: Vec<(f64, f64)>,
}

impl Curve {
    /// A curve through `(x, y)` points.
    pub fn new(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self {
            name: name.into(),
            points: points.into_iter().collect(),
        }
    }
}

/// A panel of curves with common axes.
#[derive(Debug, Clone)]
pub struct Curves {
    title: String,
    x: Axis,
    y: Axis,
    lines: Vec<Curve>,
}

impl Curves {
    /// An empty panel.
    pub fn new(title: impl Into<String>, x: Axis, y: Axis) -> Self {
        Self {
            title: title.into(),
            x,
            y,
            lines: Vec::new(),
        }
    }

    /// Adds a curve; up to six are told apart by colour.
    #[must_use]
    pub fn curve(mut self, curve: Curve) -> Self {
        self.lines.push(curve);
        self
    }

    /// The values along one axis that all points lie in; an error if one of them can't be drawn there.
    fn range(&self, axis: &Axis, value: fn(&(f64, f64)) -> f64) -> Result<Range<f64>> {
        let values = || self.lines.iter().flat_map(|curve| &curve.points).map(value);
        ensure!(values().next().is_some(), "{}: nothing to draw", self.title);
        let (least, most) = values().fold((f64::INFINITY, 0.0_f64), |(least, most), value| {
            (least.min(value), most.max(value))
        });
        let lowest = if axis.log { f64::MIN_POSITIVE } else { 0.0 };
        ensure!(
            values().all(f64::is_finite) && least >= lowest,
            "{}: {} can't be drawn: {least} to {most}",
            self.title,
            axis.name
        );
        Ok(if axis.log {
            least..most.max(least * 1.01)
        } else {
            // A little air above the highest point.
            0.0..(most * 1.08).max(f64::MIN_POSITIVE)
        })
    }
}

/// The SVG of these panels, one below the other. A panel without points, or with a point off its axes, is an error.
pub fn curves(panels: &[Curves]) -> Result<String> {
    let heights = vec![CURVES_HEIGHT; panels.len()];
    picture(&heights, |index, area| {
        let panel = &panels[index];
        heading(area, &panel.title)?;
        let (x, y) = (
            panel.range(&panel.x, |point| point.0)?,
            panel.range(&panel.y, |point| point.1)?,
        );
        match (panel.x.log, panel.y.log) {
            (false, false) => draw_curves(area, panel, x, y),
            (true, false) => draw_curves(area, panel, x.log_scale(), y),
            (false, true) => draw_curves(area, panel, x, y.log_scale()),
            (true, true) => draw_curves(area, panel, x.log_scale(), y.log_scale()),
        }
    })
}

fn draw_curves<X, Y>(area: &Area, panel: &Curves, x: X, y: Y) -> Result<()>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .margin(MARGIN)
        .margin_top(HEADING)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(x, y)
        .map_err(broken)?;
    chart
        .configure_mesh()
        .x_desc(&panel.x.name)
        .y_desc(&panel.y.name)
        .axis_style(INK)
        .bold_line_style(PALE)
        .light_line_style(TRANSPARENT)
        .label_style((FONT, 13).into_font().color(&INK))
        .x_label_formatter(&|value| short(*value))
        .y_label_formatter(&|value| short(*value))
        .draw()
        .map_err(broken)?;
    for (index, curve) in panel.lines.iter().enumerate() {
        let colour = LINES[index % LINES.len()];
        let line = LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2)).point_size(3);
        chart
            .draw_series(line)
            .map_err(broken)?
            .label(&curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .border_style(TRANSPARENT)
        .background_style(WHITE.mix(0.8))
        .label_font((FONT, 13).into_font().color(&INK))
        .draw()
        .map_err(broken)?;
    Ok(())
}

/// A figure as an axis has it: `0.25`, `80`, `1.5 k`, `1 M`.
fn short(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        1e9.. => (value / 1e9, " G"),
        1e6.. => (value / 1e6, " M"),
        1e3.. => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let digits = if scaled.abs() < 1.0 { 3 } else { 1 };
    let text = format!("{scaled:.digits$}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{}{unit}", if text.is_empty() { "0" } else { text })
}

/// Writes a picture to a file, whose folder is made.
pub fn write(file: &Path, svg: &str) -> Result<()> {
    let what = || format!("can't write {}", file.display());
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(what)?;
    }
    fs::write(file, svg).with_context(what)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Panels of these heights, one below the other, on white.
fn picture(heights: &[i32], mut draw: impl FnMut(usize, &Area) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    {
        let size = (WIDTH as u32, heights.iter().sum::<i32>() as u32);
        let mut rest = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        rest.fill(&WHITE).map_err(broken)?;
        for (index, height) in heights.iter().enumerate() {
            let (panel, below) = rest.split_vertically(*height);
            draw(index, &panel)?;
            rest = below;
        }
        rest.present().map_err(broken)?;
    }
    Ok(svg)
}

fn heading(area: &Area, title: &str) -> Result<()> {
    let style = (FONT, 16).into_font().style(FontStyle::Bold).color(&INK);
    let style = style.pos(Pos::new(HPos::Left, VPos::Center));
    area.draw_text(title, &style, (MARGIN, HEADING / 2))
        .map_err(broken)
}

fn text(area: &Area, text: &str, at: (i32, i32), side: HPos) -> Result<()> {
    let style = (FONT, 13).into_font().color(&INK);
    let style = style.pos(Pos::new(side, VPos::Center));
    area.draw_text(text, &style, at).map_err(broken)
}

/// A drawing's error borrows what it was drawn on.
fn broken(error: impl Display) -> anyhow::Error {
    anyhow!("can't draw: {error}")
}

#[cfg(test)]
mod tests;
