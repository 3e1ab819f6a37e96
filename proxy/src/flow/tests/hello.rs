//! Hellos after the first, and what may hide in one: HelloRetryRequest (T65) and ECH (T54, T55).

use tidegate_policy::event::Kind;
use tidegate_policy::verdict::{Reason, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{POLICY, judged};
use crate::relay::Path;
use crate::testing::tls::{Site, server_name, with_ech};
use crate::testing::{Bench, PATIENCE, accept, in_net, origin, read_all, read_exactly, until};

#[test]
fn t65_an_honest_second_hello_passes_and_the_rest_is_spliced() {
    in_net(|| async {
        let (bench, site) = (Bench::new(POLICY), Site::retrying(&["a.test"]));
        bench.ticket("a.test", "192.0.2.10");
        let listener = origin("192.0.2.10:443").await;
        let server = async {
            let mut tls = site.acceptor.accept(accept(&listener).await).await.unwrap();
            let mut got = vec![0; 1 << 20];
            tls.read_exact(&mut got).await.unwrap();
            tls.write_all(b"done").await.unwrap();
        };
        let client = async {
            let stream = bench.connect("192.0.2.10:443").await;
            let mut tls = site
                .connector
                .connect(server_name("a.test"), stream)
                .await
                .unwrap();
            tls.write_all(&vec![7; 1 << 20]).await.unwrap();
            let mut got = [0; 4];
            tls.read_exact(&mut got).await.unwrap();
        };
        tokio::join!(server, client);
        let spliced = || bench.proxy.means.moved(Path::Splice);
        until(|| spliced() > 1 << 19, || format!("{} spliced", spliced())).await;
        assert!(
            bench.proxy.means.moved(Path::Copy) < 1 << 19,
            "only the handshake and what came in small pieces was copied"
        );
    });
}

#[test]
fn t65_a_second_hello_for_another_host_ends_the_flow() {
    in_net(|| async {
        let (bench, site) = (Bench::new(POLICY), Site::retrying(&["a.test", "e.test"]));
        bench.ticket("a.test", "192.0.2.10");
        let listener = origin("192.0.2.10:443").await;
        let server = tokio::spawn({
            let acceptor = site.acceptor.clone();
            async move { acceptor.accept(accept(&listener).await).await.map(drop) }
        });
        let mut stream = bench.connect("192.0.2.10:443").await;
        stream.write_all(&site.hello("a.test")).await.unwrap();
        let mut header = [0; 5];
        stream.read_exact(&mut header).await.unwrap();
        let retry = read_exactly(
            &mut stream,
            usize::from(u16::from_be_bytes([header[3], header[4]])),
        )
        .await;
        assert_eq!((header[0], retry[0]), (22, 2), "a HelloRetryRequest");
        stream.write_all(&site.hello("e.test")).await.unwrap();
        let said = read_all(&mut stream).await.unwrap();
        assert_eq!(said[said.len() - 7..], [21, 3, 3, 0, 2, 2, 49], "{said:?}");
        let refused = tokio::time::timeout(PATIENCE, server).await.unwrap().unwrap();
        assert!(refused.is_err(), "the second hello reached the origin");
        assert_eq!(bench.events.nth(1).await.verdict, Verdict::Permit);
        let event = bench.events.nth(2).await;
        assert_eq!(
            judged(&event),
            (Kind::Tls, Verdict::Refuse, Some(Reason::SecondHello)),
            "{event:?}"
        );
        assert_eq!(event.name.unwrap().to_string(), "a.test");
    });
}

#[test]
fn t65_audit_only_records_a_second_hello_for_another_host() {
    in_net(|| async {
        let (bench, site) = (
            Bench::new(&POLICY.replace("block", "audit")),
            Site::retrying(&["a.test", "e.test"]),
        );
        bench.ticket("a.test", "192.0.2.10");
        let listener = origin("192.0.2.10:443").await;
        let server = tokio::spawn({
            let acceptor = site.acceptor.clone();
            async move { acceptor.accept(accept(&listener).await).await.map(drop) }
        });
        let mut stream = bench.connect("192.0.2.10:443").await;
        stream.write_all(&site.hello("a.test")).await.unwrap();
        assert_eq!(read_exactly(&mut stream, 6).await[5], 2, "a HelloRetryRequest");
        stream.write_all(&site.hello("e.test")).await.unwrap();
        // What the origin makes of it is its own business; that it got it shows in its answer.
        tokio::time::timeout(PATIENCE, server)
            .await
            .unwrap()
            .unwrap()
            .unwrap_err();
        drop(stream);
        let event = bench.events.nth(1).await;
        assert_eq!(
            judged(&event),
            (Kind::Tls, Verdict::WouldRefuse, Some(Reason::SecondHello)),
            "{event:?}"
        );
        assert_eq!(bench.events.nth(2).await.verdict, Verdict::Permit);
    });
}

#[test]
fn t55_ech_with_a_published_config_is_refused_though_our_dns_never_gave_it() {
    in_net(|| async {
        let (bench, site) = (Bench::new(POLICY), Site::ordinary(&["a.test"]));
        bench.ticket("a.test", "192.0.2.10");
        bench
            .names
            .ech
            .lock()
            .insert(crate::testing::name("a.test"), vec![77]);
        let _listener = origin("192.0.2.10:443").await;
        let mut stream = bench.connect("192.0.2.10:443").await;
        stream
            .write_all(&with_ech(&site.hello("a.test"), 77))
            .await
            .unwrap();
        assert_eq!(read_all(&mut stream).await.unwrap(), [21, 3, 3, 0, 2, 2, 49]);
        let event = bench.events.nth(1).await;
        assert_eq!(
            judged(&event),
            (Kind::Tls, Verdict::Refuse, Some(Reason::Ech)),
            "{event:?}"
        );
        assert_eq!(bench.names.asked.lock().as_slice(), ["HTTPS a.test"]);
    });
}

#[test]
fn t54_grease_ech_passes_with_a_remark() {
    in_net(|| async {
        let (bench, site) = (Bench::new(POLICY), Site::ordinary(&["a.test"]));
        bench.ticket("a.test", "192.0.2.10");
        let listener = origin("192.0.2.10:443").await;
        let hello = with_ech(&site.hello("a.test"), 78);
        let mut stream = bench.connect("192.0.2.10:443").await;
        stream.write_all(&hello).await.unwrap();
        let mut server = accept(&listener).await;
        assert_eq!(read_exactly(&mut server, hello.len()).await, hello);
        drop((server, stream));
        assert!(bench.events.nth(1).await.ech_present);
    });
}

#[test]
fn d13_looking_for_published_configs_counts_in_the_dns_budget() {
    in_net(|| async {
        let policy = "egress-policy: block\nplatform: none\nallowed-endpoints: \"*.w.test:443\"\n";
        let (bench, site) = (Bench::new(policy), Site::ordinary(&["payload.w.test"]));
        bench
            .names
            .spent
            .store(true, std::sync::atomic::Ordering::Relaxed);
        let mut stream = bench.connect("192.0.2.10:443").await;
        let hello = with_ech(&site.hello("payload.w.test"), 77);
        stream.write_all(&hello).await.unwrap();
        assert_eq!(read_all(&mut stream).await.unwrap(), [21, 3, 3, 0, 2, 2, 49]);
        assert_eq!(
            bench.names.asked.lock().as_slice(),
            [""; 0],
            "the query itself is the leak"
        );
        let event = bench.events.nth(1).await;
        assert_eq!(
            judged(&event),
            (Kind::Tls, Verdict::Refuse, Some(Reason::DnsBudget)),
            "{event:?}"
        );
    });
}
