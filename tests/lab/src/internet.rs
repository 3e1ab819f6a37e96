//! Owns the threads of the fake internet: a runtime whose every thread is in
//! one namespace, and the opening of listeners there. A client that stands in
//! a machine has one too. Never knows what is said. The server modules and `Lab` drive it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::mpsc;

use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::{During, LabError};
use crate::netns;

/// How many threads serve: enough to keep a gateway on two cores busy.
const THREADS: usize = 2;

/// The runtime of the fake internet, or of one server without a lab.
#[derive(Debug)]
pub(crate) struct Internet {
    /// `None` only while being dropped.
    runtime: Option<Runtime>,
}

/// A way to start servers, for those who outlive a borrow.
#[derive(Debug, Clone)]
pub(crate) struct Ground(Handle);

impl Internet {
    /// Starts the threads inside `namespace`.
    pub(crate) fn start(namespace: &str) -> Result<Self, LabError> {
        let name = namespace.to_owned();
        let mut threads = Builder::new_multi_thread();
        threads.worker_threads(THREADS).on_thread_start(move || {
            netns::join(&name).expect("a thread enters the namespace that its lab just made");
        });
        Self::run(&mut threads)
    }

    /// Starts one thread in the network of this program, for servers on its
    /// loopback.
    pub(crate) fn here() -> Result<Self, LabError> {
        Self::run(Builder::new_multi_thread().worker_threads(1))
    }

    fn run(threads: &mut Builder) -> Result<Self, LabError> {
        let runtime = threads.thread_name("lab-internet").enable_all().build();
        Ok(Self {
            runtime: Some(runtime.during("start the internet's threads")?),
        })
    }

    pub(crate) fn ground(&self) -> Ground {
        let runtime = self.runtime.as_ref();
        Ground(runtime.expect("the runtime goes with the lab").handle().clone())
    }
}

impl Drop for Internet {
    /// Waits until the threads have left the namespace, so that it is gone when
    /// the lab is. On a thread of its own: the lab may be dropped in async code.
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        let limit = std::time::Duration::from_secs(2);
        let ending = std::thread::spawn(move || runtime.shutdown_timeout(limit));
        let _panicked = ending.join();
    }
}

impl Ground {
    /// Runs a future in the background for the lab's life.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(future);
    }

    /// Runs a short future on the internet's threads and waits for its result.
    fn finish<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, LabError>> + Send + 'static,
    ) -> Result<T, LabError> {
        let (done, result) = mpsc::sync_channel(1);
        self.0.spawn(async move {
            let _abandoned = done.send(future.await);
        });
        result
            .recv()
            .map_err(|_| crate::error::invalid("the internet", "its threads have ended"))?
    }

    /// Runs a future on these threads and waits for its result, in async code.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, LabError>> + Send + 'static,
    ) -> Result<T, LabError> {
        let ended = self.0.spawn(future).await;
        ended.map_err(|error| crate::error::invalid("work in a namespace", error))?
    }

    /// Listens for TCP connections.
    pub(crate) fn tcp(&self, address: SocketAddr) -> Result<TcpListener, LabError> {
        let listen = async move {
            let listener = TcpListener::bind(address).await;
            listener.during(format!("listen on tcp {address}"))
        };
        self.finish(listen)
    }

    /// Opens a UDP socket.
    pub(crate) fn udp(&self, address: SocketAddr) -> Result<UdpSocket, LabError> {
        let bind = async move {
            let socket = UdpSocket::bind(address).await;
            socket.during(format!("bind udp {address}"))
        };
        self.finish(bind)
    }
}
