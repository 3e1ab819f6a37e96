//! `tidegate hook install`: scripts, settings, and the runner's `.env`.
//!
//! Owns the order: everything is read and judged before anything is written, and what is written is written whole. To run
//! it again changes nothing but what it is told to. It asks no gateway: `tidegate doctor --from-runner` does.

mod chain;
pub(crate) mod dotenv;
mod files;
pub(crate) mod script;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use super::args::Install;
use super::settings::{DEFAULT_CONFIG, Settings};
use crate::Usage;
use crate::out::say;
use chain::{Chain, is_our_script};
use script::{Role, Runs};

/// Where the scripts go when nobody says otherwise.
pub(crate) const DEFAULT_DIR: &str = "/opt/tidegate/hooks";
/// Largest `.env` that is read, in bytes.
const MAX_ENV: u64 = 1 << 20;
/// Where a runner's `.env` is kept as it was before us.
const BACKUP: &str = ".env.before-tidegate";

/// Writes or removes the hooks.
pub(super) fn run(args: &Install) -> anyhow::Result<ExitCode> {
    let config = args.reach.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG));
    let config = absolute(config)?;
    let before = if config.exists() {
        Settings::read(Some(&config))?
    } else {
        Settings::default()
    };
    let runner = args.runner_dir.as_deref().map(RunnerEnv::of).transpose()?;
    if args.uninstall {
        uninstall(&before, runner.as_ref(), args.dir.as_deref())?;
    } else {
        install(args, &config, before, runner.as_ref())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn install(
    args: &Install,
    config: &Path,
    before: Settings,
    runner: Option<&RunnerEnv>,
) -> anyhow::Result<()> {
    let old = before.hooks.clone();
    let dir = args
        .dir
        .as_deref()
        .or(old.as_deref())
        .unwrap_or(Path::new(DEFAULT_DIR));
    let dir = script::directory(dir)?;
    let settings = settings(args, before, &dir)?;
    let chain = Chain {
        started: settings.chain_started.clone(),
        completed: settings.chain_completed.clone(),
    };
    let program = program()?;
    for role in Role::BOTH {
        let path = dir.join(role.file());
        if path.exists() && !is_our_script(&path) {
            let text = "somebody else's script is there; choose another --dir, or move it and --chain it";
            return Err(Usage(format!("{}: {text}", path.display())).into());
        }
        if let Some(runner) = runner {
            runner.agrees(role, &chain)?;
        }
    }
    fs::create_dir_all(&dir).with_context(|| format!("can't make {}", dir.display()))?;
    if let Some(parent) = config.parent() {
        fs::create_dir_all(parent).with_context(|| format!("can't make {}", parent.display()))?;
    }
    put(config, &settings.text(), 0o644)?;
    for role in Role::BOTH {
        let runs = Runs {
            program: &program,
            config: plain(config)?,
            chain: chain.of(role).map(plain).transpose()?,
        };
        put(&dir.join(role.file()), &script::text(role, runs), 0o755)?;
    }
    name(&dir, runner)?;
    if let Some(old) = old.filter(|old| *old != dir) {
        remove(&old)?;
    }
    if let Some(file) = settings.token_file.as_ref().filter(|file| !file.exists()) {
        eprintln!(
            "tidegate: {} is not there yet: put the runner token into it",
            file.display()
        );
    }
    if settings.token_file.is_none() && settings.oidc.is_none() {
        eprintln!(
            "tidegate: no credential yet: jobs are registered by a runner token (--token-file) or OIDC (--oidc)"
        );
    }
    Ok(())
}

/// The settings that there were, with what the command line says; judged, but nothing of it asked.
fn settings(args: &Install, before: Settings, dir: &Path) -> anyhow::Result<Settings> {
    let mut settings = before.over(&args.reach);
    settings.on_error = args.on_error.or(settings.on_error);
    for path in [&mut settings.ca, &mut settings.token_file].into_iter().flatten() {
        *path = absolute(path)?;
    }
    settings.api()?;
    settings.patience()?;
    if let Some(ca) = &settings.ca {
        crate::remote::reach::certificates(ca)?;
    }
    let chain = Chain {
        started: settings.chain_started.take(),
        completed: settings.chain_completed.take(),
    };
    let chain = chain.with(&args.chain)?;
    settings.chain_started = chain.started;
    settings.chain_completed = chain.completed;
    settings.hooks = Some(dir.to_owned());
    Ok(settings)
}

/// Has the runner find the scripts, or says how.
fn name(dir: &Path, runner: Option<&RunnerEnv>) -> anyhow::Result<()> {
    let lines: Vec<(Role, String)> = Role::BOTH
        .into_iter()
        .map(|role| (role, dir.join(role.file()).display().to_string()))
        .collect();
    let Some(runner) = runner else {
        say!("add to the runner's .env (or name the runner with --runner-dir), then restart the runner:");
        for (role, path) in lines {
            say!("{}={path}", role.variable());
        }
        return Ok(());
    };
    let text = lines.iter().fold(runner.text.clone(), |text, (role, path)| {
        dotenv::with(&text, role.variable(), Some(path))
    });
    runner.write(&text)
}

fn uninstall(settings: &Settings, runner: Option<&RunnerEnv>, dir: Option<&Path>) -> anyhow::Result<()> {
    if let Some(runner) = runner {
        let mut text = runner.text.clone();
        for (role, chained) in [
            (Role::Started, &settings.chain_started),
            (Role::Completed, &settings.chain_completed),
        ] {
            let named = dotenv::value(&text, role.variable()).map(PathBuf::from);
            if named.is_some_and(|path| is_our_script(&path)) {
                let chained = chained.as_deref().map(plain).transpose()?;
                text = dotenv::with(&text, role.variable(), chained);
            }
        }
        runner.write(&text)?;
    }
    remove(
        dir.or(settings.hooks.as_deref())
            .unwrap_or(Path::new(DEFAULT_DIR)),
    )
}

/// Removes our scripts from a directory; nobody else's.
fn remove(dir: &Path) -> anyhow::Result<()> {
    for role in Role::BOTH {
        let path = dir.join(role.file());
        if is_our_script(&path) {
            fs::remove_file(&path).with_context(|| format!("can't remove {}", path.display()))?;
            say!("removed {}", path.display());
        }
    }
    Ok(())
}

/// A runner's `.env`.
struct RunnerEnv {
    file: PathBuf,
    text: String,
    mode: u32,
    is_there: bool,
}

impl RunnerEnv {
    fn of(dir: &Path) -> Result<Self, Usage> {
        use std::os::unix::fs::MetadataExt as _;
        let wrong = |error: &io::Error| Usage(format!("--runner-dir {}: {error}", dir.display()));
        if !fs::metadata(dir).map_err(|error| wrong(&error))?.is_dir() {
            return Err(Usage(format!(
                "--runner-dir {}: it is no directory",
                dir.display()
            )));
        }
        let file = dir.join(".env");
        if !file.exists() {
            return Ok(Self {
                file,
                text: String::new(),
                mode: 0o644,
                is_there: false,
            });
        }
        // Through a link, to keep it.
        let file = file.canonicalize().map_err(|error| wrong(&error))?;
        Ok(Self {
            text: read_env(&file)?,
            mode: fs::metadata(&file).map_err(|error| wrong(&error))?.mode() & 0o7777,
            file,
            is_there: true,
        })
    }

    /// Refuses to silence a hook that the runner has and nobody spoke of.
    fn agrees(&self, role: Role, chain: &Chain) -> Result<(), Usage> {
        let Some(named) = dotenv::value(&self.text, role.variable()).map(Path::new) else {
            return Ok(());
        };
        if is_our_script(named) || chain.of(role) == Some(named) {
            return Ok(());
        }
        Err(Usage(format!(
            "the runner has a hook already, {}; --chain {}={} lets it go on, --chain {}=none and its line removed from {} \
             lets it go",
            named.display(),
            role.word(),
            named.display(),
            role.word(),
            self.file.display()
        )))
    }

    /// Writes it, the first time with a copy of how it was.
    fn write(&self, text: &str) -> anyhow::Result<()> {
        if text == self.text {
            return Ok(());
        }
        let backup = self.file.with_file_name(BACKUP);
        if self.is_there && !backup.exists() {
            put(&backup, &self.text, self.mode)?;
        }
        put(&self.file, text, self.mode)?;
        say!("restart the runner: it reads its .env when it starts");
        Ok(())
    }
}

/// Reads a runner's `.env`.
fn read_env(file: &Path) -> Result<String, Usage> {
    let wrong = |why: String| Usage(format!("can't read {}: {why}", file.display()));
    let bytes =
        crate::remote::document::read_bounded(file, MAX_ENV).map_err(|error| wrong(error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| wrong("it is not in UTF-8".into()))
}

fn put(file: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    if files::write(file, text, mode).with_context(|| format!("can't write {}", file.display()))? {
        say!("wrote {}", file.display());
    }
    Ok(())
}

/// Where this program is, for good: not by a link that some version manager turns.
fn program() -> anyhow::Result<String> {
    let program = std::env::current_exe().context("can't find where this program is")?;
    Ok(plain(&program)?.to_owned())
}

fn absolute(path: &Path) -> Result<PathBuf, Usage> {
    std::path::absolute(path).map_err(|error| Usage(format!("{}: {error}", path.display())))
}

/// A path as text for a script.
fn plain(path: &Path) -> Result<&str, Usage> {
    let text = path.to_str().filter(|text| !text.contains(['\n', '\r', '\0']));
    text.ok_or_else(|| Usage(format!("{:?}: the path is no plain text", path.display())))
}
