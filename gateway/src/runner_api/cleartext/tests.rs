//! Where the page without TLS stands. What it serves is shown over sockets in `gate/reach/explained.rs`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

#[test]
fn it_stands_on_port_80_of_each_address_unless_the_runner_api_does() {
    let config = |listen: &[&str]| RunnerApiConfig {
        listen: listen.iter().map(|address| address.parse().unwrap()).collect(),
        cert: "cert.pem".into(),
        key: "key.pem".into(),
    };
    let stands = |listen: &[&str]| -> Vec<String> {
        addresses(&config(listen))
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(
        stands(&["10.77.1.1:443", "10.77.1.1:8443", "[fd77:1::1]:443"]),
        ["10.77.1.1:80", "[fd77:1::1]:80"]
    );
    assert_eq!(stands(&["10.77.1.1:443", "10.77.1.1:80"]), Vec::<String>::new());
}
