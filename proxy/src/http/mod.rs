//! Cleartext HTTP in block mode. Owns what happens to a flow whose first bytes are a request or the HTTP/2
//! preface; never sees TLS. Driven by `flow::enforce`.

use tidegate_policy::detection::{Authority, Detection, HttpHost};

use crate::budget::Share;
use crate::context::FlowContext;
use crate::detect::{Detector, Step};
use crate::flow::{Finding, carry_out};
use crate::leg::Leg;
use crate::route::Early;

/// A flow that begins as cleartext HTTP, before any verdict.
pub(crate) struct Cleartext {
    /// The first request's head ([`Step::Http`]), or the preface ([`Step::H2c`]).
    pub(crate) first: Step,
    /// Every byte read so far.
    pub(crate) detector: Detector,
    /// What they hold of the budget.
    pub(crate) share: Share,
    /// A connection to the flow's own address that was dialled meanwhile.
    pub(crate) early: Option<Early>,
}

/// Serves the flow to its end: judges the first request, then relays or explains.
pub(crate) async fn serve(context: &FlowContext, client: &Leg, cleartext: Cleartext) {
    let Cleartext { first, detector, share, early } = cleartext;
    let nobody = || Detection::Http(Authority { host: HttpHost::Absent, port: None });
    let detection = first.detection().unwrap_or_else(nobody);
    carry_out(context, client, Finding { detection, step: Some(first), detector, share }, early).await;
}
