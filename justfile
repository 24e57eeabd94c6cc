# `just verify` never writes, `just fix` does. Plain cargo commands, for those without just.

# Everything that CI runs, on this machine.
verify:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo test --workspace

# Formats, and applies what clippy is sure of.
fix:
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
    cargo fmt --all

# All tests, or those whose name contains FILTER.
test FILTER="":
    cargo test --workspace -- {{FILTER}}

# Three real nodes on loopback and a chat page.
demo:
    cargo run --release -- demo

# Licences, sources, advisories, and each package in its one home (needs cargo-deny 0.20).
deny:
    cargo deny check
