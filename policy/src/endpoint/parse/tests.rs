//! Every row of the grammar table in the specification, by its text, and what must hold for any text.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::*;
use crate::endpoint::Transport;
use crate::endpoint::problem::Severity;
use crate::name::DnsName;

mod refused;

fn ok(text: &str) -> Endpoint {
    allowed(text).0
}

fn allowed(text: &str) -> (Endpoint, Vec<Notice>) {
    parse_endpoint(text, Role::Allowed).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn denied(text: &str) -> Endpoint {
    parse_endpoint(text, Role::Denied)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .0
}

/// The error with the token it underlines.
fn refused(text: &str) -> (Problem, String) {
    match parse_endpoint(text, Role::Allowed) {
        Err(error) => (error.problem, text[error.span].to_owned()),
        Ok((endpoint, _)) => panic!("{text} is {endpoint}"),
    }
}

fn hint(text: &str) -> String {
    parse_endpoint(text, Role::Allowed)
        .unwrap_err()
        .hint
        .unwrap_or_default()
}

fn names(endpoint: &Endpoint, name: &str) -> bool {
    match &endpoint.host {
        Host::Name(pattern) => pattern.matches(&DnsName::parse(name).unwrap()),
        Host::Net(_) => false,
    }
}

fn has(endpoint: &Endpoint, address: &str) -> bool {
    endpoint.contains_address(address.parse().unwrap())
}

/// The only notice, as `severity: text`.
fn notice(text: &str) -> String {
    match allowed(text).1.as_slice() {
        [one] => format!("{}: {}", one.kind.severity().as_str(), one.kind),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn row_plain_name_is_exactly_that_name_on_443() {
    let github = ok("github.com");
    assert_eq!(
        (github.ports, github.protocols),
        (Ports::one(443), Protocols::Tcp)
    );
    assert!(names(&github, "github.com"));
    assert!(!names(&github, "api.github.com") && !names(&github, "github.com.evil.example"));
    assert!(allowed("github.com").1.is_empty());
}

#[test]
fn row_leading_star_is_every_name_below_and_not_itself() {
    let below = ok("*.example.com:443");
    assert!(names(&below, "a.example.com") && names(&below, "a.b.c.example.com"));
    assert!(!names(&below, "example.com") && !names(&below, "badexample.com"));
}

#[test]
fn row_star_inside_of_a_label_stays_within_it() {
    let results = ok("productionresultssa*.blob.core.windows.net");
    assert!(names(&results, "productionresultssa123.blob.core.windows.net"));
    assert!(names(&results, "productionresultssa.blob.core.windows.net"));
    assert!(!names(
        &results,
        "productionresultssaevil.attacker.blob.core.windows.net"
    ));
    assert!(names(&ok("a*b*c.example.com"), "axxbyyc.example.com"));
}

#[test]
fn row_whole_label_star_not_leftmost_is_exactly_one_label() {
    let ec2 = ok("ec2.*.amazonaws.com");
    assert!(names(&ec2, "ec2.eu-west-1.amazonaws.com"));
    assert!(!names(&ec2, "ec2.amazonaws.com") && !names(&ec2, "ec2.a.b.amazonaws.com"));
    let both = ok("*.*.example.com");
    assert!(names(&both, "a.b.example.com") && !names(&both, "b.example.com"));
}

#[test]
fn row_star_alone_is_any_name_and_over_wide() {
    let any = ok("*:443");
    assert!(names(&any, "com") && names(&any, "a.b.c"));
    assert_eq!(any.ports, Ports::one(443));
    assert_eq!(
        notice("*:443"),
        "warning: over-wide: `*` matches names of any domain"
    );
    assert_eq!(
        notice("example.*"),
        "warning: over-wide: `example.*` matches names of any domain"
    );
}

#[test]
fn row_double_star_is_an_error() {
    assert_eq!(refused("**:443"), (Problem::DoubleStar, "**".into()));
    assert_eq!(refused("a.**.example.com"), (Problem::DoubleStar, "**".into()));
    assert_eq!(refused("a**b.example.com"), (Problem::DoubleStar, "**".into()));
    assert!(hint("**.example.com").contains("*.example.com"));
}

#[test]
fn row_addresses_and_ranges() {
    assert!(has(&ok("192.0.2.4:443"), "192.0.2.4") && !has(&ok("192.0.2.4:443"), "192.0.2.5"));
    let ten = ok("10.0.0.0/8:5432");
    assert_eq!(ten.ports, Ports::one(5432));
    assert!(has(&ten, "10.255.0.1") && !has(&ten, "11.0.0.1") && !names(&ten, "ten.example"));
    let v6 = ok("[2001:db8::/32]:443");
    assert!(has(&v6, "2001:db8:ffff::1") && !has(&v6, "2001:db9::1"));
    assert!(has(&ok("[2001:db8::1]:8443"), "2001:db8::1"));
    assert_eq!(ok("10.0.0.0/8").ports, Ports::one(443));
    assert_eq!(ok("10.0.0.0/8/udp"), ok("10.0.0.0/8:443/udp"));
    assert_eq!(ok("[2001:db8::1]"), ok("[2001:db8::1]:443/tcp"));
}

#[test]
fn row_port_ranges_and_every_port() {
    assert_eq!(
        ok("example.com:8000-8100").ports,
        Ports {
            first: 8000,
            last: 8100
        }
    );
    assert_eq!(ok("example.com:*").ports, Ports::ALL);
    assert_eq!(ok("example.com:1-65535").ports, Ports::ALL);
}

#[test]
fn row_case_trailing_dot_and_idna() {
    assert_eq!(ok("GitHub.COM.:443"), ok("github.com"));
    assert_eq!(ok("bücher.example"), ok("xn--bcher-kva.example"));
    assert_eq!(ok("BÜCHER.Example."), ok("xn--bcher-kva.example"));
    assert_eq!(ok("*.bücher.example"), ok("*.xn--bcher-kva.example"));
    assert_eq!(ok("a*.bücher.example"), ok("a*.xn--bcher-kva.example"));
    for ascii in [
        "rr4---sn-x.example",
        "_x.example",
        "_dmarc.example.com",
        "-a-.example",
        "xn--x.example",
    ] {
        assert!(names(&ok(ascii), ascii), "{ascii}");
    }
    assert!(
        ok("bü---x.example").to_string().starts_with("xn--"),
        "CheckHyphens is off"
    );
    assert_eq!(
        refused("bü*.example"),
        (Problem::WildcardNotAscii, "bü*.example".into())
    );
    assert_eq!(
        refused("ü＊.example").0,
        Problem::WildcardNotAscii,
        "a full-width star is no wildcard"
    );
    assert_eq!(
        refused("a\u{2100}b.example").0,
        Problem::BadCharacter('/'),
        "maps to `a/c`"
    );
    assert_eq!(
        refused("１２７.0.0.1").0,
        Problem::NeverDial("127.0.0.1/32".parse().unwrap())
    );
}

#[test]
fn row_host_bits_are_masked_with_a_warning() {
    assert_eq!(ok("10.1.2.3/8:443"), ok("10.0.0.0/8:443"));
    assert_eq!(
        notice("10.1.2.3/8:443"),
        "warning: `10.1.2.3/8` has host bits set and means `10.0.0.0/8`"
    );
    assert_eq!(allowed("10.1.2.3/8:443").1[0].span, 0..10);
    assert_eq!(
        notice("[2001:db8::1/32]"),
        "warning: `2001:db8::1/32` has host bits set and means `2001:db8::/32`"
    );
    let all = ok("0.0.0.0/0:443");
    assert!(
        has(&all, "192.0.2.1") && !names(&all, "a.example"),
        "addresses, never names"
    );
    assert_eq!(
        notice("0.0.0.0/0"),
        "warning: over-wide: `0.0.0.0/0` permits every IPv4 address (no names)"
    );
    assert_eq!(
        notice("[::/0]"),
        "warning: over-wide: `::/0` permits every IPv6 address (no names)"
    );
}

#[test]
fn row_udp_and_plain() {
    let ntp = ok("ntp.example.org:123/udp");
    assert!(
        ntp.covers(123, Transport::Udp)
            && ntp.covers(123, Transport::Quic)
            && !ntp.covers(123, Transport::Tcp)
    );
    let plain = ok("host.example:443");
    assert!(plain.covers(443, Transport::Tcp) && plain.covers(443, Transport::Quic));
    assert!(!plain.covers(443, Transport::Udp));
    assert_eq!(ok("host.example:443/TCP"), plain);
    assert_eq!(ok("host.example/udp").ports, Ports::one(443));
}

#[test]
fn row_denied_without_port_or_protocol_is_every_one() {
    let all = denied("gist.github.com");
    assert_eq!((all.ports, all.protocols), (Ports::ALL, Protocols::Any));
    assert_eq!(denied("gist.github.com:443").protocols, Protocols::Any);
    assert_eq!(denied("gist.github.com/udp").ports, Ports::ALL);
    assert_eq!(denied("gist.github.com:443/tcp").protocols, Protocols::Tcp);
    assert!(
        parse_endpoint("*", Role::Denied).unwrap().1.is_empty(),
        "a denied endpoint can't be too wide"
    );
}

#[test]
fn row_never_dial_addresses_are_errors() {
    for text in [
        "169.254.169.254:80",
        "127.0.0.1",
        "127.0.0.0/8:8080",
        "0.0.0.0",
        "224.0.0.0/4",
        "255.255.255.255",
        "168.63.129.16:80",
        "[::1]:80",
        "[::]",
        "[fe80::/10]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "[::ffff:169.254.169.254]:80",
        "[::ffff:127.0.0.0/104]",
        "[64:ff9b::a9fe:a9fe]",
    ] {
        assert!(matches!(refused(text).0, Problem::NeverDial(_)), "{text}");
    }
    let (_, notices) = parse_endpoint("169.254.169.254", Role::Denied).unwrap();
    assert_eq!(notices[0].kind.severity(), Severity::Note);
    assert!(
        has(&ok("168.0.0.0/8"), "168.1.1.1"),
        "a range that only contains one is not refused"
    );
}

#[test]
fn row_public_suffixes() {
    for (text, suffix) in [
        ("*.com", "com"),
        ("*.co.uk", "co.uk"),
        ("*.github.io", "github.io"),
        ("*.*.com", "com"),
        ("foo.*.com", "com"),
        ("*.ck", "ck"),
        ("*.foo.ck", "foo.ck"),
        ("*.рф", "xn--p1ai"),
        ("*.blob.core.windows.net", "blob.core.windows.net"),
        (
            "productionresultssa*.blob.core.windows.net",
            "blob.core.windows.net",
        ),
    ] {
        let (_, notices) = allowed(text);
        assert_eq!(notices.len(), 1, "{text}");
        assert_eq!(notices[0].kind, NoticeKind::PublicSuffix(suffix.into()), "{text}");
        assert!(notices[0].kind.refused_when_strict());
    }
    for text in [
        "*.example.com",
        "*.github.com",
        "ec2.*.amazonaws.com",
        "*.corp",
        "com",
        "*.internal.corp",
    ] {
        assert_eq!(allowed(text).1, [], "{text}");
    }
}

#[test]
fn case_star_without_a_dot_is_a_foot_gun() {
    let (endpoint, notices) = allowed("*github.com");
    assert!(names(&endpoint, "evilgithub.com") && names(&endpoint, "github.com"));
    assert!(!names(&endpoint, "a.evilgithub.com"));
    assert_eq!(notices[0].hint.as_deref(), Some("did you mean `*.github.com`?"));
    assert_eq!(
        notice("*github.com:443"),
        "warning: `*github.com` matches `evilgithub.com`, which anybody can register, and nothing below `github.com`"
    );
    assert!(allowed("*-eu.example.com").1.is_empty(), "no dot was forgotten");
    assert!(matches!(
        allowed("*-eu.com").1[0].kind,
        NoticeKind::PublicSuffix(_)
    ));
    assert_eq!(
        notice("*api.example.com"),
        "note: `*api.example.com` matches `xapi.example.com`, but nothing below `api.example.com`"
    );
}

#[test]
fn mapped_addresses_are_their_ipv4_ones() {
    assert_eq!(ok("[::ffff:192.0.2.1]:443"), ok("192.0.2.1"));
    assert_eq!(ok("[::ffff:10.0.0.0/104]:443"), ok("10.0.0.0/8"));
    assert_eq!(
        notice("[::ffff:192.0.2.1]"),
        "note: an IPv4-mapped address means the IPv4 address `192.0.2.1/32`"
    );
}

/// Text that looks like an endpoint often enough to reach every branch.
fn endpointish() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z]{1,3}",
        "[0-9]{1,3}",
        Just(".".to_owned()),
        Just("*".to_owned()),
        Just(":".to_owned()),
        Just("/".to_owned()),
        Just("-".to_owned()),
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just("::".to_owned()),
        Just("ü".to_owned()),
        Just("udp".to_owned()),
        Just("github.com".to_owned()),
        Just("10.0.0.0/8".to_owned()),
        Just("2001:db8".to_owned()),
        Just("://".to_owned()),
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_panics_and_spans_stay_inside(text in endpointish(), deny in any::<bool>()) {
        let role = if deny { Role::Denied } else { Role::Allowed };
        match parse_endpoint(&text, role) {
            Ok((endpoint, notices)) => {
                prop_assert!(endpoint.ports.first >= 1 && endpoint.ports.first <= endpoint.ports.last);
                for notice in notices {
                    prop_assert!(text.get(notice.span).is_some());
                }
            }
            Err(error) => {
                prop_assert!(text.get(error.span.clone()).is_some(), "{:?} of {text:?}", error.span);
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = parse_endpoint(&text, Role::Allowed);
    }

    #[test]
    fn display_reads_back_as_the_same_endpoint(text in endpointish(), deny in any::<bool>()) {
        let role = if deny { Role::Denied } else { Role::Allowed };
        if let Ok((endpoint, _)) = parse_endpoint(&text, role) {
            // A canonical spelling names no TCP and no "every protocol"; the list it stands in does.
            let again_as = if endpoint.protocols == Protocols::Tcp { Role::Allowed } else { role };
            let read = parse_endpoint(&endpoint.to_string(), again_as);
            if let Err(error) = &read {
                // Only a denied list may name an address that is never dialled.
                prop_assert!(role == Role::Denied && matches!(error.problem, Problem::NeverDial(_)), "{error}");
                return Ok(());
            }
            let (again, notices) = read.unwrap();
            prop_assert_eq!(&again, &endpoint, "{}", endpoint);
            let masked = notices.iter().any(|one| matches!(one.kind, NoticeKind::HostBits { .. }));
            prop_assert!(!masked, "{} is canonical", endpoint);
        }
    }
}
