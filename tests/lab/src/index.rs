//! Owns the Python package index of the fake internet: one wheel, made here,
//! and the two pages that lead to it (PEP 503). Files only; a site serves them.

use std::fs;
use std::path::Path;

use crate::error::{During, LabError};
use crate::origin::Site;
use crate::plan;

/// The index's name.
const NAME: &str = "index.test";
/// The one package, as pip knows it.
const PACKAGE: &str = "tidegate-lab-demo";
const WHEEL: &str = "tidegate_lab_demo-1.0-py3-none-any.whl";

/// Makes the files and the site that serves them.
pub(crate) fn site(lab_dir: &Path) -> Result<Site, LabError> {
    let root = lab_dir.join("index");
    let package = root.join("simple").join(PACKAGE);
    fs::create_dir_all(&package).during("make the package index")?;
    let put = |path: &Path, bytes: &[u8]| fs::write(path, bytes).during(format!("write {}", path.display()));
    let all = format!("<!doctype html><a href=\"{PACKAGE}/\">{PACKAGE}</a>");
    put(&root.join("simple/index.html"), all.as_bytes())?;
    let one = format!("<!doctype html><a href=\"{WHEEL}\">{WHEEL}</a>");
    put(&package.join("index.html"), one.as_bytes())?;
    put(&package.join(WHEEL), &wheel())?;
    Ok(Site::new(NAME, plan::site(50)).files(root))
}

/// The URL for `pip --index-url`.
pub(crate) fn url() -> String {
    format!("https://{NAME}/simple/")
}

/// PEP 427. The record may leave the hashes out; pip does not check them.
fn wheel() -> Vec<u8> {
    let info = "tidegate_lab_demo-1.0.dist-info";
    let (metadata, tags) = (format!("{info}/METADATA"), format!("{info}/WHEEL"));
    let record = format!("{info}/RECORD");
    let listed = format!("tidegate_lab_demo.py,,\n{metadata},,\n{tags},,\n{record},,\n");
    zip(&[
        ("tidegate_lab_demo.py", "GREETING = \"hello from the lab\"\n"),
        (
            &metadata,
            "Metadata-Version: 2.1\nName: tidegate-lab-demo\nVersion: 1.0\n",
        ),
        (
            &tags,
            "Wheel-Version: 1.0\nGenerator: tidegate-lab\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        ),
        (&record, &listed),
    ])
}

/// A zip file of uncompressed members (APPNOTE 4.3.7, 4.3.12, 4.3.16).
fn zip(files: &[(&str, &str)]) -> Vec<u8> {
    let (mut body, mut directory) = (Vec::new(), Vec::new());
    for (name, text) in files {
        let offset = body.len() as u32;
        let common = member(name, text);
        body.extend(b"PK\x03\x04");
        body.extend(&common);
        body.extend(name.as_bytes());
        body.extend(text.as_bytes());
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        // No comment, disk 0, no attributes.
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, size) = (body.len() as u32, directory.len() as u32);
    let count = files.len() as u16;
    body.extend(directory);
    body.extend(b"PK\x05\x06\0\0\0\0");
    body.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
    body.extend([size.to_le_bytes(), start.to_le_bytes()].concat());
    body.extend([0, 0]);
    body
}

/// What a member's two headers share: from the version needed to the lengths.
fn member(name: &str, text: &str) -> Vec<u8> {
    let size = (text.len() as u32).to_le_bytes();
    let mut header = vec![0x14, 0, 0, 0, 0, 0];
    // 1980-01-01, the oldest time that the format knows.
    header.extend([0, 0, 0x21, 0]);
    header.extend(crc32(text.as_bytes()).to_le_bytes());
    header.extend([size, size].concat());
    header.extend((name.len() as u16).to_le_bytes());
    header.extend([0, 0]);
    header
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            let carry = if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
            crc >> 1 ^ carry
        })
    })
}

#[cfg(test)]
mod tests {
    use super::crc32;

    #[test]
    fn crc32_has_its_check_value() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
