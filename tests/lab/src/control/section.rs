//! Owns the text of the `control:` section of a configuration. Text only;
//! `ControlBuilder` and `GatewayBuilder::up` write it into files.

/// The name of the file with the first admin token, in the program's directory.
pub(crate) const ADMIN_TOKEN: &str = "admin-token";

/// What the `control:` section of a configuration says. It begins with
/// `listen: "127.0.0.1:8443"` in the clear, SQLite in `control.db` and the
/// first admin token in `admin-token`, both in the program's directory.
#[derive(Debug, Clone)]
pub struct ControlSection {
    listen: String,
    tls: Option<String>,
    store: String,
    oidc: Vec<String>,
    keys: Vec<String>,
}

impl Default for ControlSection {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8443".to_owned(),
            tls: None,
            store: "sqlite://control.db".to_owned(),
            oidc: Vec::new(),
            keys: Vec::new(),
        }
    }
}

impl ControlSection {
    /// Listens at another address.
    #[must_use]
    pub fn listen(mut self, address: &str) -> Self {
        address.clone_into(&mut self.listen);
        self
    }

    /// The `tls` section's keys: `cert: c.pem, key: k.pem`.
    #[must_use]
    pub fn tls(mut self, keys: &str) -> Self {
        self.tls = Some(keys.to_owned());
        self
    }

    /// Keeps everything in another store: a URL.
    #[must_use]
    pub fn store(mut self, url: &str) -> Self {
        url.clone_into(&mut self.store);
        self
    }

    /// Adds an issuer of job identities as written, without the braces:
    /// `issuer: "https://issuer.test", audience: tidegate`.
    #[must_use]
    pub fn oidc(mut self, entry: &str) -> Self {
        self.oidc.push(entry.to_owned());
        self
    }

    /// Adds any other key, on one line: `retention: {events: 1d}`.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.keys.push(key.to_owned());
        self
    }

    /// The section's lines.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("control:\n  listen: \"{}\"\n", self.listen);
        if let Some(tls) = &self.tls {
            text.extend(["  tls: {", tls, "}\n"]);
        }
        text.extend(["  store: \"", &self.store, "\"\n"]);
        text.extend(["  bootstrap-token-file: ", ADMIN_TOKEN, "\n"]);
        if !self.oidc.is_empty() {
            text += "  oidc:\n";
        }
        for entry in &self.oidc {
            text.extend(["    - {", entry, "}\n"]);
        }
        for key in &self.keys {
            text.extend(["  ", key, "\n"]);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::ControlSection;

    #[test]
    fn the_section_is_yaml_in_the_order_of_its_documentation() {
        let section = ControlSection::default()
            .listen("[::]:8443")
            .tls("cert: c.pem, key: c.key")
            .store("postgres://postgres@127.0.0.1:5432/postgres")
            .oidc("issuer: \"https://issuer.test\", audience: tidegate")
            .key("retention: {events: 1d}");
        let wanted = r#"control:
  listen: "[::]:8443"
  tls: {cert: c.pem, key: c.key}
  store: "postgres://postgres@127.0.0.1:5432/postgres"
  bootstrap-token-file: admin-token
  oidc:
    - {issuer: "https://issuer.test", audience: tidegate}
  retention: {events: 1d}
"#;
        assert_eq!(section.text(), wanted);
    }
}
