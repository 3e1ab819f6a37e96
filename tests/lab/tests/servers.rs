//! Shows that the fake internet's optional servers work with real clients on
//! a machine without a gateway.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use tidegate_lab::{Ending, Lab, Output, RawServer, Script, UdpReply, wait_until};

const SOON: Duration = Duration::from_secs(10);

fn lab() -> Lab {
    Lab::builder().runners(0).direct().build().unwrap()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

async fn run(lab: &Lab, program: &str, args: &[&str]) -> Output {
    let command = lab.direct().command(program).args(args);
    command.run().await.unwrap().expect_success()
}

/// Runs `socat` with `input` to a server and returns what came back.
async fn talk(lab: &Lab, to: &str, input: &str) -> Output {
    let socat = lab.direct().command("socat").args(["-t5", "-", to]);
    socat.input(input).run().await.unwrap()
}

async fn ended(server: &RawServer, count: usize) {
    let over = wait_until("the connections' ends", SOON, async || {
        let connections = server.connections();
        let over = connections.iter().filter(|c| c.ended || c.error.is_some());
        let all = over.count() == count;
        if all {
            Ok(())
        } else {
            Err(format!("{connections:?}"))
        }
    });
    over.await.unwrap();
}

#[tokio::test]
async fn git_clones_fetches_and_pushes_over_https() {
    let lab = Lab::builder().runners(0).direct().git().build().unwrap();
    run(&lab, "git", &["clone", "-q", &lab.git_https_url(), "copy"]).await;
    let script = "cd copy && cat README.md && git -c user.name=x -c user.email=x@y.test \
                  commit -q --allow-empty -m second && git push -q origin main && \
                  git ls-remote origin main";
    let pushed = run(&lab, "sh", &["-c", script]).await;
    assert!(
        pushed.text().starts_with("A repository of the lab.\n"),
        "{pushed}"
    );
    let requests = lab.origins().requests_of("git.test");
    let posted = requests.iter().filter(|request| request.method == "POST");
    assert!(
        posted
            .clone()
            .any(|request| request.path == "/demo.git/git-receive-pack")
    );
    assert!(posted.count() >= 2, "{requests:#?}");
}

#[tokio::test]
async fn git_clones_over_ssh_and_a_stranger_is_refused() {
    let lab = Lab::builder().runners(0).direct().ssh().build().unwrap();
    run(&lab, "git", &["clone", "-q", &lab.git_ssh_url(), "copy"]).await;
    let readme = run(&lab, "cat", &["copy/README.md"]).await;
    assert_eq!(readme.text(), "A repository of the lab.\n");
    let options = ["-F/dev/null", "-oBatchMode=yes", "-oStrictHostKeyChecking=no"];
    let known = "-oUserKnownHostsFile=/dev/null";
    let stranger = lab
        .direct()
        .command("ssh")
        .args(options)
        .args([known, "git@git.test", "id"]);
    let refused = stranger.run().await.unwrap().expect_failure();
    assert!(refused.errors().contains("Permission denied"), "{refused}");
}

#[tokio::test]
async fn psql_talks_to_a_real_postgresql_over_both_families() {
    let lab = Lab::builder().runners(0).direct().postgres().build().unwrap();
    for host in ["db.test", "192.0.2.40", "2001:db8:200::40"] {
        let line = format!("host={host} user=postgres sslmode=prefer");
        let answer = run(&lab, "psql", &["-XAtc", "select 6 * 7", &line]).await;
        assert_eq!(answer.text(), "42\n");
    }
}

#[tokio::test]
async fn pip_installs_from_the_index() {
    let lab = Lab::builder().runners(0).direct().index().build().unwrap();
    let url = lab.index_url();
    let install = [
        "-m",
        "pip",
        "install",
        "-q",
        "--root-user-action=ignore",
        "--no-cache-dir",
    ];
    let what = ["--target", "site", "--index-url", &url, "tidegate-lab-demo"];
    let python = lab.direct().command("python3").args(install).args(what);
    let python = python.timeout(Duration::from_mins(1));
    python.run().await.unwrap().expect_success();
    let import = "import sys; sys.path.insert(0, 'site'); \
                  import tidegate_lab_demo; print(tidegate_lab_demo.GREETING)";
    let greeting = run(&lab, "python3", &["-c", import]).await;
    assert_eq!(greeting.text(), "hello from the lab\n");
    let urllib = "import urllib.request as r; print(r.urlopen('https://allowed.test/').read())";
    let page = run(&lab, "python3", &["-c", urllib]).await;
    assert!(page.text().contains("hello from allowed.test"), "{page}");
}

#[tokio::test]
async fn a_scripted_server_greets_records_and_replies() {
    let lab = lab();
    let script = Script::reply_to("\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n");
    let server = lab.raw(address("192.0.2.80:80"), script).unwrap();
    let smuggled = "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\n\r\n";
    let answer = talk(&lab, "TCP:192.0.2.80:80", smuggled).await;
    assert_eq!(answer.text().matches("204").count(), 2, "{answer}");
    ended(&server, 1).await;
    let connection = server.connections().pop().unwrap();
    assert_eq!(connection.received, smuggled.as_bytes());
    assert_eq!(connection.length, smuggled.len() as u64);

    let script = Script::echo().banner("220 ready\r\n");
    lab.raw(address("[2001:db8:200::80]:2525"), script).unwrap();
    let answer = talk(&lab, "TCP6:[2001:db8:200::80]:2525", "HELO\r\n").await;
    assert_eq!(answer.text(), "220 ready\r\nHELO\r\n");
}

#[tokio::test]
async fn a_scripted_server_ends_in_every_way() {
    let lab = lab();
    let late = Script::reply_at_end("late");
    let late = lab.raw(address("192.0.2.81:1"), late).unwrap();
    assert_eq!(talk(&lab, "TCP:192.0.2.81:1", "early").await.text(), "late");
    ended(&late, 1).await;
    assert!(late.connections()[0].ended);

    for (port, ending) in [(2, Ending::Close), (3, Ending::HalfClose)] {
        let script = Script::silent().banner("bye").then(ending);
        lab.raw(SocketAddr::new("192.0.2.81".parse().unwrap(), port), script)
            .unwrap();
        let to = format!("TCP:192.0.2.81:{port}");
        let answer = talk(&lab, &to, "").await.expect_success();
        assert_eq!(answer.text(), "bye");
    }
    let script = Script::reply_to("x", "").then(Ending::Reset);
    lab.raw(address("192.0.2.81:4"), script).unwrap();
    let read = lab.direct().enter(|| {
        let mut stream = std::net::TcpStream::connect("192.0.2.81:4").unwrap();
        stream.write_all(b"x").unwrap();
        stream.read(&mut [0; 16])
    });
    let error = read.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn udp_servers_echo_answer_or_stay_silent_and_record() {
    let lab = lab();
    let echo = lab.udp(address("192.0.2.82:123"), UdpReply::Echo).unwrap();
    let socat = ["-t1", "-", "UDP:192.0.2.82:123"];
    let answer = lab
        .direct()
        .command("socat")
        .args(socat)
        .input("tick")
        .run()
        .await;
    assert_eq!(answer.unwrap().text(), "tick");
    let received = echo.received();
    assert_eq!(received[0].1, b"tick");
    assert_eq!(received[0].0.ip(), lab.direct().v4());
    let fixed = UdpReply::Fixed(b"tock".to_vec());
    lab.udp(address("[2001:db8:200::82]:123"), fixed).unwrap();
    let socat = ["-t1", "-", "UDP6:[2001:db8:200::82]:123"];
    let answer = lab
        .direct()
        .command("socat")
        .args(socat)
        .input("tick")
        .run()
        .await;
    assert_eq!(answer.unwrap().text(), "tock");
}

#[tokio::test]
async fn a_tools_own_server_gets_a_certificate_that_machines_trust() {
    let lab = lab();
    let files = lab
        .ca()
        .issue_files(&lab.dir(), "tool", &["tool.test", "192.0.2.83"]);
    let files = files.unwrap();
    lab.name("tool.test", &["192.0.2.83".parse().unwrap()]).unwrap();
    let server = lab.net().command("openssl").args(["s_server", "-www", "-accept"]);
    let server = server.arg("192.0.2.83:443").arg("-cert").arg(&files.certificate);
    let server = server.arg("-cert_chain").arg(&files.certificate);
    let server = server.arg("-key").arg(&files.key).spawn().unwrap();
    let listening = wait_until("the server", SOON, async || {
        let said = server.stdout() + &server.stderr();
        if said.contains("ACCEPT") {
            Ok(())
        } else {
            Err(said)
        }
    });
    listening.await.unwrap();
    for host in ["tool.test", "192.0.2.83"] {
        run(&lab, "curl", &["-sS", "-o/dev/null", &format!("https://{host}/")]).await;
    }
}
