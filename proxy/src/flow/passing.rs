//! A flow after its verdict, for as long as it lives: small, because thousands of them are idle. Owns what the
//! end of a flow needs; what led to the verdict is gone by then. Driven by [`super::enforce`].

use tidegate_policy::verdict::{Reason, Refusal};

use super::enforce::{VERSION_SEEN, finish, relaying, say};
use super::tls::TlsWatch;
use crate::context::{FlowContext, Judged, Remarks};
use crate::dial::Upstream;
use crate::leg::Leg;
use crate::record::OpenRecord;
use crate::relay::{Direction, End, Inspect, Look};

/// A permitted flow under way: all that is held of it for as long as it lives.
pub(super) struct Passing {
    pub(super) upstream: Upstream,
    /// What the client said before the verdict.
    pub(super) first: Vec<u8>,
    /// Octets of it that are its hello.
    pub(super) hello: usize,
    pub(super) record: OpenRecord,
    pub(super) hellos: Hellos,
}

impl Passing {
    /// Relays the flow to its end.
    ///
    /// Boxed, because the future would hold it twice.
    pub(super) async fn run(mut self: Box<Self>, context: &FlowContext, client: &Leg) {
        let first = std::mem::take(&mut self.first);
        let this = &mut *self;
        let end = relaying(context, client, &this.upstream.leg)
            .run(first, &mut this.hellos)
            .await;
        finish(&end, client, &this.upstream.leg, &mut this.record);
        let second = this.hellos.0.take();
        if let (End::Stopped, Some(second)) = (end, second) {
            this.hellos.0 = Some(second);
            Box::pin(self.stopped(context, client)).await;
        }
    }

    /// Looks at what the client sent behind its hello already; it is `first` that may pass.
    pub(super) fn look_behind(&mut self) -> Look {
        if self.first.len() <= self.hello {
            return Look::More;
        }
        let behind = self.first.split_off(self.hello);
        match &mut self.hellos.0 {
            Some(second) => second.watch.look(Direction::Up, &behind, &mut self.first),
            None => Look::More,
        }
    }

    /// Explains that it was ended for its second hello.
    pub(super) async fn stopped(mut self: Box<Self>, context: &FlowContext, client: &Leg) {
        let second = self.hellos.0.take();
        let ja4 = self.record.ja4();
        // The event of the permit goes before that of the refusal.
        drop(self);
        if let Some(mut second) = second {
            second.remarks.ja4 = ja4;
            second.refuse(context, client).await;
        }
    }
}

/// What is told of a second hello that is not the first one's.
pub(super) struct SecondHello {
    pub(super) watch: TlsWatch,
    pub(super) judged: Judged,
    pub(super) remarks: Remarks,
    /// The first hello up to its version: what an alert needs to answer in kind.
    pub(super) version: [u8; VERSION_SEEN],
}

impl SecondHello {
    pub(super) async fn refuse(self, context: &FlowContext, client: &Leg) {
        let Some(what) = self.watch.differs() else { return };
        let judged = self.judged.refused(Refusal::because(Reason::SecondHello));
        let explanation = context.refuse(&judged.ruling, self.remarks.noting(what));
        say(context, client, Some(explanation.alert(&self.version).to_vec())).await;
    }
}

/// The eye on a second hello, for as long as there may be one.
pub(super) struct Hellos(pub(super) Option<Box<SecondHello>>);

impl Inspect for Hellos {
    fn look(&mut self, direction: Direction, bytes: &[u8], pass: &mut Vec<u8>) -> Look {
        match &mut self.0 {
            Some(second) => second.watch.look(direction, bytes, pass),
            None => ().look(direction, bytes, pass),
        }
    }

    /// Called once the hellos are over: nothing needs to be known of them any more.
    fn release(&mut self, direction: Direction) -> Vec<u8> {
        match (&mut self.0, direction) {
            (Some(second), Direction::Up) => {
                let held = second.watch.release(direction);
                self.0 = None;
                held
            }
            (Some(_) | None, _) => Vec::new(),
        }
    }

    fn satisfied(&self) -> bool {
        self.0.is_none()
    }
}
