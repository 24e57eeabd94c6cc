//! Whether the files that a configuration names are there and fit to use.

use std::path::Path;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};

use super::problem::{Place, Problem};
use super::secret::{cluster_key, node_key, read_secret_text};
use super::{NodeConfig, SecretError};

pub(super) fn check(config: &NodeConfig) -> Vec<Problem> {
    let mut found = Found(Vec::new());
    if config.cluster.id.is_empty() {
        let help = "run `campanile cluster init --dir DIR --nodes N`, which makes keys, certificates and an id";
        found.add("cluster.id", "the cluster has no id yet", Some(help));
    }
    if !config.node.data_dir.is_dir() {
        let message = format!("{} is not a data directory: there is nothing there", config.node.data_dir.display());
        let help = "a node whose data is gone must not come back under its id, since it has forgotten what it promised: \
                    remove it with `campanile node remove`, then `campanile node join` makes this machine another node";
        found.add("node.data_dir", message, Some(help));
    }
    found.certificate("client.certificate", &config.client.certificate);
    found.private_key("client.private_key", &config.client.private_key);
    if config.peer.certificate != config.client.certificate {
        found.certificate("peer.certificate", &config.peer.certificate);
    }
    if config.peer.private_key != config.client.private_key {
        found.private_key("peer.private_key", &config.peer.private_key);
    }
    found.certificate("peer.ca", &config.peer.ca);
    found.secret("admin.token_file", read_secret_text(&config.admin.token_file).map(drop));
    match node_key(&config.keys.node_key) {
        Ok(key) => found.secret("keys.cluster_key", cluster_key(&config.keys.cluster_key, &key).map(drop)),
        Err(error) => found.secret("keys.node_key", Err(error)),
    }
    for app in &config.apps {
        let key = SubjectPublicKeyInfoDer::from_pem_file(&app.token_public_key);
        found.pem("apps.token_public_key", &app.token_public_key, "public key", key.map(drop));
    }
    found.0
}

struct Found(Vec<Problem>);

impl Found {
    fn add(&mut self, key: &str, message: impl Into<String>, help: Option<&str>) {
        let message = format!("{key}: {}", message.into());
        self.0.push(Problem { place: Place::File, message, help: help.map(str::to_owned) });
    }

    fn secret(&mut self, key: &str, read: Result<(), SecretError>) {
        if let Err(error) = read {
            self.add(key, with_source(&error), None);
        }
    }

    fn certificate(&mut self, key: &str, path: &Path) {
        self.pem(key, path, "certificate", CertificateDer::from_pem_file(path).map(drop));
    }

    fn private_key(&mut self, key: &str, path: &Path) {
        self.secret(key, read_secret_text(path).map(drop));
        if path.is_file() {
            self.pem(key, path, "private key", PrivateKeyDer::from_pem_file(path).map(drop));
        }
    }

    fn pem(&mut self, key: &str, path: &Path, what: &str, read: Result<(), rustls_pki_types::pem::Error>) {
        if let Err(error) = read {
            self.add(key, format!("{} holds no {what} in PEM: {error}", path.display()), None);
        }
    }
}

fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
