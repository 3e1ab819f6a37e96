//! The config ids of an ECHConfigList (RFC 9849 §4), as HTTPS and SVCB records publish it.

use smallvec::SmallVec;

use super::u16_at;

/// The one version whose contents begin with a config id.
const VERSION: u16 = 0xfe0d;

/// Ids of the configurations that can be read; what follows a lying length is ignored.
pub(crate) fn config_ids(list: &[u8]) -> SmallVec<[u8; 4]> {
    let mut ids = SmallVec::new();
    let Some(declared) = u16_at(list, 0) else {
        return ids;
    };
    let mut rest = list.get(2..).unwrap_or_default();
    rest = rest.get(..usize::from(declared)).unwrap_or(rest);
    while let (Some(version), Some(length)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let Some(contents) = rest.get(4..4 + usize::from(length)) else {
            break;
        };
        if let (VERSION, Some(id)) = (version, contents.first()) {
            ids.push(*id);
        }
        rest = rest.get(4 + usize::from(length)..).unwrap_or_default();
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_known_versions_are_read_and_others_skipped() {
        let list = [
            0, 17, 0xfe, 0x0d, 0, 2, 7, 0, 0xfe, 0x0c, 0, 1, 9, 0xfe, 0x0d, 0, 2, 200, 1,
        ];
        assert_eq!(config_ids(&list).as_slice(), [7, 200]);
    }

    #[test]
    fn lying_lengths_end_the_list() {
        assert!(config_ids(&[0, 9, 0xfe, 0x0d, 0, 200, 7]).is_empty());
        assert!(config_ids(&[0]).is_empty());
        assert!(config_ids(&[]).is_empty());
    }
}
