//! How the control plane is reached: its address, the token, the CA, from the command line and the environment.
//!
//! Owns the rule that a token never travels in clear text: plain `http://` is for this machine only. Whatever is wrong
//! here is wrong usage (exit code 2).

use std::net::IpAddr;
use std::path::Path;

use reqwest::header::HeaderValue;
use reqwest::{Certificate, Url};

use super::args::Remote;
use crate::Usage;

/// Largest token or CA file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Where the control plane is, and what is shown to it.
pub(crate) struct Reach {
    /// `https://control.example:8443/`, with a slash at its end.
    pub(crate) server: Url,
    /// `Bearer …`.
    pub(crate) authorization: HeaderValue,
    /// What is trusted instead of the system's CAs.
    pub(crate) ca: Option<Vec<Certificate>>,
}

impl Reach {
    /// From the arguments and the environment.
    pub(crate) fn new(args: &Remote) -> Result<Self, Usage> {
        let server = args.server.as_deref().ok_or_else(|| {
            Usage("name the control plane: --server https://…, or TIDEGATE_SERVER".to_owned())
        })?;
        let server = server_url(server)?;
        let ca = args.ca.as_deref().map(certificates).transpose()?;
        Ok(Self {
            server,
            authorization: bearer(&token(args.token_file.as_deref())?)?,
            ca,
        })
    }

    /// True when requests leave this machine's memory only.
    pub(crate) fn is_plain(&self) -> bool {
        self.server.scheme() == "http"
    }
}

fn server_url(text: &str) -> Result<Url, Usage> {
    let wrong = |why: &str| Usage(format!("{text:?} is no address of a control plane: {why}"));
    let mut url: Url = text
        .parse()
        .map_err(|_| wrong("write it as https://control.example:8443"))?;
    if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none() {
        return Err(wrong("write it as https://control.example:8443"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Usage(
            "the address of the control plane holds a password; a token goes into --token-file".into(),
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it ends with its path"));
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        let host = url.host_str().unwrap_or_default();
        return Err(Usage(format!(
            "{host} is not this machine, and over http:// everybody on the way reads the token; use https://, with \
             --ca for a private CA"
        )));
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    address.map_or(host == "localhost", |address| address.is_loopback())
}

/// The token's text: from the file that is named, else from the environment.
fn token(file: Option<&Path>) -> Result<String, Usage> {
    let text = match file {
        Some(file) => String::from_utf8(read(file)?)
            .map_err(|_| Usage(format!("{} holds no token: it is not in UTF-8", file.display())))?,
        None => from_environment().ok_or_else(|| {
            Usage("name an API token: --token-file FILE, or the text itself in TIDEGATE_TOKEN".to_owned())
        })?,
    };
    Ok(text.trim().to_owned())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a part of the command line, read once, here"
)]
fn from_environment() -> Option<String> {
    std::env::var("TIDEGATE_TOKEN").ok()
}

/// The header that shows a token. Never says the text.
pub(crate) fn bearer(token: &str) -> Result<HeaderValue, Usage> {
    let wrong = || Usage("the token is empty or has characters that no token has".to_owned());
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong());
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok(value)
}

/// The certificates of a PEM file.
pub(crate) fn certificates(file: &Path) -> Result<Vec<Certificate>, Usage> {
    let wrong = || Usage(format!("{} holds no certificate (PEM)", file.display()));
    let found = Certificate::from_pem_bundle(&read(file)?).map_err(|_| wrong())?;
    if found.is_empty() { Err(wrong()) } else { Ok(found) }
}

fn read(file: &Path) -> Result<Vec<u8>, Usage> {
    crate::remote::document::read_bounded(file, MAX_FILE)
        .map_err(|error| Usage(format!("can't read {}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_token_goes_in_clear_text_to_this_machine_only() {
        for here in [
            "http://127.0.0.1:8443",
            "http://127.9.9.9",
            "http://[::1]:8443",
            "http://localhost:1",
            "https://control.example",
            "https://10.0.0.1",
        ] {
            assert!(server_url(here).is_ok(), "{here}");
        }
        for elsewhere in [
            "http://control.example",
            "http://10.0.0.1:8443",
            "http://[2001:db8::1]",
            "http://localhost.example",
            "http://127.0.0.1.example",
            // A number that browsers read as an address, which is not this machine's.
            "http://167772161",
        ] {
            let said = server_url(elsewhere).err().unwrap().0;
            assert!(said.contains("is not this machine"), "{said}");
        }
    }

    #[test]
    fn an_address_is_scheme_host_and_path() {
        assert_eq!(
            server_url("https://c.example/base").unwrap().as_str(),
            "https://c.example/base/"
        );
        for wrong in [
            "",
            "control.example:8443",
            "ftp://c.example",
            "https://",
            "https://c.example/?a=b",
            "file:///x",
        ] {
            assert!(server_url(wrong).is_err(), "{wrong:?}");
        }
        let said = server_url("https://me:secret@c.example").err().unwrap().0;
        assert!(!said.contains("secret"), "{said}");
    }

    #[test]
    fn a_token_that_is_none_is_not_repeated() {
        for wrong in ["", "two words", "caf\u{e9}", "line\nbreak"] {
            let said = bearer(wrong).err().unwrap().0;
            assert!(wrong.is_empty() || !said.contains(wrong), "{said}");
        }
        assert!(bearer("tga_x").unwrap().is_sensitive());
    }
}
