//! What is written of a run: lines while it goes, a page in Markdown and its chart at the end.
//!
//! Owns the words and the units. Never measures, and judges nothing: the page of what follows from it is
//! `control/SCALING.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use tidegate_bench::chart::{Axis, Curve, Curves, curves};
use tidegate_bench::measure::Spread;

use crate::events::Delivered;
use crate::load::Registered;
use crate::outcome::{Cost, Figures, Herd, Outcome, Publishing};
use crate::plan::Plan;

/// Kinds of failures that the page names.
const MOST_FAILURES: usize = 6;

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// By how much memory grew with each of some things, KiB.
fn each(before: u64, after: u64, things: usize) -> f64 {
    after.saturating_sub(before) as f64 / 1024.0 / things.max(1) as f64
}

/// Of several publications the median of a share of the gateways, in ms; of those that reached anybody.
fn reached(publishing: &Publishing, share: f64) -> Option<f64> {
    let heard = publishing.all.iter().map(|one| &one.reached.acknowledged);
    let waits: Vec<f64> = heard
        .filter(|waits| !waits.is_empty())
        .map(|waits| ms(waits.at(share)))
        .collect();
    (!waits.is_empty()).then(|| Spread::of(waits).median)
}

/// The fewest gateways that a version reached in time.
fn fewest(publishing: &Publishing) -> usize {
    let heard = publishing.all.iter().map(|one| one.reached.acknowledged.len());
    heard.min().unwrap_or(0)
}

/// Processor time of one publication, in ms, what stands still meanwhile taken off.
fn cpu_of_one(publishing: &Publishing, idle: &Cost) -> f64 {
    let still = idle.share() * publishing.cost.elapsed.as_secs_f64();
    (publishing.cost.cpu.as_secs_f64() - still).max(0.0) * 1e3 / publishing.all.len().max(1) as f64
}

fn cell(publishing: &Publishing, want: usize) -> String {
    let at = |share| reached(publishing, share).map_or_else(|| "–".to_owned(), |ms| format!("{ms:.0}"));
    let missing = want.saturating_sub(fewest(publishing));
    let missing = if missing > 0 {
        format!(" ({missing} not in time)")
    } else {
        String::new()
    };
    format!("{} / {} / {}{missing}", at(0.5), at(0.99), at(1.0))
}

/// A size, while the run goes on.
pub fn line(one: &Figures) -> String {
    let want = one.step.gateways;
    format!(
        "{} gateways, {} leases: {:.0} KiB a new gateway, idle {:.3} cores, publish {} ms quiet, {} ms busy; {:.0} registrations/s full \
         (p50 {:.1}, p99 {:.1} ms), paced p50 {:.1}, p99 {:.1} ms; again/failed/unseen/late {:?}; lost {}; wrong {}; {:?}",
        one.connected.0,
        one.living,
        each(one.memory[0], one.memory[1], one.added.0),
        one.idle.share(),
        cell(&one.quiet, want),
        cell(&one.busy, want),
        one.filled.rate(),
        ms(one.filled.waits.at(0.5)),
        ms(one.filled.waits.at(0.99)),
        ms(one.paced.waits.at(0.5)),
        ms(one.paced.waits.at(0.99)),
        one.trouble,
        one.lost,
        one.wrong,
        one.failures,
    )
}

/// Events, in a line.
pub fn events_line((delivered, paced, cost): &(Delivered, Registered, Cost)) -> String {
    let seconds = delivered.elapsed.as_secs_f64().max(1e-9);
    format!(
        "events: {:.0}/s in batches of 50 ({:.0} batches/s), a batch p50 {:.0}, p99 {:.0} ms, {} failed; {:.2} cores; \
         registrations beside p50 {:.1}, p99 {:.1} ms",
        delivered.events as f64 / seconds,
        delivered.waits.len() as f64 / seconds,
        ms(delivered.waits.at(0.5)),
        ms(delivered.waits.at(0.99)),
        delivered.failed,
        cost.share(),
        ms(paced.waits.at(0.5)),
        ms(paced.waits.at(0.99)),
    )
}

/// Gateways without anything, in a line.
pub fn cold_line((reached, elapsed, cost): &(usize, Duration, Cost), of: usize) -> String {
    let each = (*reached).max(1) as f64;
    format!(
        "cold: {reached} of {of} gateways had the snapshot after {:.2} s, {:.0} ms of CPU and {:.2} MiB each",
        elapsed.as_secs_f64(),
        ms(cost.cpu) / each,
        mib(cost.bytes) / each,
    )
}

/// The restart, in a line.
pub fn herd_line(herd: &Herd) -> String {
    let after = |share| (herd.offset + herd.current.at(share)).as_secs_f64();
    format!(
        "restart: it answers after {:.2} s; {} of {} gateways are current: half after {:.2} s, 99 % after {:.2} s, the last \
         after {:.2} s; {:.1} s of CPU; {} tries failed",
        herd.ready.as_secs_f64(),
        herd.reached.0,
        herd.reached.1,
        after(0.5),
        after(0.99),
        after(1.0),
        herd.cpu.as_secs_f64(),
        herd.refused,
    )
}

/// The page: `machine` stands below its title.
pub fn markdown(outcome: &Outcome, plan: &Plan, machine: &str) -> String {
    let mut page = format!(
        "# A fleet against one control plane\n\nWritten by `make fleet`; how is in [the README](../README.md#fleet), what follows \
         in [SCALING.md](../../control/SCALING.md).\n\n{machine}- {} policies of {} endpoints, groups of {}, {} registrations at \
         once when filling up, {} registrations and as many ends a second beside publishing, {} publications each; medians of \
         these\n\n![chart](fleet.svg)\n\n",
        plan.policies, plan.endpoints, plan.group, plan.in_flight, plan.pace, plan.publishes
    );
    sizes(&mut page, outcome);
    let seen: Vec<String> = outcome.steps.iter().filter_map(troubles).collect();
    if !seen.is_empty() {
        let _ = writeln!(page, "\nTrouble:\n\n{}", seen.join("\n"));
    }
    let _ = writeln!(
        page,
        "\nAt the largest size:\n\n- {}\n- {}\n- {}{}\n- At the end {} of {} gateways are where control says they are, {} \
         miss leases or have too many, {} registrations or ends never got a good answer.",
        events_line(&outcome.events),
        cold_line(&outcome.cold, plan.cold),
        herd_line(&outcome.herd),
        named(&outcome.herd.failures),
        outcome.agreed.1,
        outcome.agreed.0,
        outcome.wrong,
        outcome.failed,
    );
    page
}

fn sizes(page: &mut String, outcome: &Outcome) {
    let row = |page: &mut String, name: &str, of: &dyn Fn(&Figures) -> String| {
        let cells: Vec<String> = outcome.steps.iter().map(of).collect();
        let _ = writeln!(page, "| {name} | {} |", cells.join(" | "));
    };
    row(page, "gateways", &|one| one.connected.0.to_string());
    let _ = writeln!(page, "|---|{}", "---|".repeat(outcome.steps.len()));
    row(page, "leases", &|one| one.living.to_string());
    row(page, "connecting the new ones, s", &|one| {
        format!("{:.1}", one.connected.1.as_secs_f64())
    });
    row(page, "standing still: control's CPU, % of a core", &|one| {
        format!("{:.1}", one.idle.share() * 100.0)
    });
    row(
        page,
        "published → in force everywhere, p50 / p99 / last, ms",
        &|one| cell(&one.quiet, one.step.gateways),
    );
    row(page, "… CPU of one publication, ms", &|one| {
        format!("{:.0}", cpu_of_one(&one.quiet, &one.idle))
    });
    row(page, "… KiB of one publication to one gateway", &|one| {
        let gateways = one.connected.0.max(1) * one.quiet.all.len().max(1);
        format!("{:.1}", one.quiet.cost.bytes as f64 / 1024.0 / gateways as f64)
    });
    row(page, "registrations/s, as many as go", &|one| {
        format!("{:.0}", one.filled.rate())
    });
    row(page, "… p50 / p99, ms", &|one| {
        format!(
            "{:.1} / {:.1}",
            ms(one.filled.waits.at(0.5)),
            ms(one.filled.waits.at(0.99))
        )
    });
    row(page, "… CPU of one, µs", &|one| {
        let each = one.filled.waits.len().max(1) as f64;
        format!("{:.0}", one.filling.cpu.as_secs_f64() * 1e6 / each)
    });
    row(page, "… commits to gateways for one", &|one| {
        let each = one.filled.waits.len().max(1) as f64;
        format!("{:.1}", one.filling.commits as f64 / each)
    });
    row(
        page,
        "registrations beside publishing, paced: p50 / p99, ms",
        &|one| {
            format!(
                "{:.1} / {:.1}",
                ms(one.paced.waits.at(0.5)),
                ms(one.paced.waits.at(0.99))
            )
        },
    );
    row(page, "… control's CPU, % of a core", &|one| {
        format!("{:.0}", one.busy.cost.share() * 100.0)
    });
    row(
        page,
        "published beside those → in force, p50 / p99 / last, ms",
        &|one| cell(&one.busy, one.step.gateways),
    );
    row(page, "control's memory, MiB", &|one| {
        format!("{:.0}", mib(one.memory[2]))
    });
    row(page, "… for a new gateway, KiB", &|one| {
        format!("{:.1}", each(one.memory[0], one.memory[1], one.added.0))
    });
    row(page, "… for a new lease, KiB", &|one| {
        format!("{:.2}", each(one.memory[1], one.memory[2], one.added.1))
    });
}

fn troubles(one: &Figures) -> Option<String> {
    let [again, failed, unseen, late] = one.trouble;
    if again + failed + unseen + late + one.lost + one.wrong as u64 == 0 && one.failures.is_empty() {
        return None;
    }
    Some(format!(
        "- {} gateways: {again} registrations or ends told again, {failed} never answered well, {unseen} answered before \
         the whole group had them, {late} late; {} connections lost; {} gateways miss leases{}",
        one.step.gateways,
        one.lost,
        one.wrong,
        named(&one.failures)
    ))
}

fn named(failures: &BTreeMap<String, u64>) -> String {
    let mut most: Vec<_> = failures.iter().collect();
    most.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    most.truncate(MOST_FAILURES);
    let texts: Vec<String> = most
        .iter()
        .map(|(what, count)| format!("{count} × `{what}`"))
        .collect();
    if texts.is_empty() {
        String::new()
    } else {
        format!(" ({})", texts.join(", "))
    }
}

/// The chart of growth.
pub fn svg(outcome: &Outcome) -> Result<String> {
    let of = |figure: &dyn Fn(&Figures) -> Option<f64>| -> Vec<(f64, f64)> {
        let at = |one: &Figures| Some((one.connected.0 as f64, figure(one)?));
        outcome.steps.iter().filter_map(at).collect()
    };
    let gateways = || Axis::log("gateways");
    let mut reach = Curves::new(
        "Published → in force at every gateway",
        gateways(),
        Axis::linear("ms"),
    );
    for (name, share) in [("p50", 0.5), ("last", 1.0)] {
        reach = reach.curve(Curve::new(
            format!("{name}, quiet"),
            of(&|one| reached(&one.quiet, share)),
        ));
        let beside = of(&|one| reached(&one.busy, share));
        reach = reach.curve(Curve::new(format!("{name}, beside registrations"), beside));
    }
    let rate = Curve::new("as many as go", of(&|one| Some(one.filled.rate())));
    let still = Curve::new("standing still", of(&|one| Some(one.idle.share() * 100.0)));
    let busy = Curve::new(
        "registrations and publishing",
        of(&|one| Some(one.busy.cost.share() * 100.0)),
    );
    let memory = Curve::new("resident", of(&|one| Some(mib(one.memory[2]))));
    curves(&[
        reach,
        Curves::new("Registrations", gateways(), Axis::linear("a second")).curve(rate),
        Curves::new(
            "The control plane's processor",
            gateways(),
            Axis::linear("% of a core"),
        )
        .curve(still)
        .curve(busy),
        Curves::new("The control plane's memory", gateways(), Axis::linear("MiB")).curve(memory),
    ])
}
