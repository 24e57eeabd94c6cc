//! Three ejabberd nodes with one Mnesia database.

use std::path::{Path, PathBuf};

use super::process::{Process, run};
use super::{Clients, READY_WITHIN, SystemError, free_ports, room_prefix, wait_ready};

const NODES: u16 = 3;
const FILES: [(&str, &str); 4] = [
    ("node.sh", include_str!("../../systems/ejabberd/node.sh")),
    ("join.sh", include_str!("../../systems/ejabberd/join.sh")),
    ("prepare.sh", include_str!("../../systems/ejabberd/prepare.sh")),
    ("ejabberd.yml", include_str!("../../systems/ejabberd/ejabberd.yml")),
];

pub(super) struct Ejabberd {
    nodes: Vec<Process>,
    port: u16,
    scripts: PathBuf,
}

impl Ejabberd {
    pub(super) fn start(dir: &Path, clients: Clients) -> Result<Self, SystemError> {
        for (name, text) in FILES {
            std::fs::write(dir.join(name), text)?;
        }
        // One per node, and that of the Erlang distribution.
        let port = free_ports(NODES + 1)?;
        let node = |number: u16| {
            let script = dir.join("node.sh").display().to_string();
            let (own, clients) = (dir.display().to_string(), clients.word().to_owned());
            let arguments = [script, number.to_string(), own, port.to_string(), clients];
            Process::start(&format!("node-{number}"), Path::new("sh"), &arguments, dir)
        };
        let nodes = (1..=NODES).map(node).collect::<Result<_, _>>()?;
        let mut cluster = Self { nodes, port, scripts: dir.to_owned() };
        for number in 1..=NODES {
            let join = cluster.scripts.join("join.sh");
            let ask = |question: &str| run(&join, &[question.to_owned(), number.to_string(), port.to_string()]);
            wait_ready(&mut cluster.nodes, READY_WITHIN, || ask("started").is_ok())?;
            if number > 1 {
                ask("join")?;
            }
        }
        Ok(cluster)
    }

    pub(super) fn ports(&self) -> Vec<u16> {
        (0..NODES).map(|node| self.port + node).collect()
    }

    pub(super) fn processes(&self) -> impl Iterator<Item = &Process> {
        self.nodes.iter()
    }

    pub(super) fn prepare(&self, run_number: u32, users: u32, groups: u32) -> Result<(), SystemError> {
        let arguments = [users.to_string(), room_prefix(run_number), groups.to_string(), self.port.to_string()];
        run(&self.scripts.join("prepare.sh"), &arguments)?;
        Ok(())
    }
}
