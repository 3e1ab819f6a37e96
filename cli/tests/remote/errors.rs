//! What goes wrong between here and there: one sentence on stderr, and the exit code.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tidegate_control::model::{NewToken, Role};

use crate::fake::Fake;
use crate::plane::{POLICY, Plane, Ran, tidegate, wanted};

const LIST: [&str; 4] = ["policy", "list", "--owner", "acme"];

fn with(args: &[&str], env: &[(&str, &str)]) -> Ran {
    let mut command = tidegate(args);
    command.envs(env.iter().copied());
    Ran::of(command.output().unwrap())
}

#[test]
fn wrong_usage_is_told_before_anybody_is_asked() {
    let server = ("TIDEGATE_SERVER", "https://control.test:1");
    let token = ("TIDEGATE_TOKEN", "tga_secret");
    for (args, env, said) in [
        (LIST.as_slice(), vec![token], "--server"),
        (&LIST, vec![server], "--token-file"),
        (
            &LIST,
            vec![("TIDEGATE_SERVER", "http://control.test:1"), token],
            "is not this machine",
        ),
        (
            &LIST,
            vec![("TIDEGATE_SERVER", "http://192.0.2.1:1"), token],
            "use https://",
        ),
        (
            &LIST,
            vec![("TIDEGATE_SERVER", "control.test"), token],
            "is no address",
        ),
        (
            &LIST,
            vec![server, ("TIDEGATE_TOKEN", "two words")],
            "the token is empty",
        ),
        (
            &[
                "policy",
                "list",
                "--owner",
                "acme",
                "--token-file",
                "/nonexistent",
            ],
            vec![server],
            "can't read /nonexistent",
        ),
        (
            &["policy", "list", "--owner", "acme", "--ca", "/dev/null"],
            vec![server, token],
            "holds no certificate",
        ),
        (&["policy", "list"], vec![server, token], "--owner"),
        (
            &["policy", "list", "--owner", ".."],
            vec![server, token],
            "\"..\" is no name",
        ),
        (
            &["policy", "show", "", "--owner", "acme"],
            vec![server, token],
            "\"\" is no name",
        ),
        (
            &["policy", "apply", "a", "b", "--name", "c", "--owner", "acme"],
            vec![server, token],
            "is for one file",
        ),
        (
            &["policy", "apply", "-", "--owner", "acme"],
            vec![server, token],
            "--name",
        ),
        (&["policy", "effective"], vec![server, token], "--repo"),
        (
            &["job", "start", "--source", "10.0.0.1", "--repo", "web"],
            vec![server, token],
            "write OWNER/NAME",
        ),
        (
            &["job", "start", "--source", "nowhere", "--repo", "a/b"],
            vec![server, token],
            "invalid IP address",
        ),
        (
            &["token", "create", "--role", "king", "--name", "x"],
            vec![server, token],
            "is not a role",
        ),
        (
            &[
                "token",
                "create",
                "--role",
                "viewer",
                "--name",
                "x",
                "--expires",
                "soon",
            ],
            vec![server, token],
            "90d",
        ),
        (
            &["audit", "verify", "--head", "7"],
            vec![server, token],
            "is no hash",
        ),
    ] {
        let ran = with(args, &env);
        assert_eq!(ran.code, 2, "{args:?} {env:?}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains(said), "{args:?}: {}", ran.err);
        assert!(
            !ran.err.contains("tga_secret") && !ran.err.contains("two words"),
            "{}",
            ran.err
        );
    }
}

#[test]
fn a_server_that_is_not_there_is_named_with_the_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let ran = with(
        &LIST,
        &[("TIDEGATE_SERVER", &server), ("TIDEGATE_TOKEN", "tga_x")],
    );
    assert_eq!(ran.code, 1);
    let said =
        format!("tidegate: can't reach the control plane {server}/: Connection refused (os error 111)\n");
    assert_eq!(ran.err, said);
}

#[test]
fn a_token_that_is_not_good_or_may_not_is_told_what_is_needed() {
    let plane = Plane::new();
    plane.write("none", "tga_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n");
    plane.write("viewer", &plane.token(&wanted(Role::Viewer, "dash")));
    let other = NewToken {
        owners: vec!["other".into()],
        ..wanted(Role::Editor, "elsewhere")
    };
    plane.write("other", &plane.token(&other));
    let by = |token: &str, args: &[&str]| {
        let mut command = tidegate(args);
        command
            .env("TIDEGATE_SERVER", &plane.server)
            .arg("--token-file")
            .arg(plane.path(token));
        Ran::of(command.output().unwrap())
    };
    let ran = by("none", &LIST);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("is not known, was revoked or has expired"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("(HTTP 401)"), "{}", ran.err);
    assert!(by("viewer", &LIST).code == 0);
    let ran = by("viewer", &["token", "list"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err
            .contains("a token of role viewer, and this needs admin (HTTP 403)"),
        "{}",
        ran.err
    );
    let ran = by("other", &LIST);
    assert!(
        ran.err
            .contains("is for the owners other, not for \"acme\" (HTTP 403)"),
        "{}",
        ran.err
    );
}

#[test]
fn what_is_no_control_plane_is_said_to_be_none() {
    let html = Fake::new(vec![("404 Not Found", "", "<html>\u{1b}[2Jnginx</html>".into())]);
    let ran = html.run(&LIST);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err
            .contains("does not say why; is it a control plane? (HTTP 404)"),
        "{}",
        ran.err
    );
    let odd = Fake::new(vec![("200 OK", "", "hello".into())]);
    assert!(
        odd.run(&LIST).err.contains("is not understood"),
        "{}",
        odd.run(&LIST).err
    );
    let odd = Fake::new(vec![(
        "200 OK",
        "",
        "{\"items\": [{\"name\": 7}], \"next\": null}".into(),
    )]);
    assert!(odd.run(&LIST).err.contains("is not understood"));
}

#[test]
fn a_redirect_is_not_followed_with_the_token() {
    let thief = Fake::new(vec![("200 OK", "", "{\"items\": [], \"next\": null}".into())]);
    let location = format!("location: {}/api/v1/orgs/acme/policies\r\n", thief.server);
    let fake = Fake::new(vec![("307 Temporary Redirect", &location, String::new())]);
    let ran = fake.run(&LIST);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("name that one with --server (HTTP 307)"),
        "{}",
        ran.err
    );
    assert!(thief.asked.lock().unwrap().is_empty());
    let asked = fake.asked.lock().unwrap().join("");
    assert!(asked.contains("authorization: Bearer tga_fake\r\n"), "{asked}");
    assert!(asked.contains("tidegate-via: cli\r\n"), "{asked}");
}

#[test]
fn a_proxy_of_the_environment_never_reads_a_token_in_clear_text() {
    let proxy = Fake::new(vec![("502 Bad Gateway", "", String::new())]);
    let fake = Fake::new(vec![("200 OK", "", "{\"items\": [], \"next\": null}".into())]);
    let env = [
        ("TIDEGATE_SERVER", fake.server.as_str()),
        ("TIDEGATE_TOKEN", "tga_x"),
        ("http_proxy", &proxy.server),
        ("all_proxy", &proxy.server),
    ];
    let ran = with(&LIST, &env);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(proxy.asked.lock().unwrap().is_empty());
}

#[test]
fn when_to_come_again_is_said() {
    let problem = "{\"detail\": \"too many wrong tokens were shown from this address\", \"status\": 429}";
    let fake = Fake::new(vec![(
        "429 Too Many Requests",
        "retry-after: 7\r\n",
        problem.into(),
    )]);
    let ran = fake.run(&LIST);
    assert!(
        ran.err.contains("from this address; try again in 7 s (HTTP 429)"),
        "{}",
        ran.err
    );
}

#[test]
fn pages_without_an_end_are_refused() {
    let page = "{\"items\": [], \"next\": \"again\"}";
    let fake = Fake::new(vec![("200 OK", "", page.into())]);
    let ran = fake.run(&LIST);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("is said to be itself"), "{}", ran.err);
    assert_eq!(fake.asked.lock().unwrap().len(), 2);
}

#[test]
fn a_change_that_somebody_else_was_faster_with_is_told_and_nothing_is_lost() {
    let plane = Plane::new();
    plane.policy("base", POLICY);
    let read = plane.json(&["policy", "show", "base"]).to_string();
    let stale =
        "{\"detail\": \"policy acme/base is at version 2 by now; read it again and merge your change\"}";
    let fake = Fake::new(vec![
        ("200 OK", "etag: \"1-abc\"\r\n", read.clone()),
        ("412 Precondition Failed", "", stale.into()),
    ]);
    let file = plane.write("base.yaml", "egress-policy: audit\n");
    let ran = fake.run(&["policy", "apply", file.to_str().unwrap(), "--owner", "acme"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err
            .contains("policy \"base\" was not applied: policy acme/base is at version 2 by now"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("(HTTP 412)"), "{}", ran.err);
    let asked = fake.asked.lock().unwrap().clone();
    assert!(
        asked[1].starts_with("PUT /api/v1/orgs/acme/policies/base "),
        "{asked:?}"
    );
    assert!(asked[1].contains("if-match: \"1-abc\"\r\n"), "{asked:?}");
    let fake = Fake::new(vec![("200 OK", "", read)]);
    let ran = fake.run(&["policy", "delete", "base", "--owner", "acme"]);
    assert!(ran.err.contains("it has no ETag"), "{}", ran.err);
    assert_eq!(fake.asked.lock().unwrap().len(), 1, "nothing is deleted blindly");
}

/// A CA, and a certificate for the loopback address of it.
fn certificates(dir: &Path) -> (PathBuf, PathBuf, PathBuf) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::from_params(&ca, &ca_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let chain = leaf.signed_by(&key, &issuer).unwrap().pem();
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    (
        write("ca.pem", &ca_pem),
        write("chain.pem", &chain),
        write("key.pem", &key.serialize_pem()),
    )
}

#[test]
fn a_private_ca_is_trusted_when_it_is_named_and_only_then() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, chain, key) = certificates(dir.path());
    let plane = Plane::over(Some((&chain, &key)));
    let ca = ca.to_str().unwrap();
    assert!(
        plane
            .ok(&["policy", "list", "--ca", ca])
            .contains("no such policy")
    );
    let other = tempfile::tempdir().unwrap();
    let (other, ..) = certificates(other.path());
    let ran = plane.run(&["policy", "list", "--ca", other.to_str().unwrap()]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("invalid peer certificate"), "{}", ran.err);
    assert!(ran.err.contains("--ca"), "{}", ran.err);
}
