//! Issue, "Shown by": every real client by either family: what is allowed works; what is not is refused within a
//! second, with the reason in the event and the explanation wherever the protocol can show one.

use serde_json::Value;
use tidegate_e2e::{PATIENCE, block, command, event, started};
use tidegate_lab::{Ending, EventLog, Gateway, Lab, Output, Script, plan, wait_until};

/// Hosts of the clients below: name, number of its address, the ports that they ask for.
const HOSTS: [(&str, u8, &[u16]); 5] = [
    ("allowed.test", 10, &[80, 443]),
    ("git.test", 30, &[22, 443]),
    ("index.test", 50, &[443]),
    ("db.test", 40, &[5432]),
    ("raw.test", 80, &[7000]),
];

/// A command line on runner 0, the port that it goes to and, by name, where the refusal shows: a piece of what the
/// tool says. Every line must end by itself.
struct Tool {
    line: Vec<String>,
    input: &'static str,
    name: &'static str,
    port: &'static str,
    says: &'static str,
    reason: &'static str,
}

fn client(name: &'static str, port: &'static str, says: &'static str, line: &[&str]) -> Tool {
    Tool {
        line: line.iter().map(|&word| word.to_owned()).collect(),
        input: "",
        name,
        port,
        says,
        reason: "not-allowed",
    }
}

fn clients(lab: &Lab) -> Vec<Tool> {
    let (https, ssh, index) = (lab.git_https_url(), lab.git_ssh_url(), lab.index_url());
    let ca = lab.ca_pem_path().display().to_string();
    let fetch = "import urllib.request; urllib.request.urlopen('https://allowed.test/', timeout=1)";
    let pip = [
        "python3",
        "-m",
        "pip",
        "--cert",
        &ca,
        "--timeout",
        "1",
        "--retries",
        "0",
        "--no-cache-dir",
    ];
    let pip = [
        &pip[..],
        &[
            "download",
            "-q",
            "--no-deps",
            "--index-url",
            &index,
            "-d",
            "wheels",
        ],
    ]
    .concat();
    let openssl = [
        "openssl",
        "s_client",
        "-connect",
        "allowed.test:443",
        "-verify_return_error",
    ];
    let mut all = vec![
        client(
            "allowed.test",
            "443",
            "access denied",
            &["curl", "-sS", "--http1.1", "https://allowed.test/"],
        ),
        client(
            "allowed.test",
            "443",
            "access denied",
            &["curl", "-sS", "--http2", "https://allowed.test/"],
        ),
        client(
            "allowed.test",
            "80",
            "403",
            &["curl", "-sSf", "http://allowed.test/"],
        ),
        client(
            "allowed.test",
            "443",
            "access denied",
            &[&openssl[..], &["-servername", "allowed.test"]].concat(),
        ),
        client(
            "allowed.test",
            "443",
            "access denied",
            &[&openssl[..], &["-noservername"]].concat(),
        ),
        client("allowed.test", "443", "access denied", &["python3", "-c", fetch]),
        client(
            "git.test",
            "443",
            "denied",
            &["git", "clone", "-q", &https, "https"],
        ),
        client("git.test", "22", "", &["git", "clone", "-q", &ssh, "ssh"]),
        client(
            "index.test",
            "443",
            "",
            &[&pip[..], &["tidegate-lab-demo"]].concat(),
        ),
        client(
            "db.test",
            "5432",
            "",
            &["psql", "-h", "db.test", "-U", "postgres", "-tAc", "select 1"],
        ),
        client("raw.test", "7000", "reset", &["ncat", "raw.test", "7000"]),
        client(
            "raw.test",
            "7000",
            "",
            &["socat", "-t", "2", "-", "TCP:raw.test:7000"],
        ),
    ];
    for raw in all.iter_mut().filter(|one| one.name == "raw.test") {
        raw.input = "\u{1}\u{2}raw\n";
    }
    // Nothing names its destination: the only name of the address is not allowed on that port.
    for nameless in all
        .iter_mut()
        .filter(|one| one.line.iter().any(|word| word == "-noservername"))
    {
        nameless.reason = "no-name";
    }
    all
}

/// Runs it in a folder of its own, ended after `limit` seconds with code 124.
async fn attempt(lab: &Lab, client: &Tool, folder: &str, limit: &str) -> Output {
    let home = lab.runner(0).home().join(folder);
    std::fs::create_dir_all(&home).unwrap();
    let line: Vec<&str> = ["timeout", limit]
        .into_iter()
        .chain(client.line.iter().map(String::as_str))
        .collect();
    command(lab, &line)
        .input(client.input)
        .current_dir(&home)
        .run()
        .await
        .unwrap()
}

/// Python needs most of a second to begin with: there its own limit of one second on every wait counts, and what it
/// says tells a timeout from a refusal. Elsewhere a busy machine may need several attempts; a slow gateway needs all.
async fn refused_in_time(lab: &Lab, client: &Tool, folder: &str) -> Output {
    const ATTEMPTS: usize = 8;
    let limit = if client.line[0] == "python3" { "20" } else { "1" };
    for count in 1..=ATTEMPTS {
        let output = attempt(lab, client, &format!("{folder}-{count}"), limit).await;
        if output.code() != Some(124) && !output.errors().contains("timed out") {
            return output;
        }
    }
    panic!(
        "{:?} heard of no refusal within a second, {ATTEMPTS} times",
        client.line
    );
}

async fn swapped(gateway: &Gateway<'_>, policy: &str) {
    gateway.write("build.yaml", policy).unwrap();
    gateway
        .wait_status("the new policy", |status| status["policy_generation"] == 2)
        .await
        .unwrap();
}

/// Issue, "Shown by": what is allowed works; what is not is refused within 1 s, with the reason in the event, and
/// the explanation is visible wherever the protocol can show one. The names have addresses of one family only.
async fn every_client_by(family: usize) {
    let lab = Lab::builder().git().ssh().index().postgres().build().unwrap();
    for (name, number, _) in HOSTS {
        lab.name(name, &[plan::site(number)[family]]).unwrap();
    }
    let echo = Script::echo().then(Ending::Close);
    lab.raw((plan::site(80)[family], 7000).into(), echo).unwrap();
    let endpoints: Vec<_> = HOSTS
        .iter()
        .flat_map(|(name, _, ports)| ports.iter().map(move |port| format!("{name}:{port}")))
        .collect();
    let gateway = started(
        &lab,
        &block(&endpoints.iter().map(String::as_str).collect::<Vec<_>>()),
    )
    .await;
    let mut events = gateway.events();
    let clients = clients(&lab);
    for (index, client) in clients.iter().enumerate() {
        let output = attempt(&lab, client, &format!("allowed-{index}"), "20").await;
        assert!(worked(client, &output), "{:?}: {output}", client.line);
        let fields = [
            ("name", client.name),
            ("port", client.port),
            ("verdict", "permit"),
        ];
        event(&mut events, &fields).await;
    }
    // The names stay answerable, by another port, so that it is the connection which is refused.
    let elsewhere: Vec<_> = HOSTS.iter().map(|(name, ..)| format!("{name}:9")).collect();
    swapped(
        &gateway,
        &block(&elsewhere.iter().map(String::as_str).collect::<Vec<_>>()),
    )
    .await;
    for (index, client) in clients.iter().enumerate() {
        let before = refusals(&mut events, client);
        let output = refused_in_time(&lab, client, &format!("refused-{index}")).await;
        assert!(!worked(client, &output), "{:?}: {output}", client.line);
        let said = output.errors().replace('_', " ").to_lowercase();
        assert!(said.contains(client.says), "{:?}: {output}", client.line);
        let told = wait_until("the refusal's event", PATIENCE, async || {
            match refusals(&mut events, client) {
                after if after > before => Ok(()),
                after => Err(after),
            }
        });
        told.await
            .unwrap_or_else(|error| panic!("{:?}: {error}", client.line));
    }
    assert_eq!(lab.leaks().unwrap().packets, 0);
}

/// Tools for raw TCP end with 0 however the connection did: what they sent must have come back.
fn worked(client: &Tool, output: &Output) -> bool {
    output.code() == Some(0) && output.text().contains(client.input)
}

/// Refusals of this client's destination, each with the right reason.
fn refusals(events: &mut EventLog, client: &Tool) -> usize {
    let wanted = [
        ("port", client.port),
        ("verdict", "refuse"),
        ("reason", client.reason),
    ];
    let named = |event: &Value| client.reason == "no-name" || event["name"] == client.name;
    events
        .matching(|event| tidegate_e2e::has(event, &wanted) && named(event))
        .len()
}

#[tokio::test]
async fn every_client_is_served_or_refused_within_a_second_by_ipv4() {
    every_client_by(0).await;
}

#[tokio::test]
async fn every_client_is_served_or_refused_within_a_second_by_ipv6() {
    every_client_by(1).await;
}
