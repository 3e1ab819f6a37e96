//! Input that is wrong never kills or opens the gateway: a configuration, a policy, a packet or a command
//! line gets a clear error or a refusal, and the next one is served.

mod commands;
mod config;
mod floods;
mod policies;
mod records;

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use tidegate_lab::Lab;

/// A folder that everybody may read, gone with the value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "tidegate-e2e-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    /// Writes a file into it and gives its name.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A test that failed in the middle may have removed it.
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// How a command ended.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs the program as nobody, without privileges and with an empty environment.
fn tidegate(args: &[&str]) -> Said {
    let program = tidegate_e2e::tidegate();
    let output = Command::new("setpriv")
        .args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "--no-new-privs",
            "--",
        ])
        .arg(program)
        .args(args)
        .env_clear()
        .current_dir("/")
        .output()
        .expect("setpriv is there");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said {
        code: output.status.code(),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

/// Nothing of ours is left in the gateway's namespace.
async fn untouched(lab: &Lab) {
    let rules = lab
        .gw()
        .command("nft")
        .args(["list", "ruleset"])
        .run()
        .await
        .unwrap();
    assert!(!rules.text().contains("tidegate"), "{rules}");
}
