//! `campanile`: see `campanile --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First thing: every TLS connection of this process uses this one provider.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    node::cli::run(std::env::args_os())
}
