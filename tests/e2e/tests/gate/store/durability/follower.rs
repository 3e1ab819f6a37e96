//! Owns a gateway's half of the sync stream as a test reads it: what was said is kept in a mirror, and a stream that
//! breaks is gone on from where it was.

use std::collections::BTreeSet;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::json;
use tidegate_control_wire::PROTOCOL;
use tidegate_control_wire::frame::{Assembler, Frame, Hello, Resume, ServedNetwork, read_line};
use tidegate_control_wire::mirror::Mirror;
use tidegate_control_wire::record::Change;
use tidegate_e2e::PATIENCE;
use tokio::sync::watch;

use super::super::plain::{Client, Unanswered};

/// The gateway's name, and its token's.
pub(super) const GATEWAY: &str = "gw-1";
/// Where its jobs live.
pub(super) const NETWORK: &str = "runners";

/// An open stream.
struct Stream {
    body: Incoming,
    bytes: Vec<u8>,
    assembler: Assembler,
    reset: bool,
}

impl Stream {
    async fn open(client: &mut Client, resume: Option<Resume>) -> Result<Self, Unanswered> {
        let hello = Hello {
            protocol: PROTOCOL,
            gateway: GATEWAY.into(),
            group: None,
            version: "test".into(),
            networks: vec![ServedNetwork {
                name: NETWORK.into(),
                cluster: "prod".into(),
                ranges: vec!["10.9.0.0/16".parse().unwrap()],
                ..ServedNetwork::default()
            }],
            resume,
        };
        let body = client.stream("/sync/v1/stream", &json!(hello)).await?;
        Ok(Self {
            body,
            bytes: Vec::new(),
            assembler: Assembler::default(),
            reset: false,
        })
    }

    /// The next frame; an error when the stream ended.
    async fn next(&mut self) -> Result<Frame, Unanswered> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let rest = self.bytes.split_off(end + 1);
                let line = std::mem::replace(&mut self.bytes, rest);
                return Ok(read_line(&line)
                    .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&line))));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.bytes.extend(frame.data_ref().into_iter().flatten()),
                Some(Err(_)) | None => return Err(Unanswered::Cut),
            }
        }
    }

    /// Takes in what is said until `enough` of a frame.
    async fn take(&mut self, mirror: &mut Mirror, enough: impl Fn(&Frame) -> bool) -> Result<(), Unanswered> {
        loop {
            let frame = self.next().await?;
            let over = enough(&frame);
            if let Frame::Begin { reset, .. } = frame {
                self.reset = reset;
            }
            if let Some(batch) = self.assembler.take(frame).unwrap() {
                mirror.apply(batch);
            }
            if over {
                return Ok(());
            }
        }
    }
}

/// A gateway that listens, as long as it is told to.
pub(super) struct Follower {
    client: Client,
    pub(super) mirror: Mirror,
}

impl Follower {
    /// One that heard nothing yet.
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            mirror: Mirror::new(),
        }
    }

    /// Listens until the stream breaks.
    pub(super) async fn listen(&mut self) -> Unanswered {
        let listening = async {
            let mut stream = Stream::open(&mut self.client, self.mirror.resume()).await?;
            stream.take(&mut self.mirror, |_| false).await
        };
        match listening.await {
            Err(unanswered) => unanswered,
            Ok(()) => unreachable!("a stream has no last frame"),
        }
    }

    /// Listens over all losses, until it is told to stop.
    pub(super) async fn listen_on(mut self, mut stop: watch::Receiver<bool>) -> Self {
        loop {
            tokio::select! {
                _ = self.listen() => {}
                _ = stop.wait_for(|stop| *stop) => return self,
            }
        }
    }

    /// Goes on from where it was, and compares what that comes to with what a gateway hears that begins anew.
    pub(super) async fn catch_up(&mut self) {
        let caught_up = tokio::time::timeout(PATIENCE, self.compare()).await;
        caught_up.expect("the stream says at once where it is");
    }

    async fn compare(&mut self) {
        let mut fresh = Mirror::new();
        let mut stream = Stream::open(&mut self.client, None).await.unwrap();
        let committed = |frame: &Frame| matches!(frame, Frame::Commit { .. });
        stream.take(&mut fresh, committed).await.unwrap();
        let resume = self.mirror.resume();
        let goes_on = resume.is_some();
        let mut stream = Stream::open(&mut self.client, resume).await.unwrap();
        let current = |frame: &Frame| matches!(frame, Frame::Ping { .. });
        stream.take(&mut self.mirror, current).await.unwrap();
        assert_eq!(stream.reset, !goes_on, "control knows where its gateway was");
        assert_eq!(
            held(&self.mirror),
            held(&fresh),
            "what was said before a kill stands"
        );
        for (policy, editions) in fresh.policies() {
            for edition in editions {
                assert_eq!(edition.problem, None, "half of policy {} is served", policy.name);
            }
        }
    }
}

/// What a mirror holds, thing by thing.
fn held(mirror: &Mirror) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for change in mirror.snapshot() {
        if let Change::Block(block) = change {
            all.extend(
                block
                    .add
                    .iter()
                    .map(|pattern| format!("{:?} {pattern}", block.layer)),
            );
        } else {
            all.insert(json!(change).to_string());
        }
    }
    all
}
