//! SVCB and HTTPS data (RFC 9460 §2.2): reading parameters, and rewriting them for block mode.

use std::net::IpAddr;

use smallvec::SmallVec;

use super::name::{self, RawName};
use super::{WireError, u16_at};

/// Parameter keys (RFC 9460 §14.3.2).
mod key {
    pub(super) const MANDATORY: u16 = 0;
    pub(super) const ALPN: u16 = 1;
    pub(super) const NO_DEFAULT_ALPN: u16 = 2;
    pub(super) const IPV4HINT: u16 = 4;
    pub(super) const ECH: u16 = 5;
    pub(super) const IPV6HINT: u16 = 6;
}

/// One record's data.
#[derive(Clone, Debug)]
pub(crate) struct Svcb<'d> {
    /// SvcPriority and TargetName as they came.
    head: &'d [u8],
    /// TargetName; a lone zero means the owner.
    pub(crate) target: RawName,
    params: SmallVec<[(u16, &'d [u8]); 6]>,
}

/// Reads the data of an SVCB or HTTPS record: an uncompressed target, strictly ascending keys.
pub(crate) fn parse(data: &[u8]) -> Result<Svcb<'_>, WireError> {
    let body = data.get(2..).ok_or(WireError("SVCB data without a priority"))?;
    let target = name::read(body, 0)?;
    if target.compressed {
        return Err(WireError("a compressed SVCB target"));
    }
    let mut params = SmallVec::new();
    let (head, mut rest) = data.split_at(2 + target.end);
    while !rest.is_empty() {
        let cut = WireError("an SVCB parameter runs past the end");
        let (key, length) = (
            u16_at(rest, 0).ok_or(cut)?,
            usize::from(u16_at(rest, 2).ok_or(cut)?),
        );
        let value = rest.get(4..4 + length).ok_or(cut)?;
        if params.last().is_some_and(|(last, _)| *last >= key) {
            return Err(WireError("SVCB keys out of order"));
        }
        params.push((key, value));
        rest = rest.get(4 + length..).unwrap_or_default();
    }
    Ok(Svcb {
        head,
        target: target.raw,
        params,
    })
}

impl<'d> Svcb<'d> {
    fn value(&self, wanted: u16) -> Option<&'d [u8]> {
        self.params
            .iter()
            .find(|(key, _)| *key == wanted)
            .map(|(_, value)| *value)
    }

    /// The ECHConfigList, when there is one.
    pub(crate) fn ech(&self) -> Option<&'d [u8]> {
        self.value(key::ECH)
    }

    /// The addresses of `ipv4hint` and `ipv6hint`.
    pub(crate) fn hints(&self) -> SmallVec<[IpAddr; 8]> {
        let v4 = self.value(key::IPV4HINT).unwrap_or_default().chunks_exact(4);
        let v6 = self.value(key::IPV6HINT).unwrap_or_default().chunks_exact(16);
        let v4 = v4
            .filter_map(|octets| <[u8; 4]>::try_from(octets).ok())
            .map(IpAddr::from);
        v4.chain(
            v6.filter_map(|octets| <[u8; 16]>::try_from(octets).ok())
                .map(IpAddr::from),
        )
        .collect()
    }

    /// What block mode hands out: no `ech`, no `h3`, only hints that `keep` agrees to, and nothing that
    /// is gone left in `mandatory`. `None` when that is the data as it came.
    pub(crate) fn rewritten(&self, mut keep: impl FnMut(IpAddr) -> bool) -> Option<Vec<u8>> {
        let mut kept: SmallVec<[(u16, Vec<u8>); 6]> = SmallVec::new();
        for (key, value) in &self.params {
            let value = match *key {
                key::ECH => Vec::new(),
                key::ALPN => without_h3(value),
                key::IPV4HINT => filtered::<4>(value, &mut keep),
                key::IPV6HINT => filtered::<16>(value, &mut keep),
                _ => {
                    kept.push((*key, value.to_vec()));
                    continue;
                }
            };
            if !value.is_empty() {
                kept.push((*key, value));
            }
        }
        // RFC 9460 §7.1.1: "no-default-alpn" has no meaning without "alpn".
        if !kept.iter().any(|(key, _)| *key == key::ALPN) {
            kept.retain(|(key, _)| *key != key::NO_DEFAULT_ALPN);
        }
        let present: SmallVec<[u16; 8]> = kept.iter().map(|(key, _)| *key).collect();
        for (key, value) in &mut kept {
            if *key == key::MANDATORY {
                *value = value
                    .chunks_exact(2)
                    .filter(|pair| u16_at(pair, 0).is_some_and(|named| present.contains(&named)))
                    .flatten()
                    .copied()
                    .collect();
            }
        }
        kept.retain(|(key, value)| *key != key::MANDATORY || !value.is_empty());
        let same = kept.len() == self.params.len()
            && kept
                .iter()
                .zip(&self.params)
                .all(|((_, new), (_, old))| new == old);
        (!same).then(|| self.emit(&kept))
    }

    fn emit(&self, params: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut out = self.head.to_vec();
        for (key, value) in params {
            out.extend(key.to_be_bytes());
            out.extend((value.len() as u16).to_be_bytes());
            out.extend(value);
        }
        out
    }
}

/// An ALPN list without HTTP/3 and its drafts; empty when nothing is left or the list is broken.
fn without_h3(mut list: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(list.len());
    while let Some((length, rest)) = list.split_first() {
        let Some((id, rest)) = rest.split_at_checked(usize::from(*length)) else {
            return Vec::new();
        };
        if id != b"h3" && !id.starts_with(b"h3-") {
            out.push(*length);
            out.extend_from_slice(id);
        }
        list = rest;
    }
    out
}

fn filtered<const N: usize>(hints: &[u8], keep: &mut impl FnMut(IpAddr) -> bool) -> Vec<u8>
where
    IpAddr: From<[u8; N]>,
{
    let all = hints
        .chunks_exact(N)
        .filter_map(|octets| <[u8; N]>::try_from(octets).ok());
    all.filter(|octets| keep(IpAddr::from(*octets)))
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use hickory_proto::rr::{RData, RecordType};
    use hickory_proto::serialize::binary::{BinEncodable as _, BinEncoder};
    use proptest::prelude::*;

    use super::*;

    fn data(text: &str) -> Vec<u8> {
        let data = RData::try_from_str(RecordType::HTTPS, text).unwrap();
        let mut out = Vec::new();
        data.emit(&mut BinEncoder::new(&mut out)).unwrap();
        out
    }

    #[test]
    fn d25_ech_and_h3_leave_and_mandatory_follows() {
        let before = data("1 . mandatory=alpn,ech alpn=h3,h2 ipv4hint=192.0.2.1 ech=AAA=");
        let after = parse(&before).unwrap().rewritten(|_| true).unwrap();
        assert_eq!(after, data("1 . mandatory=alpn alpn=h2 ipv4hint=192.0.2.1"));
    }

    #[test]
    fn an_h3_only_list_leaves_with_no_default_alpn_and_mandatory() {
        let before = data("1 svc.a.test. mandatory=alpn alpn=h3 no-default-alpn port=8443");
        let after = parse(&before).unwrap().rewritten(|_| true).unwrap();
        assert_eq!(after, data("1 svc.a.test. port=8443"));
    }

    #[test]
    fn refused_hints_leave_and_an_empty_hint_goes_whole() {
        let before = data("1 . alpn=h2 ipv4hint=192.0.2.1,10.0.0.1 ipv6hint=fd00::1");
        let after = parse(&before)
            .unwrap()
            .rewritten(|ip| ip.to_string() == "192.0.2.1")
            .unwrap();
        assert_eq!(after, data("1 . alpn=h2 ipv4hint=192.0.2.1"));
        let hints = parse(&before).unwrap().hints();
        assert_eq!(hints.len(), 3);
    }

    #[test]
    fn what_needs_no_change_is_not_rewritten() {
        for same in ["1 . alpn=h2 ipv4hint=192.0.2.1", "0 alias.a.test.", "1 ."] {
            assert!(
                parse(&data(same)).unwrap().rewritten(|_| true).is_none(),
                "{same}"
            );
        }
    }

    #[test]
    fn rfc9460_2_2_keys_must_ascend_and_lengths_hold() {
        assert!(parse(&[0, 1, 0, 0, 4, 0, 0, 0, 1, 0, 0]).is_err());
        assert!(parse(&[0, 1, 0, 0, 1, 0, 9]).is_err());
        assert!(parse(&[0]).is_err());
    }

    proptest! {
        #[test]
        fn rewriting_arbitrary_data_never_panics_and_is_idempotent(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(svcb) = parse(&bytes)
                && let Some(after) = svcb.rewritten(|ip| ip.is_ipv4())
            {
                let again = parse(&after).unwrap();
                prop_assert!(again.ech().is_none());
                prop_assert!(again.rewritten(|ip| ip.is_ipv4()).is_none());
            }
        }
    }
}
