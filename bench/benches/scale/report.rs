//! What the sizes gave, as a table and as charts. Driven by [`super`]; measures nothing.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use tidegate_bench::chart::{Axis, Curve, Curves, curves};

use super::Figures;

/// All that was measured, by size.
pub(super) struct Report {
    pub(super) allow: Vec<(usize, Figures)>,
    pub(super) block: Vec<(usize, Figures)>,
    pub(super) leases: Vec<(usize, Figures)>,
    pub(super) world: Figures,
    /// Where and when, and the load before the first size.
    pub(super) machine: String,
}

impl Report {
    /// Writes `scale.md`, `scale-rules.svg` and `scale-leases.svg`.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))
        };
        let text = self.text()?;
        print!("{text}");
        write("scale.md", text)?;
        write("scale-rules.svg", self.rules_chart()?)?;
        write("scale-leases.svg", self.leases_chart()?)
    }

    fn text(&self) -> Result<String> {
        let mut out = String::from(
            "# Policy at scale\n\nWritten by `cargo bench -p tidegate-bench --bench scale`. Nanoseconds are the median \
             of 31 rounds of 4 096 lookups (fastest round), of the thread's time on its core; every size is a process of its \
             own.\n\n",
        );
        writeln!(out, "- {}", self.machine)?;
        writeln!(out, "- Load average at the end: {}", load()?)?;
        table(
            &mut out,
            "An allow list, with its rules as written",
            &self.allow,
            &[
                ("lookup, hot", Cell::Time("hot")),
                ("lookup, cold", Cell::Time("cold")),
                ("miss", Cell::Time("miss")),
                ("query permitted", Cell::Time("query permitted")),
                ("query refused", Cell::Time("query refused")),
                (
                    "nearest rule found, where a refusal is read",
                    Cell::Time("nearest rule found"),
                ),
                ("bytes a rule", Cell::Each("heap")),
                ("compile, ns a rule", Cell::EachMs("compile ms")),
            ],
        )?;
        table(
            &mut out,
            "A global block list",
            &self.block,
            &[
                ("lookup, hot", Cell::Time("hot")),
                ("lookup, cold", Cell::Time("cold")),
                ("miss", Cell::Time("miss")),
                ("bytes a name", Cell::Each("heap")),
                ("resident bytes a name", Cell::Each("rss")),
                ("compile, ns a name", Cell::EachMs("compile ms")),
            ],
        )?;
        table(
            &mut out,
            "Leases",
            &self.leases,
            &[
                ("whose is this source, hot", Cell::Time("hot")),
                ("whose is this source, cold", Cell::Time("cold")),
                ("register, µs", Cell::Plain("register µs")),
                ("resident bytes a lease", Cell::Each("leases")),
                ("the same with 20 tickets, more", Cell::Each("tickets")),
            ],
        )?;
        self.world_text(&mut out)?;
        Ok(out)
    }

    fn world_text(&self, out: &mut String) -> Result<()> {
        let get = |name: &str| figure(&self.world, name);
        let mib = |name: &str| Ok::<_, anyhow::Error>(get(name)? / f64::from(1 << 20));
        writeln!(
            out,
            "\n## 1 000 000 names blocked globally, 10 000 leases under 1 000 policies of 200 endpoints\n"
        )?;
        writeln!(out, "| | |\n|---|---|")?;
        for (label, name) in [
            ("block list compiled, ms", "compile the block list ms"),
            ("policies read and compiled, ms", "compile the policies ms"),
            (
                "a changed policy text to enforced, open flows judged again, ms",
                "published to enforced ms",
            ),
            ("the same, most of 31", "published to enforced ms, most"),
            ("open flows", "flows"),
            ("flows dropped by 31 changes that still allow them", "dropped"),
            (
                "flows closed by one that halves a policy",
                "closed by a narrower policy",
            ),
        ] {
            let value = get(name)?;
            let digits = if name.contains("ms") { 2 } else { 0 };
            writeln!(out, "| {label} | {value:.digits$} |")?;
        }
        for name in ["query permitted", "query refused", "query blocked globally"] {
            let (median, fastest) = (get(&format!("{name} ns"))?, get(&format!("{name} ns, fastest"))?);
            writeln!(out, "| lease found, {name}, ns | {median:.0} ({fastest:.0}) |")?;
        }
        for (label, name) in [
            ("RSS with the block list, MiB", "rss with the block list"),
            ("… and the policies", "rss with the policies"),
            ("… and the leases", "rss with the leases"),
            ("… and 16 000 open flows with their tickets", "rss with the flows"),
        ] {
            writeln!(out, "| {label} | {:.1} |", mib(name)?)?;
        }
        Ok(())
    }

    fn rules_chart(&self) -> Result<String> {
        let mut lookup = Curves::new("One lookup", Axis::log("rules"), Axis::linear("ns"));
        for (name, figure) in [
            ("allow list, hot", "hot ns"),
            ("allow list, cold", "cold ns"),
            ("query refused", "query refused ns"),
        ] {
            lookup = lookup.curve(curve(name, &self.allow, figure)?);
        }
        for (name, figure) in [("block list, cold", "cold ns"), ("block list, miss", "miss ns")] {
            lookup = lookup.curve(curve(name, &self.block, figure)?);
        }
        let constant = |sizes: &[(usize, Figures)]| each(sizes.last().context("no sizes")?, "heap");
        let (allow, block) = (constant(&self.allow)?, constant(&self.block)?);
        let memory = Curves::new("Memory", Axis::log("rules"), Axis::log("bytes"))
            .curve(curve(
                &format!("allow list with its texts: {allow:.0} bytes a rule"),
                &self.allow,
                "heap",
            )?)
            .curve(curve(
                &format!("global block list: {block:.0} bytes a name"),
                &self.block,
                "heap",
            )?);
        curves(&[lookup, memory])
    }

    fn leases_chart(&self) -> Result<String> {
        let lookup = Curves::new("Whose is this source", Axis::log("leases"), Axis::linear("ns"))
            .curve(curve("hot", &self.leases, "hot ns")?)
            .curve(curve("cold", &self.leases, "cold ns")?);
        let constant = |name: &str| each(self.leases.last().context("no sizes")?, name);
        let (lease, tickets) = (constant("leases")?, constant("tickets")?);
        let memory = Curves::new("Memory", Axis::log("leases"), Axis::log("bytes"))
            .curve(curve(
                &format!("leases: {lease:.0} bytes each"),
                &self.leases,
                "leases",
            )?)
            .curve(curve(
                &format!("20 tickets each: {tickets:.0} bytes more"),
                &self.leases,
                "tickets",
            )?);
        curves(&[lookup, memory])
    }
}

/// What it is measured on, at this moment.
pub(super) fn machine() -> Result<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").context("no /proc/cpuinfo")?;
    let models = info.lines().filter_map(|line| line.strip_prefix("model name"));
    let models: Vec<&str> = models
        .map(|model| model.trim_start_matches([' ', '\t', ':']))
        .collect();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("no kernel release")?;
    let date = Command::new("date").args(["-u", "+%F %R UTC"]).output()?;
    Ok(format!(
        "{} × {}, Linux {}; {}, load average at the start: {}",
        models.len(),
        models.first().copied().unwrap_or("unknown"),
        kernel.trim(),
        String::from_utf8_lossy(&date.stdout).trim(),
        load()?
    ))
}

fn load() -> Result<String> {
    let load = std::fs::read_to_string("/proc/loadavg").context("no load average")?;
    Ok(load.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

/// How a row shows its figure.
#[derive(Clone, Copy)]
enum Cell {
    /// Median (fastest) nanoseconds.
    Time(&'static str),
    /// As it is.
    Plain(&'static str),
    /// Divided by the size.
    Each(&'static str),
    /// Milliseconds, as nanoseconds divided by the size.
    EachMs(&'static str),
}

fn table(out: &mut String, title: &str, sizes: &[(usize, Figures)], rows: &[(&str, Cell)]) -> Result<()> {
    write!(out, "\n## {title}\n\n| |")?;
    for (size, _) in sizes {
        write!(out, " {size} |")?;
    }
    writeln!(out, "\n|---|{}", "---|".repeat(sizes.len()))?;
    for (label, cell) in rows {
        write!(out, "| {label} |")?;
        for one in sizes {
            match cell {
                Cell::Time(name) => {
                    let median = figure(&one.1, &format!("{name} ns"))?;
                    let fastest = figure(&one.1, &format!("{name} ns, fastest"))?;
                    write!(out, " {median:.0} ({fastest:.0}) |")?;
                }
                Cell::Plain(name) => write!(out, " {:.1} |", figure(&one.1, name)?)?,
                Cell::Each(name) => write!(out, " {:.1} |", each(one, name)?)?,
                Cell::EachMs(name) => write!(out, " {:.0} |", each(one, name)? * 1e6)?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

fn figure(figures: &Figures, name: &str) -> Result<f64> {
    figures
        .get(name)
        .copied()
        .with_context(|| format!("{name} was not measured"))
}

fn each((size, figures): &(usize, Figures), name: &str) -> Result<f64> {
    Ok(figure(figures, name)? / *size as f64)
}

/// A curve of one figure; a size so small that it grew no page is left out.
fn curve(name: &str, sizes: &[(usize, Figures)], figure_name: &str) -> Result<Curve> {
    let point = |(size, figures): &(usize, Figures)| Ok((*size as f64, figure(figures, figure_name)?));
    let points: Vec<(f64, f64)> = sizes.iter().map(point).collect::<Result<_>>()?;
    Ok(Curve::new(
        name,
        points.into_iter().filter(|(_, value)| *value > 0.0),
    ))
}
