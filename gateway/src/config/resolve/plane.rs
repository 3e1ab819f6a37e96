//! `group:` and `control-plane:`: where this gateway syncs from.

use std::net::IpAddr;

use compact_str::CompactString;
use hyper::Uri;

use super::At;
use crate::config::{ConfigError, ControlPlaneConfig, raw};

impl At<'_> {
    pub(super) fn group(self, raw: String) -> Result<CompactString, ConfigError> {
        if raw.is_empty() {
            return Err(self.value("gateway.group", "write a name, or leave the key out".into()));
        }
        Ok(raw.into())
    }

    /// The token goes over this connection, so plain HTTP must not leave the machine.
    pub(super) fn control_plane(self, raw: raw::ControlPlane) -> Result<ControlPlaneConfig, ConfigError> {
        let key = "gateway.control-plane.url";
        let not_understood = || {
            let message = format!("{:?} is not a URL such as https://control.example:8443", raw.url);
            self.value(key, message)
        };
        let url: Uri = raw.url.parse().map_err(|_| not_understood())?;
        let (Some(scheme), Some(host)) = (url.scheme_str(), url.host().filter(|host| !host.is_empty()))
        else {
            return Err(not_understood());
        };
        let bare = url.path() == "/" && url.query().is_none();
        if !bare
            || url
                .authority()
                .is_some_and(|authority| authority.as_str().contains('@'))
        {
            let message = "write scheme, host and port only".to_owned();
            return Err(self.value(key, message));
        }
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let loopback = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        let (tls, default_port) = match scheme {
            "https" => (true, 443),
            "http" if loopback => (false, 80),
            "http" => {
                let message = "plain http is for loopback only, because the token goes with it; write https";
                return Err(self.value(key, message.into()));
            }
            _ => return Err(not_understood()),
        };
        Ok(ControlPlaneConfig {
            tls,
            host: host.to_owned(),
            port: url.port_u16().unwrap_or(default_port),
            token_file: self.join(raw.token_file),
            ca: raw.ca.map(|file| self.join(file)),
        })
    }
}
