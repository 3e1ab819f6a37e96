//! Refused requests of an HTTP/1 connection: what they are told, and whether the connection outlives them.
//! Owns the skipping of bodies that nobody wants; never decides. Driven by `session`.

use tidegate_policy::detection::{Authority, Detection, HttpHost, Prefix};
use tidegate_policy::endpoint::Transport;
use tidegate_policy::event::NameSource;
use tidegate_policy::judge::flow::{Route, judge_tunnelled};
use tidegate_policy::verdict::{Reason, Refusal};

use super::decide::{Asked, Decision, Via};
use super::ledger::Entered;
use super::session::{Next, Over, Session};
use crate::context::Remarks;
use crate::explain::PageFormat;
use crate::http1::body::BodyReader;
use crate::http1::head::{HeadError, RequestFraming, RequestHead};

/// Octets of a refused request's body that are read for the sake of the next request.
const MOST_SKIPPED: u64 = 64 << 10;

impl Session<'_> {
    /// Explains a refused request. The connection takes another one where it is certain that the client
    /// has sent this one to its end.
    pub(super) async fn refuse(&mut self, head: &RequestHead, asked: &Asked, decision: &Decision) -> Next {
        let told = self.ledger.refuse(decision.entered(asked));
        let status = decision.status();
        let format = PageFormat::by_accept(head.values("accept"));
        let lasting = outlives(head);
        let bodyless = head.method() == b"HEAD";
        if !lasting {
            return self.say_last(&told.page(status, format, bodyless)).await;
        }
        let page = told.lasting_page(status, format, bodyless);
        let patience = self.context.proxy.config.timeouts.farewell;
        let skipped = async { self.client.write_all(&page).await.is_ok() && self.skip_body(head).await };
        match tokio::time::timeout(patience, skipped).await {
            Ok(true) => Next::Request,
            Ok(false) | Err(_) => self.close().await,
        }
    }

    /// Reads the body of a refused request to its end; false where it has no end within bounds.
    async fn skip_body(&mut self, head: &RequestHead) -> bool {
        let mut body = BodyReader::for_request(head.framing);
        let (mut left, mut nowhere) = (MOST_SKIPPED, Vec::new());
        while head.framing != RequestFraming::Empty && !body.is_done() {
            if self.inlet.held().is_empty() && !matches!(self.inlet.fill(self.client).await, Ok(1..)) {
                return false;
            }
            nowhere.clear();
            let Ok(advance) = body.advance(self.inlet.held(), &mut nowhere) else {
                return false;
            };
            self.inlet.take(advance.consumed);
            match left.checked_sub(advance.consumed as u64) {
                Some(less) => left = less,
                None => return false,
            }
        }
        true
    }

    /// Bytes that are no strict request. What an address endpoint permits whatever it says goes on as bytes.
    pub(super) async fn malformed(&mut self, error: &HeadError) -> Over {
        let detection = Detection::Malformed {
            prefix: Prefix::Http,
            what: error.what,
        };
        self.unreadable(&detection, error.status, error.authority.as_ref(), None)
            .await
    }

    /// A head that did not end in time.
    pub(super) async fn late(&mut self) -> Over {
        self.unreadable(&Detection::Undecided { prefix: Prefix::Http }, 408, None, None)
            .await
    }

    /// A head for which the gateway has no memory.
    pub(super) async fn no_room(&mut self) -> Over {
        let limit = Refusal::because(Reason::Limit);
        self.unreadable(
            &Detection::Undecided { prefix: Prefix::Http },
            503,
            None,
            Some(limit),
        )
        .await
    }

    async fn unreadable(
        &mut self,
        detection: &Detection,
        status: u16,
        authority: Option<&Authority>,
        refusal: Option<Refusal>,
    ) -> Over {
        let judged = match &self.via {
            Via::Flow => self.context.judge(detection),
            Via::Tunnel(target) => self
                .context
                .judge_by(|book, flow, evidence| judge_tunnelled(book, flow, target, detection, evidence)),
        };
        let mut judged = match refusal {
            Some(refusal) => judged.refused(refusal),
            None => judged,
        };
        if matches!(judged.ruling.route, Route::Dial(_)) {
            return self.as_bytes(judged, detection).await;
        }
        if let Some(Authority {
            host: HttpHost::Name(name),
            ..
        }) = authority
        {
            judged.ruling.name = Some(name.clone());
            judged.ruling.name_source = NameSource::Host;
        }
        let nobody = Authority {
            host: HttpHost::Absent,
            port: None,
        };
        let told = self.ledger.refuse(Entered {
            authority: authority.unwrap_or(&nobody),
            target_port: None,
            ruling: &judged.ruling,
            remarks: Remarks::of(detection, Transport::Tcp),
        });
        self.say_last(&told.page(status, PageFormat::Plain, false)).await;
        Over::Done
    }
}

/// Whether a client can be expected to send its next request behind this one, refused as it is.
fn outlives(head: &RequestHead) -> bool {
    let skippable = match head.framing {
        RequestFraming::Empty | RequestFraming::Chunked => true,
        RequestFraming::Length(length) => length <= MOST_SKIPPED,
    };
    // One that waits for 100 Continue may leave the body out: what comes next can't be told.
    head.keep_alive && !head.expects_continue && skippable
}
