//! What is taken, what is refused, and with which words.

use super::*;

fn parse(control: &str) -> Result<ControlConfig, ConfigError> {
    let text = format!("version: 1\ncontrol:\n{control}");
    ControlConfig::parse(&text, Path::new("/etc/tidegate/tidegate.yaml"), None)
}

#[test]
fn paths_are_relative_to_the_file() {
    let config = parse("  store: sqlite://control.db\n  bootstrap-token-file: admin\n").unwrap();
    assert_eq!(config.store, "sqlite:///etc/tidegate/control.db");
    assert_eq!(
        config.bootstrap_token.as_deref(),
        Some(Path::new("/etc/tidegate/admin"))
    );
    assert_eq!(config.listen.to_string(), LISTEN);
    let config = parse("  store: sqlite:///var/lib/x.db\n").unwrap();
    assert_eq!(config.store, "sqlite:///var/lib/x.db");
}

#[test]
fn up_without_a_section_has_a_store_of_its_own() {
    let folder = Path::new("/var/lib/tidegate");
    let config = ControlConfig::parse("version: 1\n", Path::new("/t.yaml"), Some(folder)).unwrap();
    assert_eq!(config.store, "sqlite:///var/lib/tidegate/control.db");
    assert_eq!(config.bootstrap_token, Some(folder.join("admin-token")));
}

#[test]
fn what_is_wrong_is_named_with_what_to_write() {
    for (control, wanted) in [
        ("  listen: 8443\n", "control.listen"),
        ("  listen: 0.0.0.0:8443\n  store: sqlite:///x\n", "in the clear"),
        ("  listen: 127.0.0.1:1\n", "control.store: write sqlite:///PATH"),
        ("  store: mysql://x\n", "is no store"),
        ("  store: sqlite:///x\n  lisetn: x\n", "did you mean `listen`?"),
        (
            "  store: sqlite:///x\n  oidc: [{issuer: \"http://a.test\", audience: t}]\n",
            "must begin with https://",
        ),
        (
            "  store: sqlite:///x\n  oidc: [{issuer: \"https://a.test\", audience: \"\"}]\n",
            "needs an audience",
        ),
        (
            "  store: sqlite:///x\n  oidc: [{issuer: \"https://a.test\", audience: t, owners: [acme/web]}]\n",
            "without a `/`",
        ),
        (
            "  store: sqlite:///x\n  public-url: https://t.test\n  login: {issuer: \"http://id.test\", client-id: t, \
             groups: [{group: a, role: admin}]}\n",
            "must begin with https://",
        ),
        (
            "  store: sqlite:///x\n  public-url: https://t.test\n  login: {issuer: \"https://id.test\", client-id: t, \
             groups: []}\n",
            "control.login: groups: write 1 to",
        ),
        (
            "  store: sqlite:///x\n  login: {issuer: \"https://id.test\", client-id: t, groups: [{group: a, role: admin}]}\n",
            "control.public-url: write where browsers reach this control plane",
        ),
        (
            "  store: sqlite:///x\n  public-url: https://t.test/ui\n",
            "without a path",
        ),
        (
            "  store: sqlite:///x\n  public-url: http://t.test\n",
            "control.public-url: \"http://t.test\" is not where browsers reach this",
        ),
        (
            "  store: sqlite:///x\n  public-url: \"https://u:p@t.test\"\n",
            "without a path",
        ),
        (
            "  store: sqlite:///x\n  public-url: https://t.test\n  login: {issuer: \"https://id.test\", client-id: t, \
             groups: [{group: a, role: runner}]}\n",
            "people are admin, editor or viewer",
        ),
        (
            "  store: sqlite:///x\n  public-url: https://t.test\n  login: {issuer: \"https://id.test\", client-id: t, \
             groups: [{group: a, role: admin}], scopes: [email]}\n",
            "with `openid` in it",
        ),
        (
            "  store: sqlite:///x\n  public-url: https://t.test\n  login: {issuer: \"https://id.test\", client-id: t, \
             groups: [{group: a, role: admin}], client-secret-file: none}\n",
            "can't read /etc/tidegate/none",
        ),
        (
            "  store: sqlite:///x\n  retention: {events: soon}\n",
            "is not a time span",
        ),
        (
            "  store: sqlite:///x\n  retention: {audit: 3d}\n",
            "unknown variant",
        ),
        (
            "  store: sqlite:///x\n  global-block-feed: {url: \"https://f.test\", public-key: x}\n",
            "public-key",
        ),
    ] {
        let error = parse(control).unwrap_err().to_string();
        assert!(error.contains(wanted), "{control}: {error}");
        assert!(error.starts_with("/etc/tidegate/tidegate.yaml"), "{error}");
    }
    let missing = ControlConfig::parse("version: 1\n", Path::new("/t.yaml"), None).unwrap_err();
    assert!(missing.to_string().contains("`control` is missing"), "{missing}");
}

#[test]
fn a_login_has_defaults_and_an_origin() {
    let config = parse(
        "  store: sqlite:///x\n  public-url: https://Tidegate.example.test:8443/\n  login:\n    issuer: https://id.example.test/realms/acme\n    client-id: tidegate\n    groups:\n      - {group: sec, role: admin}\n      \
         - {group: devs, role: editor, owners: [Acme]}\n",
    )
    .unwrap();
    let login = config.login.unwrap();
    assert_eq!(config.public_url.as_deref(), Some(login.public_url.as_str()));
    assert_eq!(login.public_url, "https://tidegate.example.test:8443");
    assert_eq!(login.scopes, ["openid", "profile", "email"]);
    assert_eq!(
        (login.groups_claim.as_str(), login.name_claim.as_deref()),
        ("groups", None)
    );
    assert_eq!(login.groups[1].owners, ["acme"]);
    assert!(config.oidc.is_empty(), "an issuer of people signs for no job");
}

#[test]
fn where_browsers_come_to_needs_no_login() {
    for (written, read) in [
        ("https://Tidegate.example.test/", "https://tidegate.example.test"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ] {
        let config = parse(&format!("  store: sqlite:///x\n  public-url: {written}\n")).unwrap();
        assert_eq!(config.public_url.as_deref(), Some(read));
    }
    let config = parse("  store: sqlite:///x\n").unwrap();
    assert_eq!(config.public_url, None);
}
