//! Garbage by the thousand, and a gateway at its limits: the next client is served, and nothing leaks.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use tidegate_e2e::dns::dig;
use tidegate_e2e::{PATIENCE, block, event, gateway_by, run, run_on, start, started, wrapper};
use tidegate_lab::{Gateway, Lab, Script, wait_until};

/// xorshift64: any bytes will do, the same in every run.
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(length + 8);
        while out.len() < length {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            out.extend(self.0.to_be_bytes());
        }
        out.truncate(length);
        out
    }
}

/// A payload of this turn: noise, or noise behind a start that a parser believes.
fn garbage(noise: &mut Noise, turn: usize) -> Vec<u8> {
    let starts: [&[u8]; 8] = [
        b"",
        b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03",
        b"\x16\x03\x01\x00\x05\x01\xff\xff\xff",
        b"GET / HTTP/1.1\r\nHost: ",
        b"POST / HTTP/1.1\r\nHost: allowed.test\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x80\x2e\x01\x00\x02",
        b"CONNECT ",
    ];
    [starts[turn % starts.len()], &noise.bytes(turn * 37 % 1_500)].concat()
}

/// Opens connections one after another, says garbage and hears to the end.
fn flood_tcp(to: &str, count: usize, seed: u64) {
    let to: SocketAddr = to.parse().unwrap();
    let mut noise = Noise(seed);
    for turn in 0..count {
        // Being refused is what a flooder has to expect; so is any answer, and none.
        let Ok(mut stream) = TcpStream::connect(to) else {
            continue;
        };
        let _refused = stream.write_all(&garbage(&mut noise, turn));
        let _refused = stream.shutdown(std::net::Shutdown::Write);
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let _heard = stream.read_to_end(&mut Vec::new());
    }
}

fn flood_udp(to: &str, count: usize, seed: u64) {
    let socket = UdpSocket::bind(if to.starts_with('[') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    })
    .unwrap();
    let mut noise = Noise(seed);
    for turn in 0..count {
        // A refusal of an earlier one is reported here.
        let _refused = socket.send_to(&garbage(&mut noise, turn), to);
    }
}

/// The gateway's own process is still the one that was started, and serves.
pub(super) async fn serves(lab: &Lab, gateway: &Gateway<'_>) {
    assert!(
        gateway.process().pid().is_some(),
        "it ended: {}",
        gateway.process().stderr()
    );
    let log = gateway.process().stderr();
    assert!(!log.contains("panicked"), "{log}");
    run(lab, &["curl", "-sS", "-m", "10", "https://allowed.test/"])
        .await
        .expect_success();
    run(lab, &["curl", "-sS", "-m", "10", "http://allowed.test/"])
        .await
        .expect_success();
    assert!(dig(lab, &["evil.test"]).await.is_blocked());
    assert_eq!(lab.leaks().unwrap().packets, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l16_garbage_of_every_kind_and_then_the_next_client() {
    let lab = Lab::builder().build().unwrap();
    let raw = lab
        .raw("192.0.2.80:7000".parse().unwrap(), Script::echo())
        .unwrap();
    let gateway = started(
        &lab,
        &block(&["allowed.test:443", "allowed.test:80", "192.0.2.80:7000"]),
    )
    .await;
    run(&lab, &["curl", "-sS", "https://allowed.test/"])
        .await
        .expect_success();
    std::thread::scope(|scope| {
        for (seed, to) in [
            "192.0.2.10:443",
            "192.0.2.10:80",
            "[2001:db8:200::10]:443",
            "203.0.113.53:53",
            "192.0.2.80:7000",
            "10.77.1.1:53",
        ]
        .into_iter()
        .enumerate()
        {
            let runner = lab.runner(seed % 2);
            scope.spawn(move || runner.enter(move || flood_tcp(to, 250, seed as u64 + 1)).unwrap());
        }
        for (seed, to) in [
            "192.0.2.10:443",
            "203.0.113.53:53",
            "10.77.1.1:53",
            "[2001:db8:200::10]:443",
            "10.77.1.1:7454",
            "192.0.2.10:9",
        ]
        .into_iter()
        .enumerate()
        {
            scope.spawn({
                let runner = lab.runner(seed % 2);
                move || {
                    runner
                        .enter(move || flood_udp(to, 3_000, seed as u64 + 99))
                        .unwrap();
                }
            });
        }
    });
    serves(&lab, &gateway).await;
    assert!(
        !raw.connections().is_empty(),
        "what an address endpoint permits passes, garbage too"
    );
    event(
        &mut gateway.events(),
        &[
            ("kind", "dns"),
            ("reason", "malformed-dns"),
            ("verdict", "refuse"),
        ],
    )
    .await;
    // Past a thousand refusals a minute events are summed up; the counters know each of them at once.
    let page = gateway.metrics().await.unwrap();
    for counted in [
        "kind=\"tls\",verdict=\"refuse\",reason=\"malformed-tls\"",
        "kind=\"http\",verdict=\"refuse\",reason=\"malformed-http\"",
    ] {
        assert!(page.contains(counted), "{counted} is not in\n{page}");
    }
    gateway
        .wait_status("all flows to end", |status| status["flows_open"] == 0)
        .await
        .unwrap();
}

/// L17: with its descriptors used up the gateway refuses new flows, goes on with old ones, and opens nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l17_out_of_descriptors_is_closed_and_passes() {
    let lab = Lab::builder().build().unwrap();
    let limited = wrapper(&lab, "exec prlimit --nofile=256:256");
    let policy = block(&["allowed.test:443", "allowed.test:80", "192.0.2.80:7000"]);
    let raw = lab
        .raw("192.0.2.80:7000".parse().unwrap(), Script::echo())
        .unwrap();
    let gateway = start(gateway_by(&lab, limited, &policy).lease(1, "other", "build.yaml")).await;
    let download = [
        "curl",
        "-sS",
        "-o",
        "got",
        "https://allowed.test/slow/400000?pace=300",
    ];
    let mut download = tidegate_e2e::command(&lab, &download)
        .timeout(Duration::from_mins(1))
        .spawn()
        .unwrap();
    let path = lab.runner(0).home().join("got");
    let begun = wait_until("the first bytes", PATIENCE, async || {
        match std::fs::metadata(&path) {
            Ok(meta) if meta.len() > 0 => Ok(()),
            other => Err(format!("{other:?}; {}", download.stderr())),
        }
    });
    begun.await.unwrap();
    let to: SocketAddr = "192.0.2.80:7000".parse().unwrap();
    let held: Vec<TcpStream> = lab
        .runner(1)
        .enter(move || {
            let open = |_| TcpStream::connect_timeout(&to, Duration::from_millis(500)).ok();
            (0..400).filter_map(open).collect()
        })
        .unwrap();
    assert!(raw.connections().len() < 400, "the limit was not reached");
    // Nothing gets through that was not allowed, and the old flow goes on.
    run(
        &lab,
        &[
            "curl",
            "-sSf",
            "-m",
            "2",
            "--resolve",
            "evil.test:80:192.0.2.66",
            "http://evil.test/",
        ],
    )
    .await
    .expect_failure();
    assert!(
        lab.origins()
            .connections_to("192.0.2.66".parse().unwrap())
            .is_empty()
    );
    assert_eq!(lab.leaks().unwrap().packets, 0);
    lab.origins().release_downloads();
    let ended = download.wait(PATIENCE * 3).await.expect("the old flow ends");
    assert!(ended.success(), "{}", download.stderr());
    drop(held);
    gateway
        .wait_status("the held flows to end", |status| status["flows_open"] == 0)
        .await
        .unwrap();
    serves(&lab, &gateway).await;
    run_on(&lab, 1, &["curl", "-sS", "https://allowed.test/"])
        .await
        .expect_success();
}
