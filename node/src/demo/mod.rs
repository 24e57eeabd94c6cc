//! `campanile demo`.

use crate::cli::{Code, DemoArgs, Exit, Failure};

pub(crate) async fn run(_args: DemoArgs) -> Result<(), Failure> {
    Err(Failure::new(Code::Demo, Exit::Failed, "the demo is being written"))
}
