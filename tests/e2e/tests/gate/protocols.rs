//! Below and beside TCP and UDP (evasions.md, L rows): other IP protocols, fragments, multicast, other
//! machines' addresses, other EtherTypes. Nothing of it crosses, in audit neither.

use tidegate_e2e::hello::{self, Client, End};
use tidegate_e2e::{PATIENCE, audit, block, bound, event, flow_event, gateway, run, run_on, start, started};
use tidegate_lab::{Lab, Machine, Output, Script, UdpReply, plan, wait_until};

/// Functions that the scripts below share.
const PACKETS: &str = r"
import socket, struct, sys
def checksum(data):
    data += b'\0' * (len(data) % 2)
    total = sum(struct.unpack('>%dH' % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
def ipv4(source, target, protocol, payload, ident=7, more=False, offset=0):
    flags = (0x2000 if more else 0) | offset // 8
    head = struct.pack('>BBHHHBBH4s4s', 0x45, 0, 20 + len(payload), ident, flags, 64, protocol, 0,
                       socket.inet_aton(source), socket.inet_aton(target))
    return head[:10] + struct.pack('>H', checksum(head)) + head[12:] + payload
def udp(source, target, sport, dport, payload):
    length = 8 + len(payload)
    pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack('>BBH', 0, 17, length)
    head = struct.pack('>HHHH', sport, dport, length, 0)
    return head[:6] + struct.pack('>H', checksum(pseudo + head + payload) or 0xffff) + payload
def send(packet, target):
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    raw.sendto(packet, (target, 0))
";

/// Runs Python as the runner's root, with those functions.
async fn python(machine: &Machine, script: &str) -> Output {
    let script = format!("{PACKETS}{script}");
    machine
        .command("/usr/bin/python3")
        .args(["-c", &script])
        .run()
        .await
        .unwrap()
        .expect_success()
}

/// Asks the gateway something, so that what was sent before had its chance.
async fn settle(lab: &Lab) {
    run(lab, &["dig", "+short", "settled.test"]).await;
}

/// L05: GRE, IPIP, 6in4, SCTP, ESP, UDP-Lite and an unassigned protocol, over both families.
#[tokio::test]
async fn l05_other_ip_protocols_are_dropped_with_an_event_in_block_and_in_audit() {
    for (mode, policy) in [
        ("block", block(&["192.0.2.66:1-65535", "192.0.2.66:1-65535/udp"])),
        ("audit", audit(&[])),
    ] {
        let lab = Lab::builder().build().unwrap();
        let gateway = started(&lab, &policy).await;
        let mut events = gateway.events();
        for (target, family) in [("192.0.2.66", "AF_INET"), ("2001:db8:200::66", "AF_INET6")] {
            for protocol in [4, 41, 47, 50, 132, 136, 253] {
                let script = format!(
                    "raw = socket.socket(socket.{family}, socket.SOCK_RAW, {protocol})\n\
                     raw.sendto(b'\\0' * 32, ('{target}', 0))\n"
                );
                python(lab.runner(0), &script).await;
                let note = format!("IP protocol {protocol}");
                let fields = [
                    ("kind", "ip"),
                    ("address", target),
                    ("note", note.as_str()),
                    ("verdict", "refuse"),
                ];
                let record = event(&mut events, &fields).await;
                assert_eq!(record["reason"], "ip-protocol", "{record}");
                assert_eq!(
                    (&record["mode"], &record["job"]["job"]),
                    (&mode.into(), &"build".into()),
                    "{record}"
                );
            }
        }
        assert_eq!(lab.leaks().unwrap().packets, 0);
    }
}

/// L06: the same policy holds on the real address inside of a 6in4 or NAT64 spelling.
#[tokio::test]
async fn l06_ipv4_inside_of_ipv6_is_judged_as_what_it_is() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443", "allowed.test:80"])).await;
    run(&lab, &["dig", "+short", "allowed.test"])
        .await
        .expect_success();
    // The v4-mapped spelling never leaves the runner as IPv6.
    let outcome = hello::send(
        lab.runner(0),
        "[::ffff:192.0.2.10]:443",
        &hello::plain("allowed.test"),
    );
    assert!(outcome.accepted(), "{outcome:?}");
    // An address that embeds a refused one is refused.
    for to in ["[64:ff9b::192.0.2.66]:443", "[2002:c000:242::1]:443"] {
        let mut client = Client::connect(lab.runner(0), to);
        let outcome = client.say(&hello::plain("evil.test")).hear_all();
        assert_eq!(outcome.alert(), Some(49), "{to}: {outcome:?}");
        flow_event(
            &mut gateway.events(),
            &client,
            &[("name", "evil.test"), ("reason", "not-allowed")],
        )
        .await;
    }
    assert!(lab.origins().connections_to(plan::site(66)[0]).is_empty());
}

/// L07: fragments are judged as the datagram that they are; overlapping ones are none.
#[tokio::test]
async fn l07_fragments_are_judged_whole_and_overlaps_are_dropped() {
    let lab = Lab::builder().build().unwrap();
    let listed = lab
        .udp("192.0.2.80:5000".parse().unwrap(), UdpReply::Silence)
        .unwrap();
    let unlisted = lab
        .udp("192.0.2.80:5001".parse().unwrap(), UdpReply::Silence)
        .unwrap();
    let gateway = started(&lab, &block(&["192.0.2.80:5000/udp"])).await;
    let mut events = gateway.events();
    let halves = |port: u16, ident: u16, overlap: u16| {
        format!(
            "whole = udp('10.77.1.2', '192.0.2.80', 4000 + {ident}, {port}, b'A' * 32)\n\
             cut = 16\n\
             send(ipv4('10.77.1.2', '192.0.2.80', 17, whole[:cut + {overlap}], {ident}, more=True), '192.0.2.80')\n\
             send(ipv4('10.77.1.2', '192.0.2.80', 17, whole[cut:], {ident}, offset=cut), '192.0.2.80')\n"
        )
    };
    // A port that lies in the first fragment only, so that the second alone says nothing.
    python(lab.runner(0), &halves(5001, 1, 0)).await;
    event(
        &mut events,
        &[
            ("kind", "udp"),
            ("port", "5001"),
            ("source_port", "4001"),
            ("verdict", "refuse"),
        ],
    )
    .await;
    // The second fragment writes over a part of the first.
    python(lab.runner(0), &halves(5000, 2, 8)).await;
    python(lab.runner(0), &halves(5000, 3, 0)).await;
    wait_until("the whole datagram", PATIENCE, async || match listed.received() {
        seen if seen.iter().any(|one| one.1 == [b'A'; 32]) => Ok(()),
        seen => Err(format!("{seen:?}")),
    })
    .await
    .unwrap();
    assert_eq!(listed.received().len(), 1, "{:?}", listed.received());
    assert!(unlisted.received().is_empty());
    // A fragment of another protocol.
    python(
        lab.runner(0),
        "send(ipv4('10.77.1.2', '192.0.2.80', 47, b'x' * 16, 9, more=True), '192.0.2.80')\n",
    )
    .await;
    event(
        &mut events,
        &[
            ("kind", "ip"),
            ("address", "192.0.2.80"),
            ("note", "IP protocol 47"),
        ],
    )
    .await;
    assert_eq!(lab.leaks().unwrap().packets, 0);
}

/// D24, L13: name services without a server, multicast and broadcast.
#[tokio::test]
async fn d24_l13_multicast_and_broadcast_are_dropped() {
    let lab = Lab::builder().network(1).build().unwrap();
    // Somebody on another network of the gateway listens to everything.
    let hears = "import socket\n\
                 ear = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))\n\
                 print('ready', flush=True)\n\
                 while True:\n    \
                     packet, sender = ear.recvfrom(2048)\n    \
                     if sender[2] != 4 and b'SECRET' in packet: print(packet, flush=True)\n";
    let listener = lab
        .runner_on(1, 0)
        .command("/usr/bin/python3")
        .args(["-c", hears])
        .spawn()
        .unwrap();
    wait_until("the listener", PATIENCE, async || match listener.stdout() {
        text if text.contains("ready") => Ok(()),
        text => Err(text + &listener.stderr()),
    })
    .await
    .unwrap();
    // It does hear: the gateway's machine itself may speak there.
    python(
        lab.gw(),
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'SECRET 1', ('10.77.2.2', 9))\n",
    )
    .await;
    wait_until("the listener's first packet", PATIENCE, async || {
        match listener.stdout() {
            text if text.contains("SECRET 1") => Ok(()),
            text => Err(text),
        }
    })
    .await
    .unwrap();
    let _gateway = started(&lab, &audit(&[])).await;
    let script = "
def shout(family, target, port):
    mouth = socket.socket(family, socket.SOCK_DGRAM)
    mouth.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    mouth.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 9)
    mouth.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 9) if family == socket.AF_INET6 else None
    mouth.sendto(b'SECRET', (target, port))
for target, port in [('224.0.0.251', 5353), ('224.0.0.252', 5355), ('239.1.2.3', 9), ('255.255.255.255', 137),
                     ('10.77.1.255', 137), ('10.77.2.255', 137), ('224.0.0.251', 53)]:
    shout(socket.AF_INET, target, port)
for target, port in [('ff02::fb', 5353), ('ff02::1:3', 5355), ('ff05::9', 9), ('ff0e::9', 9), ('ff02::fb', 53)]:
    shout(socket.AF_INET6, target, port)
";
    python(lab.runner(0), script).await;
    settle(&lab).await;
    assert_eq!(lab.leaks().unwrap().packets, 0);
    assert_eq!(
        listener.stdout().matches("SECRET").count(),
        1,
        "one crossed: {}",
        listener.stdout()
    );
    assert!(
        lab.dns().log().iter().all(|query| query.name == "settled.test"),
        "{:?}",
        lab.dns().log()
    );
    // A unicast question to the gateway's own multicast DNS port is nobody's.
    let outcome = run(
        &lab,
        &[
            "dig",
            "-p",
            "5353",
            "+time=1",
            "+tries=1",
            "@10.77.1.1",
            "evil.test",
        ],
    )
    .await;
    assert!(!outcome.success(), "{outcome}");
}

/// L11: another job's address, the gateway's own, another network's and a far host's.
#[tokio::test]
async fn l11_a_forged_source_address_gets_nothing_through() {
    let lab = Lab::builder().network(1).build().unwrap();
    let server = lab
        .udp("192.0.2.80:5000".parse().unwrap(), UdpReply::Echo)
        .unwrap();
    let tcp = lab
        .raw("192.0.2.80:7000".parse().unwrap(), Script::echo())
        .unwrap();
    let builder = gateway(&lab, &block(&["allowed.test:443"])).lease(1, "other", "other.yaml");
    let other = block(&[
        "192.0.2.80:5000/udp",
        "192.0.2.80:7000",
        "allowed.test:443",
        "cdn-a.test:443",
    ]);
    let builder = builder
        .network("default-policy: other.yaml")
        .file("other.yaml", &other)
        .unwrap();
    let gateway = start(builder).await;
    let mut events = gateway.events();
    // The other job speaks, so that the gateway knows its machine.
    run_on(&lab, 1, &["dig", "+short", "allowed.test"])
        .await
        .expect_success();
    bound(&lab, 1).await;
    let datagram = |source: &str| {
        format!(
            "send(ipv4('{source}', '192.0.2.80', 17, udp('{source}', '192.0.2.80', 4321, 5000, b'x')), '192.0.2.80')\n"
        )
    };
    for source in [
        "10.77.1.1",
        "10.77.2.2",
        "198.51.100.1",
        "203.0.113.66",
        "127.0.0.1",
        "10.77.1.3",
    ] {
        python(lab.runner(0), &datagram(source)).await;
    }
    let fields = [
        ("kind", "udp"),
        ("source", "10.77.1.3"),
        ("verdict", "refuse"),
        ("reason", "spoofed-source"),
    ];
    let record = event(&mut events, &fields).await;
    assert_eq!(record["source_port"], 4321, "{record}");
    assert!(server.received().is_empty(), "{:?}", server.received());
    // A TCP handshake can't be finished with an address whose answers go elsewhere.
    let connects = "peer = socket.socket()\n\
                    peer.settimeout(1)\n\
                    peer.setsockopt(socket.IPPROTO_IP, 15, 1)\n\
                    peer.bind(('10.77.1.3', 0))\n\
                    print(peer.connect_ex(('192.0.2.80', 7000)))\n";
    let outcome = python(lab.runner(0), connects).await;
    assert_ne!(outcome.text(), "0\n", "the handshake was finished: {outcome}");
    assert!(tcp.connections().is_empty());
    // A forged question is answered with TC alone: the way back decides.
    let question = "question = b'\\0\\7\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\5cdn-a\\4test\\0\\0\\1\\0\\1'\n\
                    packet = udp('10.77.1.3', '10.77.1.1', 4322, 53, question)\n\
                    send(ipv4('10.77.1.3', '10.77.1.1', 17, packet), '10.77.1.1')\n";
    python(lab.runner(0), question).await;
    settle(&lab).await;
    let asked = lab.dns().asked("cdn-a.test");
    assert!(asked.is_empty(), "a forged question went upstream: {asked:?}");
    assert_eq!(lab.leaks().unwrap().packets, 0);
    // The owner of the address is served.
    run_on(&lab, 1, &["curl", "-sS", "https://cdn-a.test/"])
        .await
        .expect_success();
}

/// Networks are apart: the gateway is no way from one runner to another.
#[tokio::test]
async fn a_runner_of_another_network_is_reached_by_no_way() {
    let lab = Lab::builder().network(1).build().unwrap();
    let builder = gateway(&lab, &block(&["allowed.test:443"])).network("default-policy: default.yaml");
    let gateway = start(builder).await;
    let serve = ["-m", "http.server", "7000", "--bind", "::"];
    let server = lab
        .runner_on(1, 0)
        .command("/usr/bin/python3")
        .args(serve)
        .spawn()
        .unwrap();
    let mut events = gateway.events();
    for to in ["10.77.2.2:7000", "[fd77:2::2]:7000"] {
        let mut client = Client::connect(lab.runner(0), to);
        let outcome = client.say(b"\x01\x02\x03\x04").hear_all();
        assert_eq!(
            (outcome.end, outcome.received.len()),
            (End::Reset, 0),
            "{to}: {outcome:?}"
        );
        flow_event(
            &mut events,
            &client,
            &[("verdict", "refuse"), ("reason", "no-name")],
        )
        .await;
    }
    assert_eq!(server.stderr(), "");
}

/// L18: VLAN tags, other EtherTypes, and IP in frames of one's own making.
#[tokio::test]
async fn l18_frames_of_ones_own_making_are_not_forwarded() {
    let lab = Lab::builder().build().unwrap();
    let server = lab
        .udp("192.0.2.80:5000".parse().unwrap(), UdpReply::Silence)
        .unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let frames = "
mouth = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
mouth.bind(('eth0', 0))
gateway, own = bytes.fromhex('027701000000'), bytes.fromhex('027701000001')
packet = ipv4('10.77.1.2', '192.0.2.80', 17, udp('10.77.1.2', '192.0.2.80', 4000, 5000, b'x' * 40))
for kind in ['0800', '8100' + '0005' + '0800', '88a8' + '0005' + '8100' + '0006' + '0800', '8847' + '00001140',
             '8864' + '11000000' + '003c' + '0021', '88cc', '0806', '86dd', '05dc']:
    for target in [gateway, b'\\xff' * 6]:
        mouth.send(target + own + bytes.fromhex(kind) + packet)
";
    python(lab.runner(0), frames).await;
    // The one that is plain IP, to the gateway, is a flow like any other.
    let fields = [
        ("kind", "udp"),
        ("source_port", "4000"),
        ("verdict", "refuse"),
        ("reason", "no-name"),
    ];
    event(&mut gateway.events(), &fields).await;
    settle(&lab).await;
    assert!(server.received().is_empty(), "{:?}", server.received());
    assert_eq!(lab.leaks().unwrap().packets, 0);
}
