//! Owns the git host of the fake internet: a bare repository with one commit,
//! served over HTTPS by git's own CGI program (clone, fetch and push) and over
//! SSH by a real sshd. Never serves anything but the lab's own repository.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::daemon::{Daemon, accepts};
use crate::error::{During, LabError};
use crate::machine::Machine;
use crate::origin::Site;
use crate::{plan, tool};

/// The host's name.
pub(crate) const NAME: &str = "git.test";
/// The repository, as cloned from either door.
const REPOSITORY: &str = "demo.git";
/// What its README says.
const README: &str = "A repository of the lab.\n";

/// Makes the repository and the site that serves it.
pub(crate) fn site(lab_dir: &Path) -> Result<Site, LabError> {
    let root = root(lab_dir);
    fs::create_dir_all(&root).during(format!("make {}", root.display()))?;
    let repository = root.join(REPOSITORY);
    let mut init = git();
    init.args(["init", "--quiet", "--bare", "--initial-branch=main"]);
    tool::feed(init.arg(&repository), b"")?;
    let mut import = git();
    import.arg("-C").arg(&repository);
    tool::feed(import.args(["fast-import", "--quiet"]), first_commit().as_bytes())?;
    let mut allow = git();
    allow.arg("-C").arg(&repository);
    tool::feed(allow.args(["config", "http.receivepack", "true"]), b"")?;
    Ok(Site::new(NAME, plan::site(30)).git(root))
}

/// Where repositories lie; the home of the ssh user `git`.
fn root(lab_dir: &Path) -> PathBuf {
    lab_dir.join("git")
}

/// The URL to clone by HTTPS.
pub(crate) fn https_url() -> String {
    format!("https://{NAME}/{REPOSITORY}")
}

/// The URL to clone by SSH.
pub(crate) fn ssh_url() -> String {
    format!("git@{NAME}:{REPOSITORY}")
}

/// The client's private key.
pub(crate) fn ssh_key(lab_dir: &Path) -> PathBuf {
    lab_dir.join("ssh/id")
}

/// The client's configuration: that key, the lab's host key, no questions.
pub(crate) fn ssh_config(lab_dir: &Path) -> PathBuf {
    lab_dir.join("ssh/config")
}

/// Starts sshd on port 22 of the git host. It knows one user more than the
/// machine: `git`, root under another name, at home with the repositories.
pub(crate) fn start_sshd(net: &Machine, lab_dir: &Path) -> Result<Daemon, LabError> {
    let dir = lab_dir.join("ssh");
    fs::create_dir_all(&dir).during("make the ssh directory")?;
    let put = |name: &str, text: String| fs::write(dir.join(name), text).during(format!("write {name}"));
    make_key(&dir.join("host"))?;
    make_key(&ssh_key(lab_dir))?;
    let public = |name: &str| fs::read_to_string(dir.join(name)).during(format!("read {name}"));
    put("authorized_keys", public("id.pub")?)?;
    let addresses = plan::site(30);
    let [v4, v6] = addresses;
    put("known_hosts", format!("{NAME},{v4},{v6} {}", public("host.pub")?))?;
    put("config", client_config(&dir))?;
    put("sshd_config", server_config(&dir))?;
    add_user(net, lab_dir)?;
    // Compiled into Debian's sshd; its service makes it, and we are no service.
    fs::create_dir_all("/run/sshd").during("make /run/sshd")?;
    let sshd = net.command("/usr/sbin/sshd").arg("-D").arg("-e");
    let sshd = sshd.arg("-f").arg(dir.join("sshd_config"));
    let mut daemon = Daemon::start(sshd.into_std(), dir.join("log"))?;
    let doors = addresses.map(|address| SocketAddr::new(address, 22));
    daemon.wait("sshd", || doors.iter().all(|door| accepts(net, *door)))?;
    Ok(daemon)
}

fn git() -> Command {
    let mut git = Command::new("git");
    git.env_clear().env("PATH", crate::machine::PATH);
    git.env("HOME", "/nonexistent").env("GIT_CONFIG_NOSYSTEM", "1");
    git
}

fn first_commit() -> String {
    let (message, length) = ("First commit\n", README.len());
    format!(
        "commit refs/heads/main\ncommitter Lab <lab@{NAME}> 1700000000 +0000\n\
         data {}\n{message}M 100644 inline README.md\ndata {length}\n{README}",
        message.len()
    )
}

fn make_key(path: &Path) -> Result<(), LabError> {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f"]);
    keygen.arg(path);
    tool::feed(&mut keygen, b"").map(drop)
}

fn client_config(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "Host *\n  IdentityFile {dir}/id\n  IdentitiesOnly yes\n  BatchMode yes\n  \
         UserKnownHostsFile {dir}/known_hosts\n  GlobalKnownHostsFile /dev/null\n  \
         StrictHostKeyChecking yes\n"
    )
}

fn server_config(dir: &Path) -> String {
    let dir = dir.display();
    let [v4, v6] = plan::site(30);
    format!(
        "ListenAddress {v4}:22\nListenAddress [{v6}]:22\nHostKey {dir}/host\n\
         AuthorizedKeysFile {dir}/authorized_keys\nPidFile none\nUsePAM no\nUseDNS no\n\
         StrictModes no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
    )
}

/// In the machine's own copies of the account files only.
fn add_user(net: &Machine, lab_dir: &Path) -> Result<(), LabError> {
    let home = root(lab_dir);
    let lines = [
        ("passwd", format!("git:x:0:0::{}:/bin/sh\n", home.display())),
        ("shadow", "git:*:19000:0:99999:7:::\n".to_owned()),
    ];
    for (file, line) in lines {
        let path = Path::new("/etc").join(file);
        let hosts = fs::read_to_string(&path).during(format!("read {}", path.display()))?;
        net.write_etc(file, &(hosts + &line))?;
    }
    let shadow = crate::claim::etc_dir(net.name()).join("shadow");
    fs::set_permissions(shadow, Permissions::from_mode(0o600)).during("close the shadow file")
}
