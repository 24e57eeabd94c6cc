//! openraft, and everything that knows it.

pub(crate) mod log_store;
pub(crate) mod network;
pub(crate) mod serve;
pub(crate) mod state_machine;
pub(crate) mod types;

#[cfg(test)]
mod suite;
