//! The lab: a runner fleet, a gateway's machine and a small internet, made of
//! network namespaces on this machine. End-to-end tests and `tidegate demo`
//! run on it. Needs root. It never touches anything that does not carry its
//! own id, and removes all of it on drop, or in the next build after a crash.
//!
//! ```text
//!  runner0-0  10.77.1.2  fd77:1::2 ─┐ runners0         up0                     net
//!  runner0-1  10.77.1.3  fd77:1::3 ─┴─[ gw ]─────────────────────[ 198.51.100.53   DNS      ]
//!                          10.77.1.1        198.51.100.1         [ 192.0.2.10      allowed  ]
//!                          fd77:1::1        2001:db8:100::1      [ 192.0.2.20      cdn-a, -b ]
//!                                                                [ 192.0.2.66      evil     ]
//!  direct  198.51.100.200 ───────────────────────────────────────[ 203.0.113.66    attacker ]
//! ```
//!
//! [`Builder::second_gateway`] adds `gw2` (10.77.1.254, fd77:1::fe; uplink
//! 198.51.100.2), [`Builder::control`] adds `ctl` (`control.test`, 10.80.0.10,
//! fd80::10) behind the internet.
//!
//! The internet does not know the runner ranges: what bypasses the gateway
//! gets no answer, and [`Lab::leaks`] counts it.
//!
//! ```no_run
//! # async fn example() -> Result<(), tidegate_lab::LabError> {
//! use tidegate_lab::{Lab, wait_until};
//!
//! let lab = Lab::builder().runners(2).direct().build()?;
//! lab.dns().set("new.test", &["A 192.0.2.10", "TXT \"hi\""])?;
//! let gateway = lab.gw().command("/path/to/tidegate").args(["gateway", "--config", "f"]).spawn()?;
//! let page = lab.runner(0).command("curl").args(["-sS", "https://allowed.test/"]).run().await?;
//! assert!(page.success(), "{page}");
//! assert!(lab.dns().asked("evil.test").is_empty());
//! assert_eq!(lab.leaks()?.packets, 0);
//! # Ok(()) }
//! ```
//!
//! | to | use |
//! |---|---|
//! | run a tool | [`Machine::command`] → [`Command::run`] (time limit, output) or [`Command::spawn`] → [`Process`] |
//! | open sockets from Rust | [`Machine::enter`] (blocking), [`Machine::enter_async`] |
//! | change a machine | [`Machine::add_address`], [`set_mac`](Machine::set_mac), [`set_hosts`](Machine::set_hosts), [`set_resolvers`](Machine::set_resolvers), [`ip`](Machine::ip), [`sysctl`](Machine::sysctl) |
//! | say what DNS answers, see what it was asked | [`Lab::dns`], [`Lab::foreign_dns`] → [`DnsServer`] |
//! | add web sites, see what reached them | [`Lab::add_site`] ([`Site`]), [`Lab::origins`] → [`Origins`] |
//! | start other servers | [`Lab::raw`] ([`Script`]: TCP, byte-exact), [`Lab::udp`]; [`Builder::git`], [`ssh`](Builder::ssh), [`postgres`](Builder::postgres), [`index`](Builder::index) |
//! | run the program | [`GatewayBuilder`] → [`Gateway`], [`ControlBuilder`] → [`Control`]; [`GatewayBuilder::up`] for both in one |
//! | call an API often | [`Control::api`], [`Control::request`]; any server from any machine: [`Lab::api`] → [`Api`] |
//! | fail over | [`Machine::use_gateway`] |
//! | sign job identities | [`Lab::oidc_issuer`], without a lab [`OidcIssuer::loopback`] |
//! | have a database | [`PostgresServer`], without a lab or in a machine |
//! | give a tool of your own a certificate | [`Lab::ca`] → [`Authority::issue_files`] |
//! | wait | [`wait_until`], [`EventLog::wait_for`] |
//! | know the addresses | [`plan`] |

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "the lab waits for real processes by the real clock; it holds no decisions"
)]

mod api;
mod builder;
mod ca;
mod claim;
mod command;
mod control;
mod daemon;
mod datagram;
mod dns;
mod error;
mod events;
mod gateway;
mod git;
mod index;
mod internet;
mod lab;
mod leaks;
mod machine;
mod netns;
mod oidc;
mod origin;
pub mod plan;
mod postgres;
mod program;
mod raw;
mod tool;
mod topology;
mod wait;

pub use api::{Answer, Api, ApiRequest};
pub use builder::Builder;
pub use ca::{Authority, CertificateFiles};
pub use claim::sweep;
pub use command::{Command, Output, Process};
pub use control::{Control, ControlApi, ControlBuilder, ControlSection};
pub use datagram::{UdpReply, UdpServer};
pub use dns::{Behaviour, DnsServer, EdnsSeen, Gate, LoggedQuery, Transport};
pub use error::LabError;
pub use events::EventLog;
pub use gateway::{Gateway, GatewayBuilder};
pub use lab::Lab;
pub use leaks::Leaks;
pub use machine::Machine;
pub use nix::sys::signal::Signal;
pub use oidc::{KeyKind, OidcIssuer, Token};
pub use origin::{LoggedConnection, LoggedRequest, Origins, Site, TlsMode};
pub use postgres::PostgresServer;
pub use program::StartError;
pub use raw::{Ending, RawConnection, RawServer, Script};
pub use wait::{WaitError, wait_until};
