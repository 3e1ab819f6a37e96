//! Owns a `tidegate control` process in the lab's control machine: its
//! configuration, its certificate, its life. How it is talked to is `door`'s.
//! Knows the program only by its command line, its files and its HTTP API.
//! Tests drive it.

mod door;
mod section;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::api::{Answer, Api, ApiRequest};
use crate::command::Process;
use crate::error::{During, LabError};
use crate::lab::Lab;
use crate::plan;
use crate::program::{self, Program, StartError};

pub use self::door::ControlApi;
pub use self::section::ControlSection;

pub(crate) use self::section::ADMIN_TOKEN;

/// What a control plane is configured with before it starts. It stands in
/// [`Lab::ctl`], as `https://control.test:8443` over both families, with a
/// certificate of the lab's CA.
#[derive(Debug)]
pub struct ControlBuilder<'a> {
    lab: &'a Lab,
    binary: PathBuf,
    dir: PathBuf,
    section: ControlSection,
}

/// A running control plane. Dropping it kills it.
#[derive(Debug)]
pub struct Control {
    program: Program,
    door: ControlApi,
}

impl<'a> ControlBuilder<'a> {
    /// A control plane for `lab`, run from the program at `binary`, with its
    /// files in a directory `control`.
    pub fn new(lab: &'a Lab, binary: impl Into<PathBuf>) -> Self {
        Self::named(lab, "control", binary)
    }

    /// The same with a directory of another name, for a fresh one later.
    pub fn named(lab: &'a Lab, name: &str, binary: impl Into<PathBuf>) -> Self {
        let section = ControlSection::default()
            .listen(&format!("[::]:{}", plan::CONTROL_PORT))
            .tls("cert: cert.pem, key: cert.key");
        Self {
            lab,
            binary: binary.into(),
            dir: lab.dir().join(name),
            section,
        }
    }

    /// Writes a file beside the configuration.
    pub fn file(self, name: &str, text: &str) -> Result<Self, LabError> {
        program::write(&self.dir, name, text)?;
        Ok(self)
    }

    /// Keeps everything in another store than `sqlite://control.db`: a URL, of
    /// a [`PostgresServer::start_in`](crate::PostgresServer::start_in) the
    /// control machine, say.
    #[must_use]
    pub fn store(mut self, url: &str) -> Self {
        self.section = self.section.store(url);
        self
    }

    /// Trusts an issuer of the lab's internet, for this audience.
    #[must_use]
    pub fn issuer(self, url: &str, audience: &str) -> Self {
        let ca = self.lab.ca_pem_path();
        let entry = format!(
            "issuer: \"{url}\", audience: {audience}, ca: \"{}\"",
            ca.display()
        );
        self.oidc(&entry)
    }

    /// Adds an entry to `oidc` as written, without the braces.
    #[must_use]
    pub fn oidc(mut self, entry: &str) -> Self {
        self.section = self.section.oidc(entry);
        self
    }

    /// Adds any other key, on one line: `retention: {events: 1d}`.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.section = self.section.key(key);
        self
    }

    /// Writes the configuration, starts control and waits until it is ready.
    pub async fn start(self) -> Result<Control, StartError> {
        let control = self.launch()?;
        control.ready().await?;
        Ok(control)
    }

    /// Starts control without waiting for it.
    pub fn launch(self) -> Result<Control, LabError> {
        let (lab, machine) = (self.lab, self.lab.ctl());
        std::fs::create_dir_all(&self.dir).during("make control's directory")?;
        let (v4, v6) = (plan::CONTROL_V4.to_string(), plan::CONTROL_V6.to_string());
        let names = [plan::CONTROL_NAME, &v4, &v6, "127.0.0.1", "::1"];
        lab.ca().issue_files(&self.dir, "cert", &names)?;
        let address = SocketAddr::from((plan::CONTROL_V4, plan::CONTROL_PORT));
        let api = Api::https(machine, address, plan::CONTROL_NAME, lab.ca())?;
        let door = ControlApi::new(api, self.dir.join(ADMIN_TOKEN));
        let config = format!("version: 1\n{}", self.section.text());
        let program = Program::launch(machine, self.binary, "control", self.dir, &config)?;
        Ok(Control { program, door })
    }
}

impl Control {
    /// `https://control.test:8443`
    pub fn url(&self) -> String {
        format!("https://{}:{}", plan::CONTROL_NAME, plan::CONTROL_PORT)
    }

    /// Sends a request with a bearer token and a JSON body, if any.
    pub async fn api(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer, LabError> {
        self.door.api(method, path, token, body).await
    }

    /// A request with more to say: `If-Match`, a YAML body, another timeout.
    pub fn request(&self, method: &str, path: &str) -> ApiRequest<'_> {
        self.door.request(method, path)
    }

    /// The first admin token; waits until control has written it.
    pub async fn admin_token(&self) -> Result<String, LabError> {
        self.door.admin_token().await
    }

    /// Where a file beside the configuration is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.program.path(name)
    }

    /// Writes a file beside the configuration, in one rename as editors do.
    pub fn write(&self, name: &str, text: &str) -> Result<(), LabError> {
        self.program.write(name, text)
    }

    /// The process.
    pub fn process(&self) -> &Process {
        self.program.process()
    }

    /// Waits until `/readyz` answers 200.
    pub async fn ready(&self) -> Result<(), StartError> {
        let ready = async || self.door.is_ready().await;
        self.program.wait_up("control to be ready", ready).await
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub async fn kill(&mut self) -> Result<(), LabError> {
        self.program.kill().await
    }

    /// Asks it to drain and end (SIGTERM), and waits for that.
    pub async fn stop(&mut self, patience: Duration) -> Result<Option<i32>, LabError> {
        self.program.stop(patience).await
    }

    /// Starts it again with the same files, after [`Control::kill`] or
    /// [`Control::stop`].
    pub async fn restart(&mut self) -> Result<(), StartError> {
        self.program.respawn()?;
        self.ready().await
    }
}
