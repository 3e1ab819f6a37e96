//! Single steps of the data plane (parsers, lookups, judgements, tickets): their time, or their instructions.
//!
//! Owns the numbers under "Micro benchmarks and instruction counts" in `bench/README.md`; what a step is stands in
//! `tidegate_bench::ops`. Run by `cargo bench -p tidegate-bench --bench micro` for time and by `make instructions` (`--
//! --instructions`) for instructions, which fails where a step takes over 5 % more than its baseline; `-- --instructions
//! --save` writes a new one.

#[path = "micro/instructions.rs"]
mod instructions;

use std::process::ExitCode;

use divan::Bencher;
use tidegate_bench::ops::{OPS, find_op};

/// The allocator that the gateway runs on.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let Some(("--instructions", rest)) = args.split_first().map(|(first, rest)| (first.as_str(), rest))
    else {
        divan::main();
        return ExitCode::SUCCESS;
    };
    match instructions::run(rest) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[divan::bench(args = OPS.map(|(name, _)| name), sample_count = 200, sample_size = 512)]
fn step(bencher: Bencher<'_, '_>, name: &str) {
    let prepare = find_op(name).expect("a known step");
    let step = prepare().expect("it can be made ready");
    bencher.bench_local(step);
}
