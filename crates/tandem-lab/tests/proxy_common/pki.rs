//! Certificates for tests.

use std::path::Path;

/// A new CA as `ca.crt`, and one certificate for everybody.
pub(super) fn certificates(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.distinguished_name.push(rcgen::DnType::CommonName, "lab");
    write("ca.crt", ca.self_signed(&ca_key).unwrap().pem());
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["redis.lab".to_owned()]).unwrap();
    write("tls.crt", params.signed_by(&key, &issuer).unwrap().pem());
    write("tls.key", key.serialize_pem());
}
