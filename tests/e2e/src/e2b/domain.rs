//! With a domain and TLS a client needs the address of the API alone: the answer to a create says
//! where the sandbox is.

use super::{Clients, Server, passed};
use crate::harness::{Home, command, needs, run, skip};

#[test]
fn with_tls_the_answer_to_a_create_is_enough() {
    needs!("openssl");
    let Some(clients) = Clients::of("newest") else { skip!("E2B's packages are not installed") };
    let home = Home::new();
    let [certificate, key] = ["server.pem", "server.key"].map(|name| home.file(name, b""));
    let mut openssl = command("openssl");
    openssl
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "1", "-subj", "/CN=box.localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-addext", "subjectAltName=DNS:*.box.localhost,DNS:box.localhost", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate);
    run(&mut openssl, b"").good();
    let [cert, key] = [&certificate, &key].map(|path| path.to_str().expect("a path"));
    let set = ["--set", "domain=box.localhost", "--tls-cert", cert, "--tls-key", key];
    let server = Server::with(&home, &set);
    let mut python = clients.python("domain.py");
    let api = format!("https://api.box.localhost:{}", server.address.port());
    python
        .env("E2B_API_URL", api)
        .env("E2B_API_KEY", &server.key)
        .env("SSL_CERT_FILE", &certificate);
    python.env("CHECK", super::SCRIPTS).env("PYTHONDONTWRITEBYTECODE", "1");
    passed("domain.py", run(&mut python, b""));
}
