//! Owns running a real tool inside a namespace: a clean environment, a time
//! limit, all it wrote, and its end. Every process runs in a group of its own,
//! which is ended by its id when the handle goes.
//!
//! Never inherits the caller's environment: CA-bundle and proxy variables of
//! a developer's shell would change what is tested.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin};
use tokio::task::JoinHandle;

use crate::error::{During, LabError};
use crate::wait::wait_until;

/// How long a command may take when nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(20);
/// What is kept of each output stream; the rest is read and dropped.
const OUTPUT_LIMIT: usize = 16 << 20;

/// A command to run inside a namespace. Made by [`Machine::command`](crate::Machine::command).
#[derive(Debug)]
#[must_use = "a command does nothing until it is run or spawned"]
pub struct Command {
    line: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<OsString>,
    input: Option<Vec<u8>>,
    timeout: Duration,
}

impl Command {
    /// `program` in `namespace`: found by the clean `PATH`, or a path.
    pub(crate) fn new(namespace: &str, program: &OsStr) -> Self {
        let words = ["netns", "exec", namespace].map(OsString::from);
        let mut line = vec![OsString::from("ip")];
        line.extend(words);
        line.push(program.to_owned());
        Self {
            line,
            environment: Vec::new(),
            directory: None,
            input: None,
            timeout: TIMEOUT,
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.line.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.line
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets one variable of the otherwise clean environment; the last wins.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let pair = (name.as_ref().to_owned(), value.as_ref().to_owned());
        self.environment.push(pair);
        self
    }

    /// Starts it in another directory than the lab's.
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.directory = Some(directory.as_ref().as_os_str().to_owned());
        self
    }

    /// Gives it these bytes on stdin, then the end. Without, stdin is empty.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// How long [`run`](Self::run) lets it live (20 s by default).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs it to its end, or ends it when its time is up.
    pub async fn run(mut self) -> Result<Output, LabError> {
        let timeout = self.timeout;
        let input = self.input.take();
        let mut process = self.spawn()?;
        let stdin = process.stdin();
        let feed = async {
            if let (Some(mut stdin), Some(bytes)) = (stdin, input) {
                // A tool that ended early wants no more input.
                let _closed = stdin.write_all(&bytes).await;
            }
        };
        let (status, ()) = tokio::join!(process.wait(timeout), feed);
        Ok(process.into_output(status).await)
    }

    /// Starts it and returns at once. Its stdin is open: see [`Process::stdin`].
    pub fn spawn(self) -> Result<Process, LabError> {
        let words: Vec<_> = self.line.iter().map(|word| word.to_string_lossy()).collect();
        let line = words[3..].join(" ");
        let mut command = tokio::process::Command::from(self.into_std());
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().during(format!("start `{line}`"))?;
        Ok(Process {
            stdout: Capture::start(child.stdout.take()),
            stderr: Capture::start(child.stderr.take()),
            child,
            line,
        })
    }

    /// The same for code that waits for it by itself.
    pub(crate) fn into_std(self) -> std::process::Command {
        use std::os::unix::process::CommandExt as _;
        let mut command = std::process::Command::new(&self.line[0]);
        command.args(&self.line[1..]).env_clear();
        command.envs(self.environment).process_group(0);
        if let Some(directory) = self.directory {
            command.current_dir(directory);
        }
        command
    }
}

/// What a finished command left.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub line: String,
    /// How it ended; `None` when its time was up.
    pub status: Option<ExitStatus>,
    /// What it wrote, at most 16 MiB.
    pub stdout: Vec<u8>,
    /// What it wrote, at most 16 MiB.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Whether it ended by itself with exit code 0.
    pub fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// Its exit code; `None` when a signal or the time limit ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }

    /// Its stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its stderr as text.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Itself if it succeeded; panics with all it wrote otherwise. For tests.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "often the check alone is wanted")]
    pub fn expect_success(self) -> Self {
        assert!(self.success(), "{self}");
        self
    }

    /// Itself if it ended by itself but not well; panics otherwise. For tests.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "often the check alone is wanted")]
    pub fn expect_failure(self) -> Self {
        assert!(self.status.is_some() && !self.success(), "{self}");
        self
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.status {
            Some(status) => writeln!(f, "`{}` ended with {status}", self.line)?,
            None => writeln!(f, "`{}` was ended: its time was up", self.line)?,
        }
        write!(f, "stdout: {}\nstderr: {}", self.text(), self.errors())
    }
}

/// A running command. Dropping it kills its process group.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdout: Capture,
    stderr: Capture,
    line: String,
}

impl Process {
    /// Its pid, or `None` once it has been seen to end.
    pub fn pid(&self) -> Option<i32> {
        self.child.id().map(u32::cast_signed)
    }

    /// Whether it has ended, without waiting for it.
    pub fn has_ended(&self) -> bool {
        let Some(pid) = self.pid().map(Pid::from_raw) else {
            return true;
        };
        // Leaves the status to whoever waits.
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        !matches!(waitid(Id::Pid(pid), look), Ok(WaitStatus::StillAlive))
    }

    /// Waits until all that an ended process wrote has been read; not for long,
    /// for a grandchild may hold the pipes open.
    pub(crate) async fn drained(&self) {
        let readers = [&self.stdout.reader, &self.stderr.reader];
        let _still_open = wait_until("the end of its output", Duration::from_secs(1), async || {
            let all = readers.iter().all(|reader| reader.is_finished());
            if all { Ok(()) } else { Err("open") }
        })
        .await;
    }

    /// Its stdin, once. Dropping it is the end of the input.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// What it has written to stdout so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Sends a signal to the process alone (SIGHUP, SIGTERM, SIGSTOP, …).
    pub fn signal(&self, signal: Signal) -> Result<(), LabError> {
        let pid = self.pid().map(Pid::from_raw).ok_or(nix::Error::ESRCH);
        let sent = pid.and_then(|pid| kill(pid, signal));
        sent.during(format!("send {signal} to `{}`", self.line))
    }

    /// Waits for its end; `None` when it still runs after `timeout`.
    pub async fn wait(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let end = tokio::time::timeout(timeout, wait_for(&mut self.child)).await;
        end.ok().flatten()
    }

    /// Kills it and all it started (SIGKILL), and waits until it is gone.
    pub async fn kill(mut self) -> Output {
        self.kill_group();
        let status = wait_for(&mut self.child).await;
        self.into_output(status).await
    }

    async fn into_output(mut self, status: Option<ExitStatus>) -> Output {
        self.kill_group();
        // A grandchild that left the group may hold the pipes open.
        let limit = Duration::from_secs(1);
        Output {
            line: self.line.clone(),
            status,
            stdout: self.stdout.finish(limit).await,
            stderr: self.stderr.finish(limit).await,
        }
    }

    /// Only while the leader is not reaped: afterwards its id may be another's.
    fn kill_group(&self) {
        if let Some(pid) = self.pid() {
            let _gone = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// Waiting closes stdin in tokio's own `wait`; ours must not, or a spawned
/// `cat` would end by being watched.
async fn wait_for(child: &mut Child) -> Option<ExitStatus> {
    let stdin = child.stdin.take();
    let status = child.wait().await.ok();
    child.stdin = stdin;
    status
}

/// One output stream, read as it comes so that the process never blocks on it.
#[derive(Debug)]
struct Capture {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Capture {
    fn start(stream: Option<impl AsyncRead + Unpin + Send + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bytes);
        let reader = tokio::spawn(async move {
            let Some(mut stream) = stream else { return };
            let mut chunk = vec![0; 64 << 10];
            while let Ok(read @ 1..) = stream.read(&mut chunk).await {
                let mut kept = kept.lock();
                let room = OUTPUT_LIMIT - kept.len();
                kept.extend_from_slice(&chunk[..read.min(room)]);
            }
        });
        Self { bytes, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock()).into_owned()
    }

    async fn finish(&mut self, limit: Duration) -> Vec<u8> {
        let _still_open = tokio::time::timeout(limit, &mut self.reader).await;
        self.bytes.lock().clone()
    }
}
