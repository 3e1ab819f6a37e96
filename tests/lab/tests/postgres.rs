//! Shows that a test gets a PostgreSQL server of its own, without a lab and in
//! one, that keeps what it acknowledged and leaves nothing.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tidegate_lab::{LabError, PostgresServer, wait_until};

const SOON: Duration = Duration::from_secs(10);

/// Host and port of a URL of [`PostgresServer`].
fn place(url: &str) -> &str {
    let rest = url.strip_prefix("postgres://postgres@").unwrap();
    rest.split_once('/').unwrap().0
}

/// A client of its own over TCP, as a program under test is.
fn psql(url: &str, statement: &str) -> String {
    let output = Command::new("psql")
        .args(["-XAtqc", statement, url])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_server_keeps_what_it_acknowledged_over_restarts_and_kills_and_then_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = PostgresServer::start(dir.path()).unwrap();
    let url = server.url();
    assert_eq!(psql(&url, "show fsync; show synchronous_commit"), "on\non\n");
    psql(&url, "create table kept (n bigint)");
    for (round, end) in [PostgresServer::restart, PostgresServer::kill]
        .into_iter()
        .enumerate()
    {
        psql(&url, &format!("insert into kept values ({round})"));
        end(&mut server).unwrap();
    }
    assert!(TcpStream::connect(place(&url)).is_err(), "it was killed");
    server.restart().unwrap();
    assert_eq!(server.url(), url);
    assert_eq!(psql(&url, "select n from kept order by n"), "0\n1\n");
    assert!(
        server.log().contains("automatic recovery in progress"),
        "{}",
        server.log()
    );
    drop(server);
    assert!(TcpStream::connect(place(&url)).is_err());
    assert!(!dir.path().exists(), "its files go with it");
}

#[tokio::test]
async fn an_end_waits_for_no_client_and_leaves_no_backend() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = PostgresServer::start(dir.path()).unwrap();
    for end in [PostgresServer::stop, PostgresServer::kill] {
        server.restart().unwrap();
        let sleep = "select pg_sleep(1000)";
        let mut client = Command::new("psql");
        client.args(["-c", sleep, &server.url()]).stderr(Stdio::null());
        let mut client = client.spawn().unwrap();
        let asleep = format!("select count(*) from pg_stat_activity where query = '{sleep}'");
        let busy = wait_until("the client's statement", SOON, async || {
            match server.sql(&asleep).unwrap() {
                count if count == "1\n" => Ok(()),
                count => Err(count),
            }
        });
        busy.await.unwrap();
        end(&mut server).unwrap();
        let data = dir.path().join("data");
        assert_eq!(processes_in(&data), [""; 0], "all are gone when it returns");
        assert!(!client.wait().unwrap().success());
    }
}

/// The command lines of processes that stand in a directory.
fn processes_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let inside =
        entries.filter(|entry| std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == dir));
    let lines = inside.map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default());
    lines.collect()
}

#[test]
fn tests_share_one_server_and_each_has_its_own_database() {
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| PostgresServer::shared().unwrap());
        let two = PostgresServer::shared().unwrap();
        (one.join().unwrap(), two)
    });
    assert!(Arc::ptr_eq(&one, &two));
    let urls = [one.create_database().unwrap(), two.create_database().unwrap()];
    for url in &urls {
        psql(url, "create table mine (n bigint)");
    }
    drop(one);
    assert_eq!(
        psql(&urls[0], "select count(*) from mine"),
        "0\n",
        "it lives for the others"
    );
    drop(two);
    assert!(
        TcpStream::connect(place(&urls[0])).is_err(),
        "it goes with the last"
    );
}

#[tokio::test]
async fn a_server_dies_with_its_program() {
    // A second process of this test binary starts one and is killed.
    if std::env::var_os("SERVER_TO_LEAVE").is_some() {
        let server = std::thread::spawn(PostgresServer::shared)
            .join()
            .unwrap()
            .unwrap();
        println!("server {}.", server.url());
        std::thread::sleep(Duration::from_mins(10));
    }
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_server_dies_with_its_program", "--nocapture"])
        .env("SERVER_TO_LEAVE", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(owner.stdout.take().unwrap()));
    let mut lines = lines.map_while(Result::ok);
    let url = lines.find_map(|line| Some(line.split_once("server ")?.1.trim_end_matches('.').to_owned()));
    let url = url.unwrap();
    assert_eq!(
        psql(&url, "select 1"),
        "1\n",
        "it outlives the thread that started it"
    );
    owner.kill().unwrap();
    owner.wait().unwrap();
    let gone = wait_until("the server's end", SOON, async || {
        match TcpStream::connect(place(&url)) {
            Err(_refused) => Ok(()),
            Ok(_) => Err("it still answers"),
        }
    });
    gone.await.unwrap();
    // Its files: the next lab's build sweeps them.
    tidegate_lab::sweep().unwrap();
}

#[test]
fn a_directory_that_will_not_do_is_refused_with_its_reason() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let close = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(dir.path(), close).unwrap();
    let reason = |result: Result<PostgresServer, LabError>| result.unwrap_err().to_string();
    let below = reason(PostgresServer::start(dir.path().join("below")));
    assert!(below.contains("may not enter"), "{below}");
    let full = reason(PostgresServer::start(dir.path()));
    assert!(full.contains("not empty"), "{full}");
}
