//! `campanile-bench`: the load harness.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::main()
}
