//! `tidegate check`: diagnostics of policy files. Exit 0 clean, 1 errors, 3 warnings under `--strict`.

use std::process::ExitCode;

use anyhow::Context;
use tidegate_policy::document::diagnostic::Severity;
use tidegate_policy::document::render::{Style, render_all};
use tidegate_policy::document::{ParseOptions, PolicyDocument};

use crate::args::Check;
use crate::out::say;

/// Checks every file; the worst outcome is the exit code.
pub(crate) fn run(args: &Check) -> anyhow::Result<ExitCode> {
    let (mut errors, mut warnings) = (0, 0);
    let mut report = Vec::new();
    for file in &args.files {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file).with_context(|| format!("can't read the policy {name}"))?;
        let parsed = PolicyDocument::parse(&text, &ParseOptions { strict: args.strict });
        errors += parsed.count(Severity::Error);
        warnings += parsed.count(Severity::Warning);
        if args.json {
            report.push(serde_json::json!({"file": name, "diagnostics": parsed.diagnostics}));
            continue;
        }
        crate::out::print(format_args!(
            "{}",
            render_all(
                &parsed.diagnostics,
                &text,
                Style {
                    file: &name,
                    colour: false
                }
            )
        ));
        if let Some(document) = parsed.document {
            let mode = document.mode().map_or("no egress facet", |mode| mode.as_str());
            say!(
                "{name}: {mode}, {} allowed, {} denied endpoints",
                document.allowed_endpoints.len(),
                document.denied_endpoints.len()
            );
        }
    }
    if args.json {
        say!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(match (errors, warnings) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) if args.strict => ExitCode::from(3),
        (0, _) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}
