//! One upstream: its connection, one question at a time over it, its health and its metrics.
//!
//! The exchanges themselves (framing, multiplexing, TLS, HTTP/2, random ports and ids, 0x20) are
//! hickory's; this file only builds queries and takes the raw bytes of responses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use hickory_resolver::net::NetError;
use hickory_resolver::net::h2::HttpsClientStream;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::tcp::TcpClientStream;
use hickory_resolver::net::tls::tls_exchange;
use hickory_resolver::net::udp::UdpClientStream;
use hickory_resolver::net::xfer::{DnsExchange, DnsHandle as _, DnsRequestSender as _};
use hickory_resolver::proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Query};
use hickory_resolver::proto::rr::{Name, RecordType};
use metrics::{Counter, Histogram, counter, histogram};
use parking_lot::Mutex;
use rustls::ClientConfig;
use thiserror::Error;
use tidegate_policy::Moment;
use tracing::debug;

use super::Question;
use super::answer::{Answer, Rejected};
use super::config::{Timing, UpstreamSpec, UpstreamTransport};
use super::health::{Health, Standing};
use crate::clock::Clock;
use crate::wire::EDNS_UDP;

/// Questions in flight on one stream connection.
const MAX_ON_STREAM: usize = 256;

type Exchange = DnsExchange<TokioRuntimeProvider>;

/// Why one upstream gave no answer.
#[derive(Debug, Error)]
pub(crate) enum AskError {
    /// Its response is none.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The transport failed.
    #[error(transparent)]
    Net(#[from] NetError),
    /// Nothing came in time.
    #[error("no response in time")]
    Timeout,
    /// The asked name is none that hickory can write.
    #[error("the name can't be written")]
    Name,
}

impl AskError {
    /// True when a datagram can't bring the answer but a stream may: it was truncated (RFC 7766 §5), cut
    /// by our buffer, or the server does not repeat the casing by which a spoofer is told.
    fn wants_a_stream(&self) -> bool {
        matches!(
            self,
            Self::Rejected(Rejected::Truncated | Rejected::Malformed(_))
                | Self::Net(NetError::QueryCaseMismatch | NetError::Proto(_))
        )
    }

    /// True when the upstream itself is at fault: asking about a broken zone must not penalise it.
    fn is_its_fault(&self) -> bool {
        match self {
            Self::Net(_) | Self::Timeout => true,
            Self::Rejected(Rejected::Malformed(_) | Rejected::OtherQuestion) => true,
            Self::Rejected(Rejected::Code(_) | Rejected::Truncated) | Self::Name => false,
        }
    }
}

/// One upstream.
pub(crate) struct Upstream {
    spec: UpstreamSpec,
    tls: Option<Arc<ClientConfig>>,
    timing: Timing,
    clock: Clock,
    /// Owns the tasks that drive connections: they end with it.
    provider: TokioRuntimeProvider,
    /// The open stream connection; UDP needs none.
    stream: tokio::sync::Mutex<Option<Exchange>>,
    health: Mutex<Health>,
    duration: Histogram,
    failures: Counter,
}

impl Upstream {
    pub(crate) fn new(
        spec: UpstreamSpec,
        tls: Option<Arc<ClientConfig>>,
        timing: Timing,
        clock: Clock,
    ) -> Self {
        let label = spec.text.to_string();
        Self {
            duration: histogram!("tidegate_dns_upstream_duration_seconds", "upstream" => label.clone()),
            failures: counter!("tidegate_dns_upstream_failures_total", "upstream" => label),
            spec,
            tls,
            timing,
            clock,
            provider: TokioRuntimeProvider::new(),
            stream: tokio::sync::Mutex::new(None),
            health: Mutex::new(Health::default()),
        }
    }

    /// As written in the configuration.
    pub(crate) fn text(&self) -> &str {
        &self.spec.text
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.spec.address
    }

    /// Its standing; grants the probe when one is due.
    pub(crate) fn standing(&self, now: Moment) -> Standing {
        self.health.lock().standing(now)
    }

    /// True when it is not penalised.
    pub(crate) fn is_healthy(&self) -> bool {
        self.health.lock().is_healthy()
    }

    /// Asks once, within `per_try`, and notes the outcome.
    pub(crate) async fn ask(&self, question: &Question) -> Result<Answer, AskError> {
        let watch = self.clock.stopwatch();
        let outcome = tokio::time::timeout(self.timing.per_try, self.exchange(question)).await;
        let outcome = outcome.unwrap_or(Err(AskError::Timeout));
        if matches!(outcome, Err(AskError::Timeout))
            && let Ok(mut stream) = self.stream.try_lock()
        {
            // Perhaps the connection is dead and nobody said so: the next question opens another.
            // Questions that wait on it keep it.
            *stream = None;
        }
        let now = self.clock.now();
        match &outcome {
            Ok(_) => {
                self.duration.record(watch.elapsed().as_secs_f64());
                self.health.lock().answered();
            }
            Err(error) => {
                debug!(upstream = %self.spec, %error, "no answer");
                self.failures.increment(1);
                let mut health = self.health.lock();
                if error.is_its_fault() {
                    health.failed(now);
                } else {
                    health.answered();
                }
            }
        }
        outcome
    }

    async fn exchange(&self, question: &Question) -> Result<Answer, AskError> {
        if self.spec.transport == UpstreamTransport::Udp {
            match self.over_udp(question).await {
                Err(error) if error.wants_a_stream() => {
                    debug!(upstream = %self.spec, %error, "asking again over TCP");
                }
                outcome => return outcome,
            }
        }
        let response = self.over_stream(question).await?;
        Ok(Answer::accept(
            question,
            response.into_buffer(),
            self.clock.now(),
        )?)
    }

    /// A socket of its own for every question: a random port is half of what a spoofer must guess.
    async fn over_udp(&self, question: &Question) -> Result<Answer, AskError> {
        let mut sender = UdpClientStream::builder(self.spec.address, self.provider.clone())
            .with_timeout(Some(self.timing.per_try))
            .with_retry_interval_floor(u64::try_from(self.timing.hedge.as_millis()).unwrap_or(u64::MAX))
            .with_max_retries(2)
            .build();
        let mut responses = sender.send_message(request(question, true)?);
        let response = responses.next().await.ok_or(AskError::Timeout)??;
        Ok(Answer::accept(
            question,
            response.into_buffer(),
            self.clock.now(),
        )?)
    }

    /// Over the open connection; over a new one when that turns out to be closed.
    async fn over_stream(&self, question: &Question) -> Result<DnsResponse, AskError> {
        let (exchange, reused) = self.connection(None).await?;
        match send(&exchange, question).await {
            Err(AskError::Net(error)) if reused => {
                debug!(upstream = %self.spec, %error, "connecting anew");
                let (exchange, _) = self.connection(Some(())).await?;
                let outcome = send(&exchange, question).await;
                self.forget_after(&outcome).await;
                outcome
            }
            outcome => {
                self.forget_after(&outcome).await;
                outcome
            }
        }
    }

    async fn forget_after(&self, outcome: &Result<DnsResponse, AskError>) {
        if outcome.is_err() {
            *self.stream.lock().await = None;
        }
    }

    /// The open connection, or a new one. The lock is held while connecting, so that a burst of questions
    /// opens one connection; `per_try` bounds the wait.
    async fn connection(&self, anew: Option<()>) -> Result<(Exchange, bool), AskError> {
        let mut open = self.stream.lock().await;
        if let (Some(exchange), None) = (&*open, anew) {
            return Ok((exchange.clone(), true));
        }
        *open = None;
        let exchange = self.connect().await?;
        *open = Some(exchange.clone());
        Ok((exchange, false))
    }

    async fn connect(&self) -> Result<Exchange, AskError> {
        let (address, timeout, provider) = (self.spec.address, self.timing.per_try, self.provider.clone());
        let no_tls = || AskError::Net(NetError::from("no TLS configuration"));
        let connected = match &self.spec.transport {
            UpstreamTransport::Udp | UpstreamTransport::Tcp => {
                TcpClientStream::exchange(address, None, timeout, Some(MAX_ON_STREAM), provider).await
            }
            UpstreamTransport::Tls { server } => {
                let config = self.tls.as_deref().ok_or_else(no_tls)?.clone();
                tls_exchange(
                    address,
                    server.clone(),
                    config,
                    timeout,
                    Some(MAX_ON_STREAM),
                    provider,
                )
                .await
            }
            UpstreamTransport::Https { server, path } => {
                let config = self.tls.clone().ok_or_else(no_tls)?;
                let mut builder = HttpsClientStream::builder(config, provider);
                builder.request_timeout(timeout);
                builder
                    .exchange(address, Arc::clone(server), Arc::clone(path))
                    .await
            }
        };
        Ok(connected?)
    }
}

async fn send(exchange: &Exchange, question: &Question) -> Result<DnsResponse, AskError> {
    let mut responses = exchange.send(request(question, false)?);
    Ok(responses.next().await.ok_or(AskError::Timeout)??)
}

/// The gateway's own query: its EDNS, none of the client's options, the client's DO and CD.
fn request(question: &Question, randomize_case: bool) -> Result<DnsRequest, AskError> {
    let labels = question.name.labels();
    let name = Name::from_labels(labels.iter().copied()).map_err(|_| AskError::Name)?;
    let mut options = DnsRequestOptions::default();
    options.use_edns = true;
    options.edns_payload_len = EDNS_UDP;
    options.edns_set_dnssec_ok = question.dnssec_ok;
    options.recursion_desired = true;
    options.case_randomization = randomize_case;
    options.retry_interval = Duration::ZERO;
    let query = Query::query(name, RecordType::from(question.rtype));
    let request = DnsRequest::from_query(query, options);
    let (mut message, options) = request.clone().into_parts();
    message.metadata.checking_disabled = question.checking_disabled;
    Ok(DnsRequest::new(message, options).with_original_query(request.original_query().cloned()))
}
