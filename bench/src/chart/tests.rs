//! That pictures hold what they were given, and that what can't be drawn is said.

#![allow(clippy::unwrap_used, reason = "a test may end by panic")]

use super::*;

fn growth(points: &[(f64, f64)]) -> Curves {
    let curve = Curve::new("trie", points.iter().copied());
    Curves::new("Memory", Axis::log("rules"), Axis::linear("MiB")).curve(curve)
}

#[test]
fn bars_are_as_long_as_their_medians_and_say_their_spread() {
    let panel = Bars::new("CPU, µs/query", 2)
        .bar("Tidegate", Spread::of([1.0, 2.0, 3.0]), true)
        .bar("a peer & <more>", Spread::of([4.0]), false);
    let svg = bars(&[panel.clone(), panel]).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    for wanted in ["µs/query", "2.00 (1.00–3.00)", "a peer &amp; &lt;more&gt;"] {
        assert_eq!(svg.matches(wanted).count(), 2, "{wanted}");
    }
    let room = WIDTH - NAMES - FIGURES - MARGIN;
    for wanted in [room / 2, room] {
        assert!(svg.contains(&format!("width=\"{wanted}\"")), "{wanted}: {svg}");
    }
}

#[test]
fn curves_name_axes_and_lines() {
    let svg = curves(&[growth(&[(1e2, 0.01), (1e4, 0.6), (1e6, 41.0)])]).unwrap();
    for wanted in ["Memory", "rules", "MiB", "trie", "100 k"] {
        assert!(svg.contains(wanted), "{wanted}");
    }
}

#[test]
fn one_point_is_a_curve() {
    assert!(curves(&[growth(&[(10.0, 0.0)])]).is_ok());
}

#[test]
fn what_cannot_be_drawn_is_an_error() {
    for points in [&[][..], &[(0.0, 1.0)], &[(1.0, f64::NAN)], &[(1.0, -1.0)]] {
        assert!(curves(&[growth(points)]).is_err(), "{points:?}");
    }
    assert!(bars(&[Bars::new("none", 1)]).is_err());
    let endless = Bars::new("endless", 1).bar("x", Spread::of([f64::INFINITY]), false);
    assert!(bars(&[endless]).is_err());
}

#[test]
fn figures_on_axes_are_short() {
    let written = [0.0, 0.25, 80.0, 1_500.0, 1e6, 2.5e9].map(short);
    assert_eq!(written, ["0", "0.25", "80", "1.5 k", "1 M", "2.5 G"]);
}
