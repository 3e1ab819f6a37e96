//! The hooks' settings: a small file, what the command line says over it, and what both come to.
//!
//! Owns names, defaults and bounds. The token stays in a file of its own; nothing here says its text. Whatever is wrong
//! here is wrong usage (exit code 2).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Certificate, Url};
use serde::{Deserialize, Serialize};

use super::args::{OnError, Reach as ReachArgs};
use crate::Usage;
use crate::remote::reach::{bearer, certificates};

/// Where the settings stand when nobody says otherwise.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/tidegate/hook.yaml";
/// Where every gateway is for its runners.
const DEFAULT_API: &str = "https://tidegate.internal";
/// A gateway that is there answers in a few milliseconds; one that restarts is back within this.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// A runner's people wait for it.
const MAX_TIMEOUT: Duration = Duration::from_mins(1);
/// Largest settings or token file, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// The file as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) runner_api: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) oidc: Option<String>,
    /// Of job-started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) on_error: Option<OnError>,
    /// The hook that runs after ours when a job starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chain_started: Option<PathBuf>,
    /// The hook that runs before ours when a job is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chain_completed: Option<PathBuf>,
    /// Where the scripts are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hooks: Option<PathBuf>,
}

/// How the runner API is reached.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    /// `https://tidegate.internal/`, with a slash at its end.
    pub(crate) api: Url,
    /// What is trusted instead of the system's CAs.
    pub(crate) ca: Option<Vec<Certificate>>,
    /// `Bearer …`.
    pub(super) authorization: Option<HeaderValue>,
    /// How long all of a hook's work may take.
    pub(crate) timeout: Duration,
    /// The audience to ask an OIDC token for.
    pub(super) oidc: Option<String>,
}

impl Settings {
    /// Reads the file that the command line names, else the usual one; that one may be missing.
    pub(crate) fn read(named: Option<&Path>) -> Result<Self, Usage> {
        let file = named.unwrap_or(Path::new(DEFAULT_CONFIG));
        let text = match read_bounded(file) {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(Usage(format!("can't read {}: {error}", file.display()))),
        };
        let mut read: Self = match text.trim() {
            "" => Self::default(),
            text => {
                serde_yaml::from_str(text).map_err(|error| Usage(format!("{}: {error}", file.display())))?
            }
        };
        let beside = file.parent().unwrap_or(Path::new("/"));
        for path in [&mut read.ca, &mut read.token_file].into_iter().flatten() {
            *path = beside.join(&*path);
        }
        Ok(read)
    }

    /// With what the command line says.
    #[must_use]
    pub(crate) fn over(mut self, args: &ReachArgs) -> Self {
        fn take<T: Clone>(into: &mut Option<T>, from: Option<&T>) {
            if let Some(said) = from {
                *into = Some(said.clone());
            }
        }
        take(&mut self.runner_api, args.runner_api.as_ref());
        take(&mut self.ca, args.ca.as_ref());
        take(&mut self.token_file, args.token_file.as_ref());
        take(&mut self.timeout, args.timeout.as_ref());
        take(&mut self.oidc, args.oidc.as_ref());
        self
    }

    /// The file's text.
    pub(super) fn text(&self) -> String {
        // Plain data with text keys always serializes.
        let text = serde_yaml::to_string(self).unwrap_or_default();
        format!(
            "# Settings of the hooks of `tidegate hook install`, which keeps them when it runs again.\n{text}"
        )
    }

    /// Where the runner API is.
    pub(crate) fn api(&self) -> Result<Url, Usage> {
        let text = self.runner_api.as_deref().unwrap_or(DEFAULT_API);
        let wrong = |why: &str| {
            Usage(format!(
                "runner-api: {text:?} is no address of a runner API: {why}"
            ))
        };
        let mut url: Url = text
            .parse()
            .map_err(|_| wrong("write it as https://tidegate.internal"))?;
        if url.scheme() != "https" || url.host_str().is_none() {
            return Err(wrong("tokens go to it, so it begins with https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Usage(
                "runner-api: the address holds a password; a token goes into token-file".into(),
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("it ends with its path"));
        }
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Ok(url)
    }

    /// How long all of a hook's work may take.
    pub(super) fn patience(&self) -> Result<Duration, Usage> {
        match &self.timeout {
            None => Ok(DEFAULT_TIMEOUT),
            Some(text) => duration(text),
        }
    }

    /// Everything that is needed to ask, files read.
    pub(crate) fn reach(&self) -> Result<Reach, Usage> {
        let token = self.token_file.as_deref().map(|file| {
            let text = read_bounded(file)
                .map_err(|error| Usage(format!("can't read the token file {}: {error}", file.display())))?;
            bearer(text.trim()).map_err(|error| Usage(format!("{}: {}", file.display(), error.0)))
        });
        Ok(Reach {
            api: self.api()?,
            ca: self.ca.as_deref().map(certificates).transpose()?,
            authorization: token.transpose()?,
            timeout: self.patience()?,
            oidc: self.oidc.clone(),
        })
    }
}

fn read_bounded(file: &Path) -> io::Result<String> {
    if fs::metadata(file)?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    let bytes = crate::remote::document::read_bounded(file, MAX_FILE)?;
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not in UTF-8"))
}

/// A time such as `5s` or `500ms`, from 100 ms to a minute.
fn duration(text: &str) -> Result<Duration, Usage> {
    let wrong = || {
        Usage(format!(
            "timeout: {text:?} is none; write a time from 100ms to 60s, such as 5s"
        ))
    };
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.strip_suffix('s').ok_or_else(wrong)?, 1_000),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let length = Duration::from_millis(number.saturating_mul(unit));
    if (Duration::from_millis(100)..=MAX_TIMEOUT).contains(&length) {
        Ok(length)
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_missing_file_is_all_defaults_unless_it_was_named() {
        let settings = Settings::default();
        assert_eq!(settings.api().unwrap().as_str(), "https://tidegate.internal/");
        assert_eq!(settings.patience().unwrap(), Duration::from_secs(5));
        let said = Settings::read(Some(Path::new("/nonexistent/hook.yaml")))
            .unwrap_err()
            .0;
        assert!(said.contains("can't read /nonexistent/hook.yaml"), "{said}");
    }

    #[test]
    fn the_command_line_goes_over_the_file_and_paths_are_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hook.yaml");
        fs::write(
            &file,
            "runner-api: https://gw.test\nca: ca.pem\ntimeout: 2s\non-error: continue\n",
        )
        .unwrap();
        let read = Settings::read(Some(&file)).unwrap();
        assert_eq!(read.ca, Some(dir.path().join("ca.pem")));
        assert_eq!(read.on_error, Some(OnError::Continue));
        let args = ReachArgs {
            timeout: Some("500ms".into()),
            ..ReachArgs::default()
        };
        let read = read.over(&args);
        assert_eq!(read.patience().unwrap(), Duration::from_millis(500));
        assert_eq!(read.api().unwrap().as_str(), "https://gw.test/");
        assert_eq!(serde_yaml::from_str::<Settings>(&read.text()).unwrap(), read);
    }

    #[test]
    fn what_is_wrong_is_told_by_its_name() {
        for (yaml, said) in [
            ("runner-api: http://gw.test\n", "https://"),
            ("runner-api: gw.test\n", "runner-api"),
            ("runner-api: https://me:secret@gw.test\n", "token-file"),
            ("timeout: 5\n", "timeout"),
            ("timeout: 2m\n", "timeout"),
            ("timeout: 99999999999999999999s\n", "timeout"),
            ("timeout: 10ms\n", "timeout"),
            ("token-file: /nonexistent\n", "token file"),
            ("token-file: /\n", "directory"),
            ("ca: /dev/null\n", "no certificate"),
        ] {
            let settings: Settings = serde_yaml::from_str(yaml).unwrap();
            let wrong = settings.reach().err().unwrap().0;
            assert!(wrong.contains(said), "{yaml}: {wrong}");
            assert!(!wrong.contains("secret"), "{wrong}");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hook.yaml");
        for (yaml, said) in [
            ("tokn-file: x\n", "tokn-file"),
            ("- x\n", "hook.yaml"),
            ("on-error: maybe\n", "maybe"),
        ] {
            fs::write(&file, yaml).unwrap();
            let wrong = Settings::read(Some(&file)).unwrap_err().0;
            assert!(wrong.contains(said), "{yaml}: {wrong}");
        }
        fs::write(&file, vec![b'#'; 70_000]).unwrap();
        assert!(Settings::read(Some(&file)).unwrap_err().0.contains("larger"));
    }
}
