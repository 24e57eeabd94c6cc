//! What a run puts out, all of it made from its [`Summary`](crate::summary::Summary).

pub use crate::replay::report::{KillReport, Report, Violations};
