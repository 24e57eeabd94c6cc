//! The load harness: replays real channel logs against a cluster and checks every promise the service makes
//! about them. [`replay::run`] is the whole of it; `campanile-bench` is its command line.

pub mod barrier;
pub mod beside;
pub mod capacity;
pub mod check;
pub mod compare;
pub mod engine;
pub mod files;
pub mod idle;
pub mod ledger;
pub mod logs;
pub mod meters;
pub mod pauses;
pub mod plan;
pub mod progress;
pub mod protocol;
pub mod replay;
pub mod report;
pub mod roll;
pub mod run;
pub mod slo;
pub mod soak;
pub mod spawn;
pub mod summary;
pub mod systems;
pub mod target;
pub mod usage;
pub mod workload;
