//! The command line of the side-by-side benchmark.
//!
//! Owns the words only; what they lead to is the benchmark's.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::peers::{Part, Peer};
use crate::sys::Waiting;

/// Tidegate beside its peers: cached and refused DNS queries, TLS flows, bulk and idle tunnels, in interleaved rounds.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo bench -p tidegate-bench --bench gate --")]
pub struct Options {
    /// Only this part.
    #[arg(long, value_enum)]
    pub only: Option<Part>,
    /// Rounds: each measures every subject afresh.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub rounds: u32,
    /// Only these subjects, instead of all the usual ones.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub peers: Vec<Peer>,
    /// Cores that a subject gets: 1, 2 or both in turn.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2], value_parser = clap::value_parser!(u32).range(1..=2))]
    pub cores: Vec<u32>,
    /// Only tables whose title has these words, such as `1000 leases` or `Small TLS`.
    #[arg(long, value_name = "WORDS")]
    pub titled: Option<String>,
    /// Queries of a measurement.
    #[arg(long, default_value_t = 200_000)]
    pub queries: u64,
    /// Small flows of a measurement.
    #[arg(long, default_value_t = 20_000)]
    pub flows: u64,
    /// Idle tunnels at once; a process holds 20 000 descriptors on some machines, and each takes a proxy two.
    #[arg(long, default_value_t = 9_000)]
    pub tunnels: usize,
    /// Tidegate's program, instead of building it.
    #[arg(long, value_name = "PATH")]
    pub program: Option<PathBuf>,
    /// Where to write tables and charts, besides printing the tables.
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// Be one of the benchmark's own servers instead.
    #[arg(long, value_enum, hide = true)]
    pub serve: Option<Role>,
    /// Threads of that server.
    #[arg(long, default_value_t = 1, hide = true)]
    pub threads: usize,
    /// That server is never woken, by looking again and again.
    #[arg(long, hide = true)]
    pub awake: bool,
    /// What cargo adds.
    #[arg(long, hide = true)]
    pub bench: bool,
}

/// Servers of the benchmark's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// The floor of DNS.
    Echo,
    /// The floor of flows.
    Relay,
    /// What flows go to.
    Origins,
}

impl Options {
    /// How the server of [`serve`](Self::serve) waits.
    pub fn waiting(&self) -> Waiting {
        if self.awake {
            Waiting::Awake
        } else {
            Waiting::Asleep
        }
    }

    /// Whether a part is wanted.
    pub fn wants(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }

    /// Whether a table of this title is wanted.
    pub fn titled(&self, title: &str) -> bool {
        self.titled.as_ref().is_none_or(|words| title.contains(words))
    }

    /// Whether runs on so many cores are wanted.
    pub fn on(&self, cores: u32) -> bool {
        self.cores.contains(&cores)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end by panic")]

    use super::*;

    fn parse(words: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(["gate"].into_iter().chain(words.split_whitespace()))
    }

    #[test]
    fn parts_and_peers_are_chosen_by_name() {
        let options = parse("--only dns --rounds 5 --peers tidegate,unbound,echo --bench").unwrap();
        assert!(options.wants(Part::Dns) && !options.wants(Part::Flows));
        assert_eq!(options.peers, [Peer::Tidegate, Peer::Unbound, Peer::Echo]);
        assert_eq!(options.rounds, 5);
        assert!(options.on(1) && options.on(2));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for words in ["--rounds 0", "--peers bind", "--cores 3", "--only tcp"] {
            assert!(parse(words).is_err(), "{words}");
        }
        assert!(!parse("--cores 1").unwrap().on(2));
        let options = parse("--titled refused").unwrap();
        assert!(options.titled("names refused") && !options.titled("cached"));
    }
}
