//! Documents on this machine: read with a bound, and shown with carets where something is wrong with them.
//!
//! Owns the way back from a place in what was sent to a place in the file that it came from (a synced file holds its
//! policy indented). What is wrong is said by the reader of documents, here or in the control plane.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::Context;
use tidegate_control::model::DiagnosticView;
use tidegate_policy::document::diagnostic::{Diagnostic, Severity};
use tidegate_policy::document::render::{Style, render_all};

use crate::Usage;

/// A document that is sent, and where in a file it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Document {
    /// What to call the file.
    pub(crate) file: String,
    /// The whole file.
    pub(crate) text: String,
    /// The document itself.
    pub(crate) yaml: String,
    /// Line of the file that the document begins with, from 1.
    pub(crate) first_line: u32,
    /// Characters before its first line.
    pub(crate) first_indent: u32,
    /// Characters before every other line.
    pub(crate) indent: u32,
}

impl Document {
    /// A file that is the document; `-` is stdin.
    pub(crate) fn read(file: &Path, most: usize) -> anyhow::Result<Self> {
        let name = if is_stdin(file) {
            "stdin".into()
        } else {
            file.display().to_string()
        };
        let bytes = read_bounded(file, most as u64).with_context(|| format!("can't read {name}"))?;
        let text = String::from_utf8(bytes).map_err(|_| anyhow::anyhow!("{name} is not in UTF-8"))?;
        Ok(Self {
            file: name,
            yaml: text.clone(),
            text,
            first_line: 1,
            first_indent: 0,
            indent: 0,
        })
    }

    /// What there is to say about the document, with lines and carets of its file. Nothing for nothing.
    pub(crate) fn render(&self, diagnostics: &[DiagnosticView]) -> String {
        let moved: Vec<Diagnostic> = diagnostics.iter().map(|one| self.place(one)).collect();
        let style = Style {
            file: &self.file,
            colour: false,
        };
        render_all(&moved, &self.text, style)
    }

    fn place(&self, one: &DiagnosticView) -> Diagnostic {
        let indent = if one.line <= 1 {
            self.first_indent
        } else {
            self.indent
        };
        Diagnostic {
            severity: match one.severity.as_str() {
                "warning" => Severity::Warning,
                "note" => Severity::Note,
                _ => Severity::Error,
            },
            line: one.line.max(1).saturating_add(self.first_line - 1),
            column: one.column.saturating_add(indent),
            length: one.length,
            message: super::show::plain(&one.message),
            hint: one.hint.as_deref().map(super::show::plain),
            token: String::new(),
        }
    }
}

/// The name of a document's file without its ending: what it is called when nothing else is said.
pub(crate) fn name_of(file: &Path, named: Option<&str>) -> Result<String, Usage> {
    if let Some(name) = named {
        return Ok(name.to_owned());
    }
    let stem = file
        .file_stem()
        .filter(|_| !is_stdin(file))
        .and_then(|stem| stem.to_str());
    stem.map(str::to_owned)
        .ok_or_else(|| Usage(format!("say what {} is called, with --name", file.display())))
}

/// `--name` is for one file.
pub(crate) fn check_names(files: usize, named: Option<&str>) -> Result<(), Usage> {
    match (files, named) {
        (2.., Some(name)) => Err(Usage(format!(
            "--name {name} is for one file, and here are {files}"
        ))),
        _ => Ok(()),
    }
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

/// Reads a file, or stdin for `-`; an error when it is larger than `most` bytes.
pub(crate) fn read_bounded(file: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if is_stdin(file) {
        io::stdin().lock().take(most + 1).read_to_end(&mut bytes)?
    } else {
        File::open(file)?.take(most + 1).read_to_end(&mut bytes)?
    };
    if read as u64 > most {
        return Err(io::Error::other(format!("it is larger than {most} bytes")));
    }
    Ok(bytes)
}
