//! Hardware addresses, as the neighbour table gives them.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// An Ethernet hardware address; all zeroes where a link has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

/// Text that is not a hardware address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a hardware address (six hexadecimal octets separated by colons)")]
pub struct MacError(pub String);

impl fmt::Display for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, octet) in self.0.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(out, "{colon}{octet:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let refused = || MacError(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts
                .next()
                .filter(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
                .ok_or_else(refused)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| refused())?;
        }
        if parts.next().is_some() {
            Err(refused())
        } else {
            Ok(Self(octets))
        }
    }
}

impl serde::Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn is_read_and_written_as_six_octets() {
        let mac: Mac = "02:00:0A:ff:1b:9c".parse().unwrap();
        assert_eq!(mac, Mac([2, 0, 10, 255, 0x1b, 0x9c]));
        assert_eq!(mac.to_string(), "02:00:0a:ff:1b:9c");
        for wrong in [
            "",
            "02:00:0a:ff:1b",
            "02:00:0a:ff:1b:9c:00",
            "2:0:0a:ff:1b:9c",
            "02-00-0a-ff-1b-9c",
            "+2:00:0a:ff:1b:9c",
        ] {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }
}
