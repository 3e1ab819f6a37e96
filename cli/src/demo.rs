//! `tidegate demo`: a lab of network namespaces, a gateway, two jobs with real tools, and what became of it.
//!
//! Everything shown comes from running programs and from the gateway's own events; nothing is staged.

mod attempts;
mod summary;

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;
use tidegate_lab::{EventLog, Gateway, GatewayBuilder, Lab};

use crate::args::Demo;
use attempts::{AUDIT_POLICY, Attempt, BLOCK_POLICY, DEFAULT_POLICY, Expect};

/// How long the demo waits for the events of one attempt.
const PATIENCE: Duration = Duration::from_secs(5);

/// Columns of the table where no terminal says how wide it is.
const WIDTH: u16 = 180;

/// Builds the lab, runs the jobs, prints the table and the summary. Fails when an attempt came out otherwise
/// than its policy says.
pub(crate) fn run(args: &Demo) -> anyhow::Result<ExitCode> {
    if args.sweep {
        for gone in tidegate_lab::sweep()? {
            println!("removed {gone}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !nix_is_root() {
        anyhow::bail!("the demo makes network namespaces; run it as root");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(show(args))
}

fn nix_is_root() -> bool {
    // /proc/self is owned by the effective user of this process.
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

async fn show(args: &Demo) -> anyhow::Result<ExitCode> {
    println!("Building a lab: two runners, the gateway, a small internet.");
    let lab = Lab::builder()
        .runners(2)
        .git()
        .build()
        .context("can't build the lab")?;
    let gateway = start(&lab).await?;
    println!("The gateway is the runners' default route and only resolver.\n");
    println!(
        "Job `build` (10.77.1.2) has this policy:\n\n{}",
        indented(BLOCK_POLICY)
    );
    println!(
        "Job `nightly` (10.77.1.3) has this one:\n\n{}",
        indented(AUDIT_POLICY)
    );
    let mut events = gateway.events();
    let mut surprises = 0;
    let mut table = new_table();
    let mut seen = Vec::new();
    for attempt in attempts::all(&lab) {
        seen.extend_from_slice(events.events());
        events.forget();
        let outcome = attempt.run(&lab).await?;
        let verdict = attempt.verdict(&mut events, PATIENCE).await;
        let fits = attempt.fits(&outcome, verdict.as_ref());
        surprises += u32::from(!fits);
        show_live(&attempt, &outcome.line, verdict.as_ref(), fits)?;
        table.add_row(row(&attempt, &outcome.line, verdict.as_ref()));
    }
    println!("\n{table}\n");
    seen.extend_from_slice(events.events());
    println!(
        "# Summary of job `build`, as its runner would see it\n\n{}",
        summary::markdown(&seen, "build")
    );
    println!(
        "# Summary of job `nightly`\n\n{}",
        summary::markdown(&seen, "nightly")
    );
    let leaks = lab.leaks()?;
    println!(
        "Packets that crossed the gateway with a runner's address: {}.",
        leaks.packets
    );
    if args.keep {
        keep(&lab, &gateway)?;
    }
    drop(gateway);
    lab.close().context("can't remove the lab")?;
    if surprises > 0 || leaks.packets > 0 {
        anyhow::bail!("{surprises} attempts came out otherwise than their policy says");
    }
    Ok(ExitCode::SUCCESS)
}

async fn start(lab: &Lab) -> anyhow::Result<Gateway<'_>> {
    let binary = std::env::current_exe().context("can't find this program")?;
    GatewayBuilder::new(lab, binary)
        .file("default.yaml", DEFAULT_POLICY)?
        .file("build.yaml", BLOCK_POLICY)?
        .file("nightly.yaml", AUDIT_POLICY)?
        .file(
            "block.txt",
            "# refused for everyone, in audit too\nmalware.test\n*.malware.test\n",
        )?
        .section("global-block: [block.txt]")
        .network("default-policy: default.yaml")
        .lease(0, "build", "build.yaml")
        .lease(1, "nightly", "nightly.yaml")
        .start()
        .await
        .context("can't start the gateway")
}

fn keep(lab: &Lab, gateway: &Gateway<'_>) -> anyhow::Result<()> {
    println!("\nThe lab stays up. Try things as the job, for example:");
    println!(
        "  ip netns exec {} curl -sS https://allowed.test/",
        lab.runner(0).name()
    );
    println!("  tail -f {}", gateway.path("events.ndjson").display());
    println!("Press Enter to remove it.");
    std::io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

fn new_table() -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic);
    if !std::io::stdout().is_terminal() {
        table.set_width(WIDTH);
    }
    table.set_header([
        "job",
        "attempt",
        "what the tool saw",
        "verdict",
        "reason",
        "rule or nearest",
        "event",
    ]);
    table
}

/// One line as soon as an attempt has ended.
fn show_live(attempt: &Attempt, line: &str, verdict: Option<&Value>, fits: bool) -> anyhow::Result<()> {
    let mark = if fits { ' ' } else { '!' };
    let verdict = verdict.map_or("no event", |event| event["verdict"].as_str().unwrap_or_default());
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{mark} {:<8} {:<52} {:<13} {line}",
        attempt.job, attempt.title, verdict
    )?;
    out.flush()?;
    Ok(())
}

fn row(attempt: &Attempt, line: &str, verdict: Option<&Value>) -> Vec<String> {
    let field = |name: &str| {
        verdict
            .and_then(|event| event[name].as_str())
            .map_or_else(String::new, ToOwned::to_owned)
    };
    let rule = Some(field("rule"))
        .filter(|rule| !rule.is_empty())
        .unwrap_or_else(|| field("nearest"));
    vec![
        attempt.job.to_owned(),
        attempt.title.to_owned(),
        line.to_owned(),
        field("verdict"),
        field("reason"),
        rule,
        field("id"),
    ]
}

fn indented(text: &str) -> String {
    text.lines().flat_map(|line| ["    ", line, "\n"]).collect()
}

impl Attempt {
    /// The event that tells how this attempt was decided.
    async fn verdict(&self, events: &mut EventLog, patience: Duration) -> Option<Value> {
        let wanted = |event: &Value| {
            event["job"]["job"] == self.job
                && event[self.key] == self.value
                && event["kind"] == self.kind
                && event["verdict"] == self.expect.verdict()
        };
        let found = events.wait_for(self.title, patience, wanted).await;
        if let Err(error) = &found {
            tracing::debug!(%error, "no event fits the attempt");
        }
        found.ok()
    }

    fn fits(&self, outcome: &attempts::Outcome, verdict: Option<&Value>) -> bool {
        let through = matches!(self.expect, Expect::Permitted | Expect::WouldRefuse);
        verdict.is_some() && outcome.through == through
    }
}
