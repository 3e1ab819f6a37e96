//! The peers' configurations, as text: the same allowlist, the same answers behind it, the same addresses, a thread a
//! core. Where a peer refuses, it does so for everybody: none knows jobs.
//!
//! Pure: reads nothing and starts nothing.

use std::fmt::Write as _;

use tidegate_lab::plan;

use super::Peer;
use crate::cast::{self, ALLOWED_NAMES, SOURCES};

/// Where Tidegate's table diverts TCP to.
pub const PROXY_PORT: u16 = 7453;

/// What all peers are configured for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Cores, and threads.
    pub cores: usize,
    /// Leases, and sources that ask for names.
    pub leases: usize,
}

/// The lines that `line` makes of every name of the allowlist.
fn each_name(line: impl Fn(&str) -> String) -> String {
    cast::names(ALLOWED_NAMES).iter().map(|name| line(name)).collect()
}

/// The allowlist, a name a line.
pub fn name_lines() -> String {
    each_name(|name| format!("{name}\n"))
}

/// Tidegate's, from what the lab wrote: as many leases more, each with the same policy, without what the variant does
/// without.
pub fn tidegate(config: &str, leases: usize, variant: Peer) -> String {
    let without: &[&str] = if variant == Peer::TidegateQuiet {
        &["events:"]
    } else if variant == Peer::TidegateBare {
        &["events:", "metrics:"]
    } else {
        &[]
    };
    let is_kept = |line: &&str| !without.iter().any(|key| line.trim_start().starts_with(key));
    let kept = config.lines().filter(is_kept);
    let mut text: String = kept.flat_map(|line| [line, "\n"]).collect();
    for index in 0..leases {
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "    - {{sources: [{}], owner: acme, repo: acme/web, workflow: ci.yml, job: job-{index}, policy: job.yaml}}",
            cast::source(index)
        );
    }
    text
}

/// No DNSSEC validation (Tidegate does none), the lab's resolver behind it.
pub fn unbound(setting: &Setting, variant: Peer) -> String {
    let zones = if variant == Peer::UnboundOpen {
        "  local-zone: \"test.\" nodefault\n".to_owned()
    } else {
        "  local-zone: \".\" refuse\n".to_owned()
            + &each_name(|name| format!("  local-zone: \"{name}.\" transparent\n"))
    };
    let (replies, file) = if variant == Peer::UnboundLog {
        ("yes", "unbound.log")
    } else {
        ("no", "")
    };
    format!(
        "server:\n  interface: {}\n  ip-transparent: yes\n  access-control: 10.77.0.0/16 allow\n  \
         access-control: {SOURCES} allow\n  num-threads: {}\n  so-reuseport: yes\n  \
         chroot: \"\"\n  username: \"\"\n  directory: \"\"\n  pidfile: \"\"\n  use-syslog: no\n  logfile: \"{file}\"\n  \
         log-replies: {replies}\n  module-config: \"iterator\"\n  do-ip6: no\n{zones}\
         remote-control:\n  control-enable: no\nforward-zone:\n  name: \".\"\n  forward-addr: {}\n",
        plan::gateway_v4(0),
        setting.cores,
        plan::DNS_V4
    )
}

/// One listening thread a core, a packet cache, the lab's resolver behind it.
pub fn dnsdist(setting: &Setting) -> String {
    let listen = format!("\"{}:53\", {{reusePort=true}}", plan::gateway_v4(0));
    let mut text = format!(
        "setSecurityPollSuffix(\"\")\nsetLocal({listen})\nsetACL({{\"10.0.0.0/8\"}})\n\
         newServer({{address=\"{}:53\", healthCheckMode=\"up\"}})\n\
         getPool(\"\"):setCache(newPacketCache(10000, {{maxTTL=86400}}))\n\
         allowed = newSuffixMatchNode()\n",
        plan::DNS_V4
    );
    for _ in 1..setting.cores {
        let _ = writeln!(text, "addLocal({listen})");
    }
    text + &each_name(|name| format!("allowed:add(newDNSName(\"{name}\"))\n"))
        + "addAction(NotRule(SuffixMatchNodeRule(allowed)), RCodeAction(DNSRCode.REFUSED))\n"
}

/// One process a core shares the port and the cache in the folder.
pub fn knot() -> String {
    format!(
        "net.listen('{}', 53, {{ kind = 'dns' }})\nnet.ipv6 = false\n\
         cache.open(100 * MB, 'lmdb://cache')\ntrust_anchors.remove('.')\n\
         modules.unload('ta_update')\nmodules.unload('ta_signal_query')\nmodules.unload('priming')\n\
         modules.unload('detect_time_skew')\nmodules.unload('detect_time_jump')\n\
         policy.add(policy.suffix(policy.FORWARD({{'{}'}}), policy.todnames({{\n{}}})))\n\
         policy.add(policy.all(policy.REFUSE))\n",
        plan::gateway_v4(0),
        plan::DNS_V4,
        each_name(|name| format!("  '{name}.',\n"))
    )
}

/// Refuses what it has no upstream for. One thread, whatever the cores.
pub fn dnsmasq() -> String {
    format!(
        "no-resolv\nno-hosts\nno-poll\nuser=root\ngroup=root\npid-file=\nlog-facility=-\nbind-interfaces\n\
         listen-address={}\ncache-size=10000\ndns-forward-max=1000\n{}",
        plan::gateway_v4(0),
        each_name(|name| format!("server=/{name}/{}\n", plan::DNS_V4))
    )
}

/// Passes on to wherever the client wanted to go.
pub fn haproxy(setting: &Setting, log: bool) -> String {
    let (target, lines) = if log {
        (
            "  log stdout format raw local0 info\n",
            "  log global\n  option tcplog\n",
        )
    } else {
        ("", "")
    };
    format!(
        "global\n  nbthread {}\n{target}defaults\n  mode tcp\n{lines}  \
         timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         frontend runners\n  bind 127.0.0.1:{PROXY_PORT} transparent\n  tcp-request inspect-delay 3s\n  \
         tcp-request content accept if {{ req.ssl_sni -i -f names }}\n  \
         tcp-request content reject if {{ req.ssl_hello_type 1 }}\n  \
         tcp-request content reject if WAIT_END\n  default_backend original\n\
         backend original\n  server original 0.0.0.0:0\n",
        setting.cores
    )
}

/// Listens at the wildcard, or `$server_addr` would be the address that it listens at.
pub fn nginx(setting: &Setting) -> String {
    format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\nuser root;\ndaemon off;\nworker_processes {};\n\
         worker_rlimit_nofile 20000;\npid nginx.pid;\nevents {{ worker_connections 19000; }}\nstream {{\n  \
         map_hash_max_size 8192;\n  map $ssl_preread_server_name $original {{\n{}  }}\n  server {{\n    \
         listen 0.0.0.0:{PROXY_PORT} backlog=4096;\n    ssl_preread on;\n    proxy_pass $original;\n    \
         proxy_connect_timeout 5s;\n    proxy_timeout 1h;\n  }}\n}}\n",
        setting.cores,
        each_name(|name| format!("    {name} $server_addr:$server_port;\n"))
    )
}

/// The default limit of 1 024 connections a cluster is lifted; a connection without a filter chain is closed.
pub fn envoy() -> String {
    const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters";
    let names = each_name(|name| format!("        - {name}\n"));
    format!(
        "static_resources:\n  listeners:\n  - name: runners\n    \
         address: {{socket_address: {{address: 127.0.0.1, port_value: {PROXY_PORT}}}}}\n    \
         transparent: true\n    tcp_backlog_size: 4096\n    listener_filters:\n    \
         - name: envoy.filters.listener.original_dst\n      \
         typed_config: {{\"@type\": {FILTERS}.listener.original_dst.v3.OriginalDst}}\n    \
         - name: envoy.filters.listener.tls_inspector\n      \
         typed_config: {{\"@type\": {FILTERS}.listener.tls_inspector.v3.TlsInspector}}\n    \
         filter_chains:\n    - filter_chain_match:\n        server_names:\n{names}      filters:\n      \
         - name: envoy.filters.network.tcp_proxy\n        typed_config:\n          \
         \"@type\": {FILTERS}.network.tcp_proxy.v3.TcpProxy\n          \
         stat_prefix: runners\n          cluster: original\n          idle_timeout: 3600s\n  \
         clusters:\n  - name: original\n    type: ORIGINAL_DST\n    lb_policy: CLUSTER_PROVIDED\n    \
         connect_timeout: 5s\n    circuit_breakers:\n      thresholds:\n      \
         - {{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}}\n"
    )
}
