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
