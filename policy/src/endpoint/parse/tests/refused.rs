//! What is no endpoint: never a silent port 0, never a dropped entry, and a message that names what was found.

use super::*;

#[test]
fn row_urls_and_paths() {
    assert_eq!(
        refused("https://github.com/x"),
        (Problem::Url, "https://github.com/x".into())
    );
    assert_eq!(hint("https://github.com/x"), "write `github.com`");
    assert_eq!(
        hint("http://user@mirror.example/x?y"),
        "write `mirror.example:80`"
    );
    assert_eq!(hint("https://a b/"), "");
    assert_eq!(
        refused("github.com/actions/checkout"),
        (
            Problem::Protocol("actions/checkout".into()),
            "/actions/checkout".into()
        )
    );
    assert_eq!(refused("github.com:443/icmp").1, "/icmp");
}

#[test]
fn row_ports_that_are_none() {
    for (text, token) in [
        ("github.com:abc", "abc"),
        ("github.com:0", "0"),
        ("github.com:443x", "443x"),
        ("github.com:65536", "65536"),
        ("github.com:+443", "+443"),
        ("github.com:0443", "0443"),
        ("github.com:4４3", "4４3"),
        ("github.com:99999999999999999999", "99999999999999999999"),
        ("github.com:0-80", "0"),
        ("github.com:80-", ""),
        ("github.com:80-90-100", "90-100"),
        ("github.com:443:443", "443:443"),
        ("github.com:443(https)", "443(https)"),
    ] {
        assert_eq!(refused(text).0, Problem::Port(token.into()), "{text}");
    }
    assert_eq!(refused("github.com:"), (Problem::Port(String::new()), ":".into()));
    assert_eq!(refused("github.com:443x").1, "443x");
    assert_eq!(
        refused("github.com:90-80"),
        (Problem::PortOrder { first: 90, last: 80 }, "90-80".into())
    );
    assert_eq!(refused(":443").0, Problem::NoHost);
}

#[test]
fn row_spaces_and_odd_characters() {
    assert_eq!(
        refused("git hub.com:443x"),
        (Problem::BadCharacter(' '), " ".into())
    );
    assert_eq!(refused("a@b.example"), (Problem::BadCharacter('@'), "@".into()));
    assert_eq!(refused("a\\b.example").0, Problem::BadCharacter('\\'));
    assert_eq!(refused("${{ vars.HOST }}").0, Problem::BadCharacter('$'));
    assert_eq!(refused("a\u{0}b.example").0, Problem::BadCharacter('\0'));
    assert_eq!(refused("").0, Problem::Empty);
}

#[test]
fn row_brackets() {
    assert_eq!(refused("[::1"), (Problem::Bracket, "[::1".into()));
    assert_eq!(refused("2001:db8::1").0, Problem::BareV6);
    assert_eq!(
        hint("2001:db8::/32"),
        "write `[2001:db8::/32]`, and the port after the brackets"
    );
    assert_eq!(
        hint("::1:443"),
        "write `[::1:443]`, and the port after the brackets"
    );
    assert_eq!(
        refused("[2001:db8::]/32:443"),
        (Problem::PrefixOutside, "/32".into())
    );
    assert_eq!(
        hint("[2001:db8::]/32:443"),
        "write the prefix length inside of the brackets: [2001:db8::/32]"
    );
    assert_eq!(
        refused("[2001:db8::1]443"),
        (Problem::AfterHost("443".into()), "443".into())
    );
    assert_eq!(refused("[fe80::1%eth0]").1, "fe80::1%eth0");
    assert_eq!(refused("[example.com]:443").1, "example.com");
    assert_eq!(hint("[192.0.2.1]:443"), "brackets are for IPv6 only");
    assert_eq!(refused("[2001:db8::/129]").1, "129");
    assert_eq!(refused("[]").1, "");
}

#[test]
fn row_labels_and_lengths() {
    assert_eq!(refused("a..b"), (Problem::EmptyLabel, "..".into()));
    assert_eq!(refused("."), (Problem::EmptyLabel, ".".into()));
    assert_eq!(refused("github.com.."), (Problem::EmptyLabel, "..".into()));
    assert_eq!(
        hint(".example.com"),
        "every name below it is written `*.example.com`"
    );
    let label = "a".repeat(64);
    assert_eq!(
        refused(&format!("x.{label}.example")),
        (Problem::LabelTooLong(64), label.clone())
    );
    assert!(parse_endpoint(&label[1..], Role::Allowed).is_ok());
    let name = format!("{0}.{0}.{0}.{1}", &label[1..], &label[..61]);
    assert!(names(&ok(&name), &name));
    assert_eq!(refused(&format!("{name}a")).0, Problem::NameTooLong(254));
    assert_eq!(
        refused(&"ü".repeat(400_000)).0,
        Problem::NameTooLong(400_000),
        "in no time"
    );
    assert_eq!(
        refused(&format!("{}.example", "ü".repeat(60))).0,
        Problem::LabelTooLong(66)
    );
}

#[test]
fn row_digits_and_dots_are_addresses_or_errors() {
    for text in [
        "1.2.3",
        "256.1.1.1",
        "0x7f.1",
        "010.0.0.1",
        "1.2.3.4.5",
        "a.1",
        "1.2.3.0x10",
        "2130706433",
    ] {
        assert!(
            matches!(refused(text).0, Problem::NotAnAddress { v6: false, .. }),
            "{text}"
        );
    }
    assert_eq!(
        hint("10.0.*.*"),
        "write a range of addresses as a prefix, like `10.0.0.0/8`"
    );
    assert_eq!(
        refused("10.0.0.0/33:443"),
        (
            Problem::PrefixLength {
                longest: 32,
                text: "33".into()
            },
            "33".into()
        )
    );
    assert_eq!(refused("10.0.0.0/255.0.0.0").1, "255.0.0.0");
    assert_eq!(refused("10.0.0.0/08").1, "08");
    assert!(names(&ok("1password.example"), "1password.example"));
    assert!(names(&ok("1.2.3.4.example"), "1.2.3.4.example"));
}

#[test]
fn messages_name_what_was_found_and_expected() {
    let message = |text: &str| parse_endpoint(text, Role::Allowed).unwrap_err().to_string();
    assert_eq!(
        message("a.example:abc"),
        "expected a port from 1 to 65535, a range like `8000-8100`, or `*`, found `abc`"
    );
    assert_eq!(message("a.example/x"), "expected `/tcp` or `/udp`, found `x`");
    assert_eq!(
        message("256.0.0.1"),
        "expected an IPv4 address, found `256.0.0.1`"
    );
    assert_eq!(message("[x]"), "expected an IPv6 address, found `x`");
    assert_eq!(
        message("169.254.169.254:80"),
        "the gateway never dials 169.254.169.254/32"
    );
    assert!(
        message(&format!("a.example:{}", "9".repeat(5000))).len() < 200,
        "long tokens are cut"
    );
}
