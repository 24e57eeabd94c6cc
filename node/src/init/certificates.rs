//! The cluster's certificate authority, its nodes' certificates, and apps' signing keys.

use std::net::IpAddr;

use chat::ids::{NodeId, peer_name};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SanType,
};
use time::{Duration, OffsetDateTime};

/// Certificates of a new cluster live this long. There is no certificate that could end a running cluster early.
const LIFETIME: Duration = Duration::days(3_650);
/// Clocks of the nodes may differ by this much from the machine that made the certificates.
const CLOCK_SLACK: Duration = Duration::days(1);

/// A certificate authority that signs the nodes of one cluster and nothing else.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// PEM texts.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) private_key: String,
}

impl Authority {
    pub(crate) fn new(cluster: &str) -> Result<Self, rcgen::Error> {
        let mut params = validity(CertificateParams::default());
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("Campanile cluster {cluster}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// The authority whose certificate and key these are.
    pub(crate) fn load(pem: &str, private_key: &str) -> Result<Self, rcgen::Error> {
        let issuer = Issuer::from_ca_cert_pem(pem, KeyPair::from_pem(private_key)?)?;
        Ok(Self { issuer, pem: pem.to_owned() })
    }

    pub(crate) fn private_key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// One certificate for all of a node's listeners: its peer name for other nodes, `localhost` and its
    /// address for clients and operators.
    pub(crate) fn node(&self, cluster: &str, node: NodeId, host: IpAddr) -> Result<Pair, rcgen::Error> {
        let key = KeyPair::generate()?;
        let certificate = self.certify(cluster, node, host, &key)?;
        Ok(Pair { certificate, private_key: key.serialize_pem() })
    }

    /// A node's certificate for a key that only the node has. What else the request asks for is not granted.
    pub(crate) fn sign(
        &self,
        cluster: &str,
        node: NodeId,
        host: IpAddr,
        request_pem: &str,
    ) -> Result<String, rcgen::Error> {
        let request = CertificateSigningRequestParams::from_pem(request_pem)?;
        self.certify(cluster, node, host, &request.public_key)
    }

    fn certify(
        &self,
        cluster: &str,
        node: NodeId,
        host: IpAddr,
        key: &impl PublicKeyData,
    ) -> Result<String, rcgen::Error> {
        let mut params = validity(CertificateParams::default());
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("Campanile node {node}"));
        params.subject_alt_names = vec![dns(&peer_name(cluster, node))?, dns("localhost")?, SanType::IpAddress(host)];
        let loopback = IpAddr::from([127, 0, 0, 1]);
        if host != loopback {
            params.subject_alt_names.push(SanType::IpAddress(loopback));
        }
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params.signed_by(key, &self.issuer)?.pem())
    }
}

/// A request for a node's certificate, made with the node's own key.
pub(crate) fn request(private_key: &str) -> Result<String, rcgen::Error> {
    CertificateParams::default().serialize_request(&KeyPair::from_pem(private_key)?)?.pem()
}

/// A node's new private key.
pub(crate) fn node_key() -> Result<String, rcgen::Error> {
    Ok(KeyPair::generate()?.serialize_pem())
}

/// A hash of the public key that a request is made for.
pub(crate) fn key_of(request_pem: &str) -> Result<[u8; 32], rcgen::Error> {
    let request = CertificateSigningRequestParams::from_pem(request_pem)?;
    Ok(*blake3::hash(request.public_key.der_bytes()).as_bytes())
}

fn dns(name: &str) -> Result<SanType, rcgen::Error> {
    Ok(SanType::DnsName(name.try_into()?))
}

fn validity(mut params: CertificateParams) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - CLOCK_SLACK;
    params.not_after = now + LIFETIME;
    params
}

/// An Ed25519 key for an app's user tokens: private (PKCS#8) and public, both PEM.
pub(super) struct AppKey {
    pub(super) private: String,
    pub(super) public: String,
}

pub(super) fn app_key() -> Result<AppKey, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    Ok(AppKey { private: key.serialize_pem(), public: key.public_key_pem() })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

    use super::*;

    const CLUSTER: &str = "0190c0de-0000-7000-8000-000000000001";

    #[test]
    fn a_node_is_known_by_its_peer_name_and_addresses_and_only_under_its_own_authority() {
        let (own, other) = (Authority::new(CLUSTER).unwrap(), Authority::new(CLUSTER).unwrap());
        let node = own.node(CLUSTER, 2, IpAddr::from([10, 0, 0, 2])).unwrap();
        let certificate = CertificateDer::from_pem_slice(node.certificate.as_bytes()).unwrap();
        let accepts = |authority: &Authority, name: &str| {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            let name = ServerName::try_from(name.to_owned()).unwrap();
            verifier.verify_server_cert(&certificate, &[], &name, &[], UnixTime::now()).is_ok()
        };
        for name in [peer_name(CLUSTER, 2).as_str(), "localhost", "127.0.0.1", "10.0.0.2"] {
            assert!(accepts(&own, name), "{name}");
        }
        assert!(!accepts(&own, &peer_name(CLUSTER, 1)));
        assert!(!accepts(&own, "example.com"));
        assert!(!accepts(&other, "localhost"));
    }

    #[test]
    fn a_loaded_authority_signs_requests_for_the_key_they_are_made_with() {
        let made = Authority::new(CLUSTER).unwrap();
        let loaded = Authority::load(&made.pem, &made.private_key()).unwrap();
        let request = request(&node_key().unwrap()).unwrap();
        let pem = loaded.sign(CLUSTER, 4, IpAddr::from([127, 0, 0, 1]), &request).unwrap();
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(made.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let name = ServerName::try_from(peer_name(CLUSTER, 4)).unwrap();
        verifier.verify_server_cert(&certificate, &[], &name, &[], UnixTime::now()).unwrap();
        assert_ne!(key_of(&request).unwrap(), key_of(&self::request(&node_key().unwrap()).unwrap()).unwrap());
        assert!(loaded.sign(CLUSTER, 4, IpAddr::from([127, 0, 0, 1]), "no request").is_err());
    }

    #[test]
    fn tokens_signed_with_an_apps_key_verify_with_its_public_key() {
        use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
        let key = app_key().unwrap();
        let claims = serde_json::json!({ "sub": "alice", "aud": "main", "exp": 4_000_000_000u64 });
        let signer = EncodingKey::from_ed_pem(key.private.as_bytes()).unwrap();
        let token = jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &signer).unwrap();
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&["main"]);
        let verify = |public: &str| {
            let key = DecodingKey::from_ed_pem(public.as_bytes()).unwrap();
            jsonwebtoken::decode::<serde_json::Value>(&token, &key, &validation).is_ok()
        };
        assert!(verify(&key.public));
        assert!(!verify(&app_key().unwrap().public));
    }
}
