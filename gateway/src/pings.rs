//! What is neither TCP nor UDP: events for other IP protocols, and echo requests answered by the gateway's
//! own echo where the policy allows.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_dns::subjects::Subjects as _;
use tidegate_policy::event::{EventSink, Kind};
use tidegate_policy::judge::flow::{Evidence, Route, judge_ping};
use tidegate_policy::subject::Subject;
use tidegate_policy::verdict::{Judgement, Reason, Refusal};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Receiver;

use crate::core::Core;
use crate::raw::{Echo, EchoRequest, ForeignProtocol, Observed, RawSender, SourceBudget, echo_reply};

/// Echo requests of one job a second, whatever addresses they come from.
const PER_SECOND: u32 = 10;
/// How long the gateway waits for a far host.
const PATIENCE: Duration = Duration::from_secs(5);
/// Echo requests answered at once.
const MAX_AT_ONCE: usize = 1_024;

/// Works off what the observers of all runner interfaces saw, until their queue closes.
pub(crate) async fn run(core: Arc<Core>, mut observed: Receiver<Observed>, echo: Echo, sender: RawSender) {
    let pings = Arc::new(Pings {
        budget: Mutex::new(SourceBudget::new(PER_SECOND, PER_SECOND, Core::instant())),
        room: Arc::new(Semaphore::new(MAX_AT_ONCE)),
        core,
        echo,
        sender,
    });
    while let Some(one) = observed.recv().await {
        match one {
            Observed::Foreign(packet) => pings.foreign(&packet),
            Observed::Echo(request) => pings.ping(request),
        }
    }
}

struct Pings {
    core: Arc<Core>,
    echo: Echo,
    sender: RawSender,
    budget: Mutex<SourceBudget<u64>>,
    room: Arc<Semaphore>,
}

impl Pings {
    /// Another IP protocol was dropped by the kernel; audit is no exception.
    fn foreign(&self, packet: &ForeignProtocol) {
        let subject = self.core.sources.subject(packet.source, self.core.clock.now());
        let mut event = subject.event(self.core.events.mint(), Kind::Ip, packet.source);
        event.address = Some(packet.destination);
        event.judged(&Judgement::Refuse(Refusal::because(Reason::IpProtocol)));
        event.note = Some(compact_str::format_compact!("IP protocol {}", packet.protocol));
        self.core.events.emit(event);
    }

    fn ping(self: &Arc<Self>, request: EchoRequest) {
        let subject = self.core.sources.subject(request.source, self.core.clock.now());
        let within = self.budget.lock().take(subject.id, Core::instant());
        let Some(room) = Arc::clone(&self.room).try_acquire_owned().ok().filter(|_| within) else {
            return;
        };
        let pings = Arc::clone(self);
        tokio::spawn(async move {
            pings.answer(&subject, request).await;
            drop(room);
        });
    }

    async fn answer(&self, subject: &Subject, request: EchoRequest) {
        let now = self.core.clock.now();
        let book = subject.rulebook();
        let evidence = Evidence {
            tickets: subject.tickets(),
            proven: None,
            now,
        };
        let ruling = judge_ping(&book, request.destination, evidence);
        let mut event = subject.event(self.core.events.mint(), Kind::Icmp, request.source);
        event.address = Some(request.destination);
        event.name = ruling.name;
        event.name_source = ruling.name_source;
        event.judged(&ruling.judgement);
        self.core.events.emit(event);
        let Route::Dial(permit) = ruling.route else { return };
        match self.echo.ping(permit.address(), PATIENCE).await {
            Ok(_) => {
                if let Some(reply) = echo_reply(request.destination, &request)
                    && let Err(error) = self.sender.send(&reply, request.source, request.interface)
                {
                    tracing::debug!(%error, "an echo reply was not sent");
                }
            }
            Err(error) => tracing::debug!(%error, "a far host did not answer"),
        }
    }
}
