//! What only the lab can do for a scenario: a job begins or ends on a runner, a command runs there.
//!
//! Owns the lines of JSON that the scenarios send over a socket: `{"id": 1, "do": "run", …}` is answered with
//! `{"id": 1, "done": …}` or `{"id": 1, "failed": "why"}`, one after another. Expects nothing of what comes of it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_e2e::PATIENCE;
use tidegate_lab::{Answer, Api, Lab, plan, wait_until};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::world::World;

/// How long a command on a runner may take.
const COMMAND: Duration = Duration::from_secs(20);

/// Where the scenarios reach the lab.
pub(crate) fn socket(lab: &Lab) -> PathBuf {
    lab.dir().join("hands.sock")
}

/// Waits for what scenarios ask of the lab.
pub(crate) struct Hands<'a> {
    world: &'a World<'a>,
    listener: UnixListener,
}

impl<'a> Hands<'a> {
    /// Listens; whoever connects may send lines.
    pub(crate) fn open(world: &'a World<'a>) -> io::Result<Self> {
        let listener = UnixListener::bind(socket(world.lab))?;
        Ok(Self { world, listener })
    }

    /// Does what it is told, one connection after another; ends only when the socket fails.
    pub(crate) async fn serve(&self) -> io::Error {
        loop {
            match self.listener.accept().await {
                // A connection ends with its process, whose end is seen elsewhere.
                Ok((stream, _)) => drop(self.converse(stream).await),
                Err(error) => return error,
            }
        }
    }

    async fn converse(&self, stream: UnixStream) -> io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        while let Some(line) = lines.next_line().await? {
            let asked: Value = serde_json::from_str(&line)?;
            let answer = match self.act(&asked).await {
                Ok(done) => json!({"id": asked["id"], "done": done}),
                Err(why) => json!({"id": asked["id"], "failed": why}),
            };
            write.write_all(format!("{answer}\n").as_bytes()).await?;
        }
        Ok(())
    }

    async fn act(&self, asked: &Value) -> Result<Value, String> {
        match asked["do"].as_str() {
            Some("say") => {
                println!("{}", text(asked, "text"));
                Ok(Value::Null)
            }
            Some("run") => self.run(asked).await,
            Some("register") => self.register(asked).await,
            Some("end") => {
                let path = ("POST", "/v1/jobs/current/end");
                let answer = self.ask(asked, path, None).await?;
                Ok(json!({"status": answer.status}))
            }
            other => Err(format!(
                "nothing is called {other:?}; say, run, register and end are"
            )),
        }
    }

    /// Runs a command line on a runner.
    async fn run(&self, asked: &Value) -> Result<Value, String> {
        let line = asked["line"].as_array().ok_or("a command needs its line")?;
        let words: Vec<_> = line.iter().filter_map(Value::as_str).collect();
        let (program, args) = words.split_first().ok_or("a command needs a program")?;
        let runner = self.world.lab.runner(runner(asked));
        let command = runner.command(program).args(args).timeout(COMMAND);
        let output = command.run().await.map_err(|error| error.to_string())?;
        Ok(json!({"code": output.code(), "out": output.text(), "err": output.errors()}))
    }

    /// Begins a job on a runner. The first one waits until the gateway knows the runner token.
    async fn register(&self, asked: &Value) -> Result<Value, String> {
        let registered = wait_until("the job to be registered", PATIENCE, async || {
            let answer = self.ask(asked, ("POST", "/v1/jobs"), Some(&asked["job"])).await;
            match answer {
                Ok(answer) if answer.status == 201 => Ok(answer.json()),
                Ok(answer) => Err(answer.to_string()),
                Err(error) => Err(error),
            }
        });
        registered.await.map_err(|error| error.to_string())
    }

    /// Asks the runner API from a runner.
    async fn ask(
        &self,
        asked: &Value,
        (method, path): (&str, &str),
        body: Option<&Value>,
    ) -> Result<Answer, String> {
        let door = self.door(runner(asked))?;
        let answer = door.call(method, path, Some(&self.world.runner), body).await;
        answer.map_err(|error| error.to_string())
    }

    fn door(&self, runner: usize) -> Result<Api, String> {
        let lab = self.world.lab;
        let address = (plan::gateway_v4(0), 443).into();
        let api = lab.api(lab.runner(runner), address, "tidegate.internal");
        api.map_err(|error| error.to_string())
    }
}

/// Which runner is meant: the first, when none is said.
fn runner(asked: &Value) -> usize {
    let number = asked["runner"].as_u64().unwrap_or_default();
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn text<'v>(asked: &'v Value, field: &str) -> &'v str {
    asked[field].as_str().unwrap_or_default()
}
