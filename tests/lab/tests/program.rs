//! Shows that the lab configures, starts, calls, kills and restarts control
//! planes and gateways, with a stand-in for the program: a script that serves
//! what its configuration says and tells what it got.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_lab::{Control, ControlBuilder, ControlSection, Gateway, GatewayBuilder, Lab, StartError, plan};

const SOON: Duration = Duration::from_secs(10);

/// Listens where its configuration says: control at `listen`, the gateway at
/// its `runner-api`. `/readyz` is 503 once. Everything else is told back.
const STAND_IN: &str = r#"#!/usr/bin/env python3
import http.server, json, os, re, socket, ssl, sys, threading
command, config = sys.argv[1], sys.argv[sys.argv.index("--config") + 1]
if command == "status":
    print(json.dumps({"interception": {"state": "up"}, "config": config}))
    sys.exit(0)
os.chdir(os.path.dirname(config))
text = open(config).read()
print("started as", command, file=sys.stderr, flush=True)
seen = []

class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        seen.append(self.path)
        ready = self.path != "/readyz" or seen.count("/readyz") > 1
        self.send_response(200 if ready else 503)
        self.send_header("x-seen", str(len(seen)))
        told = {"method": self.command, "path": self.path, "body": body, "peer": self.client_address[0]}
        told["headers"] = {name.lower(): value for name, value in self.headers.items()}
        body = json.dumps(told).encode()
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_PUT = do_POST = answer
    def log_message(self, *_): pass

class Server(http.server.ThreadingHTTPServer):
    def server_bind(self):
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

def serve(address, tls):
    host, port = address.rsplit(":", 1)
    Server.address_family = socket.AF_INET6 if "[" in host else socket.AF_INET
    server = Server((host.strip("[]"), int(port)), Handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls.groups())
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever).start()

gateway, _, control = text.partition("control:\n")
runner_api = re.search(r"runner-api: {listen: \[(.*)\], tls: {cert: (.*), key: (.*)}}", gateway)
if runner_api:
    tls = re.search(r"cert: (.*), key: (.*)}}", runner_api.group())
    for address in re.findall('"(.*?)"', runner_api.group(1)):
        serve(address, tls)
if control:
    open("admin-token", "w").write("first\n")
    serve(re.search('listen: "(.*)"', control).group(1), re.search("tls: {cert: (.*), key: (.*)}", control))
threading.Event().wait()
"#;

fn stand_in(lab: &Lab) -> PathBuf {
    let path = lab.dir().join("stand-in");
    std::fs::write(&path, STAND_IN).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

async fn control(lab: &Lab) -> Control {
    let control = ControlBuilder::new(lab, stand_in(lab)).start().await;
    control.unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn control_is_called_a_hundred_times_and_says_what_it_got() {
    let lab = Lab::builder().runners(0).control().build().unwrap();
    let control = control(&lab).await;
    assert_eq!(control.admin_token().await.unwrap(), "first");
    let body = json!({"name": "ci"});
    let answer = control
        .api("POST", "/api/v1/x?y=1", Some("secret"), Some(&body))
        .await;
    let answer = answer.unwrap().expect(200);
    let told = answer.json();
    assert_eq!(
        (&told["method"], &told["path"]),
        (&json!("POST"), &json!("/api/v1/x?y=1"))
    );
    assert_eq!(told["headers"]["authorization"], "Bearer secret");
    assert_eq!(told["headers"]["content-type"], "application/json");
    assert_eq!(told["headers"]["host"], "control.test:8443");
    assert_eq!(told["body"], body.to_string());
    let request = control
        .request("PUT", "/p")
        .header("if-match", "\"1\"")
        .yaml("a: b");
    let told = request.send().await.unwrap().json();
    assert_eq!(
        (&told["headers"]["if-match"], &told["body"]),
        (&json!("\"1\""), &json!("a: b"))
    );
    let before: u64 = answer.header("x-seen").unwrap().parse().unwrap();
    for _ in 0..100 {
        control.api("GET", "/many", None, None).await.unwrap().expect(200);
    }
    let last = control.api("GET", "/many", None, None).await.unwrap();
    assert_eq!(last.header("x-seen").unwrap(), (before + 102).to_string());
    assert_eq!(last.json()["headers"].get("authorization"), None);
}

#[tokio::test]
async fn control_is_killed_stopped_and_started_again_with_its_files() {
    let lab = Lab::builder().runners(0).control().build().unwrap();
    let builder = ControlBuilder::named(&lab, "ctl-1", stand_in(&lab));
    let builder = builder.file("kept", "yes").unwrap().key("strict: true");
    let builder = builder
        .store("sqlite://other.db")
        .issuer("https://issuer.test", "tidegate");
    let mut control = builder.start().await.unwrap_or_else(|error| panic!("{error}"));
    let config = std::fs::read_to_string(control.path("tidegate.yaml")).unwrap();
    let ca = lab.ca_pem_path();
    let wanted = format!(
        "version: 1\ncontrol:\n  listen: \"[::]:8443\"\n  tls: {{cert: cert.pem, key: cert.key}}\n  \
         store: \"sqlite://other.db\"\n  bootstrap-token-file: admin-token\n  oidc:\n    \
         - {{issuer: \"https://issuer.test\", audience: tidegate, ca: \"{}\"}}\n  strict: true\n",
        ca.display()
    );
    assert_eq!(config, wanted);
    let pid = control.process().pid().unwrap();
    control.kill().await.unwrap();
    let gone = control.api("GET", "/", None, None).await.unwrap_err();
    assert!(gone.to_string().contains("connect to 10.80.0.10:8443"), "{gone}");
    control.restart().await.unwrap();
    assert_ne!(control.process().pid(), Some(pid));
    assert!(control.process().stderr().contains("started as control"));
    assert_eq!(control.stop(SOON).await.unwrap(), None, "SIGTERM ended it");
    control.restart().await.unwrap();
    assert_eq!(std::fs::read_to_string(control.path("kept")).unwrap(), "yes");
}

#[tokio::test]
async fn a_program_that_does_not_come_up_is_shown_with_its_log() {
    let lab = Lab::builder().runners(0).control().build().unwrap();
    let path = stand_in(&lab);
    std::fs::write(&path, "#!/bin/sh\necho no such store >&2; exit 1\n").unwrap();
    let error = ControlBuilder::new(&lab, path).start().await.unwrap_err();
    let StartError::Start { source, log } = &error else {
        panic!("{error}");
    };
    assert!(
        source.last.starts_with("it has ended"),
        "nobody waits for the dead: {source}"
    );
    assert_eq!(log, "no such store\n");
}

/// What curl in a machine gets from a URL.
async fn curl(machine: &tidegate_lab::Machine, args: &[&str]) -> Value {
    let output = machine.command("curl").arg("-sS").args(args).run().await;
    serde_json::from_slice(&output.unwrap().expect_success().stdout).unwrap()
}

/// A running gateway of group `zone-a` that follows a control plane.
async fn member<'a>(builder: GatewayBuilder<'a>, control: &Control) -> Gateway<'a> {
    let ca = control.path("../ca.pem").canonicalize().unwrap();
    let builder = builder.group("zone-a").runner_api();
    let builder = builder.control_plane(&control.url(), "gw-token", &ca);
    builder.start().await.unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn two_gateways_have_their_own_names_files_addresses_and_machines() {
    let lab = Lab::builder().second_gateway().control().build().unwrap();
    let control = control(&lab).await;
    let binary = stand_in(&lab);
    let one = member(GatewayBuilder::named(&lab, "gw-1", &binary), &control).await;
    let two = member(GatewayBuilder::second(&lab, "gw-2", &binary), &control).await;
    let config = std::fs::read_to_string(two.path("tidegate.yaml")).unwrap();
    let wanted = format!(
        "version: 1\ngateway:\n  name: gw-2\n  state-dir: state\n  networks:\n    \
         - {{name: net0, interface: runners0}}\n  dns: {{upstreams: [198.51.100.53]}}\n  \
         events: {{file: events.ndjson}}\n  metrics: {{listen: \"127.0.0.1:9464\"}}\n  \
         runner-api: {{listen: [\"10.77.1.254:443\", \"[fd77:1::fe]:443\"], \
         tls: {{cert: runner.pem, key: runner.key}}}}\n  group: zone-a\n  \
         control-plane: {{url: \"https://control.test:8443\", token-file: token, ca: \"{}\"}}\n",
        lab.ca_pem_path().display()
    );
    assert_eq!(config, wanted);
    assert_eq!(std::fs::read_to_string(two.path("token")).unwrap(), "gw-token");
    assert_ne!(one.path("token"), two.path("token"));
    let (_, status) = two.status().await.unwrap();
    assert_eq!(status["config"], two.path("tidegate.yaml").display().to_string());
    for (gateway, peer) in [(&one, "::ffff:198.51.100.1"), (&two, "::ffff:198.51.100.2")] {
        let told = curl(gateway.machine(), &["-4", &format!("{}/x", control.url())]).await;
        assert_eq!(told["peer"], peer);
    }
    let told = curl(two.machine(), &["-6", &format!("{}/x", control.url())]).await;
    assert_eq!(told["peer"], "2001:db8:100::2");
    // The runner API, as runners reach it and under each of its names.
    let runner = lab.runner(0);
    for (address, name) in [
        ((plan::gateway_v4(0), 443).into(), "tidegate.internal"),
        ((plan::gateway_v6(0), 443).into(), "runner-api.test"),
        ((plan::second_gateway_v4(0), 443).into(), "10.77.1.254"),
        ((plan::second_gateway_v6(0), 443).into(), "fd77:1::fe"),
    ] {
        let api = lab.api(runner, address, name).unwrap();
        let told = api
            .call("GET", "/v1/jobs/current", None, None)
            .await
            .unwrap()
            .json();
        let source = if address.is_ipv4() {
            "10.77.1.2"
        } else {
            "fd77:1::2"
        };
        assert_eq!(told["peer"], source, "{name}");
    }
    let wrong = lab
        .api(runner, (plan::gateway_v4(0), 443).into(), "control.test")
        .unwrap();
    assert!(wrong.call("GET", "/", None, None).await.is_err(), "not its name");
}

#[tokio::test]
async fn up_has_control_in_the_same_process() {
    let lab = Lab::builder().build().unwrap();
    let section = ControlSection::default().key("strict: true");
    let builder = GatewayBuilder::new(&lab, stand_in(&lab)).up(section);
    let mut gateway = builder.start().await.unwrap_or_else(|error| panic!("{error}"));
    let config = std::fs::read_to_string(gateway.path("tidegate.yaml")).unwrap();
    let wanted = "\ncontrol:\n  listen: \"127.0.0.1:8443\"\n  store: \"sqlite://control.db\"\n  \
                  bootstrap-token-file: admin-token\n  strict: true\n";
    assert!(
        config.starts_with("version: 1\ngateway:\n  name: lab-gw\n") && config.ends_with(wanted),
        "{config}"
    );
    assert!(gateway.process().stderr().contains("started as up"));
    let token = gateway.control().admin_token().await.unwrap();
    let told = gateway
        .control()
        .api("GET", "/x", Some(&token), None)
        .await
        .unwrap()
        .json();
    assert_eq!(
        (&told["peer"], &told["headers"]["host"]),
        (&json!("127.0.0.1"), &json!("127.0.0.1:8443"))
    );
    gateway.kill().await.unwrap();
    gateway.restart().await.unwrap();
    gateway
        .control()
        .api("GET", "/x", None, None)
        .await
        .unwrap()
        .expect(200);
}
