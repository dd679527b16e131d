//! TLS, client certificates, and where the program listens.

use std::{path::Path, process::Command};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use reqwest::{Certificate, Identity, Method};
use rustix::process::Signal;
use serde_json::json;

use super::{Answer, auth::Clients, program::Program};
use crate::support::{Process, eventually, eventually::PATIENCE};

/// An authority, with files for what it issues.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters
            .distinguished_name
            .push(DnType::CommonName, "an authority");
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate and its key, both in PEM.
    pub fn issue(&self, common: &str, purpose: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut parameters = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        if purpose == ExtendedKeyUsagePurpose::ClientAuth {
            parameters.subject_alt_names.clear();
        }
        parameters.distinguished_name.push(DnType::CommonName, common);
        parameters.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    pub fn server(&self, folder: &Path) {
        let (certificate, key) = self.issue("gateway", ExtendedKeyUsagePurpose::ServerAuth);
        std::fs::write(folder.join("tls.pem"), certificate).unwrap();
        std::fs::write(folder.join("tls.key"), key).unwrap();
    }

    /// A client that trusts this authority, and shows a certificate if there is one.
    pub fn client(&self, shown: Option<&(String, String)>) -> reqwest::Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([Certificate::from_pem(self.pem().as_bytes()).unwrap()])
            .pool_max_idle_per_host(0);
        if let Some((certificate, key)) = shown {
            let identity = Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap();
            builder = builder.identity(identity);
        }
        builder.build().unwrap()
    }
}

pub async fn serve(program: &Program, mut command: Command) -> (Process, String) {
    command.env("FENCEGATE_LOG", "info");
    let mut process = Process::spawn("fencegate", command, &program.folder.path().join("log"));
    let mut address = None;
    eventually(PATIENCE, async || {
        assert!(process.ended().is_none(), "{}", process.log());
        let log = process.log();
        address = log
            .lines()
            .find_map(|line| line.strip_prefix("listening on ").map(str::to_owned));
        address.is_some()
    })
    .await;
    (process, address.unwrap())
}

/// A program with a certificate, an authority for clients, and the client `worker`.
fn prepared(authority: &Authority) -> (Program, Clients) {
    let program = Program::new();
    let folder = program.folder.path();
    authority.server(folder);
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    let clients = Clients::new([("keyed", json!({"*": ["read"]}))]);
    let text = std::fs::read_to_string(clients.file()).unwrap();
    let worker = "[clients.worker]\ncertificates = [\"worker 7\"]\nrights = { \"*\" = [\"read\"] }\n";
    std::fs::write(folder.join("clients.toml"), format!("{text}{worker}")).unwrap();
    (program, clients)
}

const TLS: [&str; 9] = [
    "serve",
    "--listen=127.0.0.1:0",
    "--clients=clients.toml",
    "--tls-certificate=tls.pem",
    "--tls-key=tls.key",
    "--tls-client-ca=ca.pem",
    "--store=sqlite:f.db",
    "--jwt-leeway=1s",
    "--migrate",
];

async fn list(client: &reqwest::Client, address: &str, key: Option<&str>) -> Result<u16, reqwest::Error> {
    let mut request = client.request(Method::GET, format!("{address}/v1/fences"));
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    Ok(request.send().await?.status().as_u16())
}

#[tokio::test]
async fn a_certificate_of_the_authority_is_a_client_and_others_are_not() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (program, clients) = prepared(&authority);
    let (_process, address) = serve(&program, program.command(&TLS)).await;
    assert!(address.starts_with("https://"), "{address}");
    let purpose = || ExtendedKeyUsagePurpose::ClientAuth;
    let worker = authority.client(Some(&authority.issue("worker 7", purpose())));
    let unknown = authority.client(Some(&authority.issue("worker 8", purpose())));
    let bare = authority.client(None);
    let key = Some(clients.key("keyed"));

    assert_eq!(list(&worker, &address, None).await.unwrap(), 200);
    assert_eq!(list(&worker, &address, key).await.unwrap(), 200);
    // A wrong key is not made up for by a certificate.
    assert_eq!(list(&worker, &address, Some("fgk_wrong")).await.unwrap(), 401);
    // A browser shows it by itself, whatever page makes it ask.
    for (origin, key, status) in [
        (address.as_str(), None, 200),
        ("https://evil.example", None, 403),
        ("https://evil.example", key, 200),
    ] {
        let asked = worker
            .get(format!("{address}/v1/fences"))
            .header("origin", origin);
        let asked = match key {
            Some(key) => asked.bearer_auth(key),
            None => asked,
        };
        assert_eq!(asked.send().await.unwrap().status(), status, "{origin}");
    }
    assert_eq!(list(&unknown, &address, None).await.unwrap(), 401);
    assert_eq!(list(&unknown, &address, key).await.unwrap(), 200);
    assert_eq!(list(&bare, &address, None).await.unwrap(), 401);
    assert_eq!(list(&bare, &address, key).await.unwrap(), 200);
    for refused in [
        stranger.issue("worker 7", purpose()),
        authority.issue("worker 7", ExtendedKeyUsagePurpose::ServerAuth),
    ] {
        let client = authority.client(Some(&refused));
        assert!(
            list(&client, &address, key).await.is_err(),
            "a certificate that is not the authority's"
        );
    }
    // Without TLS, there is no answer at all.
    let plain = address.replace("https://", "http://");
    assert!(list(&bare, &plain, key).await.is_err());
    assert!(
        list(&stranger.client(None), &address, key).await.is_err(),
        "an authority that is not trusted"
    );
}

#[tokio::test]
async fn certificates_can_be_required_of_everybody() {
    let authority = Authority::new();
    let (program, clients) = prepared(&authority);
    let mut command = program.command(&TLS);
    command.arg("--tls-require-client-certificate");
    let (_process, address) = serve(&program, command).await;
    let worker = authority.client(Some(
        &authority.issue("worker 7", ExtendedKeyUsagePurpose::ClientAuth),
    ));
    assert_eq!(list(&worker, &address, None).await.unwrap(), 200);
    assert!(
        list(&authority.client(None), &address, Some(clients.key("keyed")))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn sighup_brings_new_certificates_and_clients_and_what_is_wrong_changes_nothing() {
    let (old, new) = (Authority::new(), Authority::new());
    let (program, clients) = prepared(&old);
    let folder = program.folder.path();
    let (process, address) = serve(&program, program.command(&TLS)).await;
    let key = Some(clients.key("keyed"));
    assert_eq!(list(&old.client(None), &address, key).await.unwrap(), 200);

    std::fs::write(folder.join("tls.pem"), "nonsense").unwrap();
    process.signal(Signal::HUP);
    eventually(PATIENCE, async || {
        process.log().contains("certificates cannot be read anew")
    })
    .await;
    assert_eq!(list(&old.client(None), &address, key).await.unwrap(), 200);

    new.server(folder);
    std::fs::write(folder.join("ca.pem"), new.pem()).unwrap();
    std::fs::write(folder.join("clients.toml"), "").unwrap();
    process.signal(Signal::HUP);
    eventually(PATIENCE, async || {
        list(&new.client(None), &address, key)
            .await
            .is_ok_and(|status| status == 401)
    })
    .await;
    assert!(list(&old.client(None), &address, key).await.is_err());
    let former = old.issue("worker 7", ExtendedKeyUsagePurpose::ClientAuth);
    assert!(list(&new.client(Some(&former)), &address, None).await.is_err());
}

#[tokio::test]
async fn listening_beyond_loopback_takes_tls_and_authentication_or_a_word_for_each() {
    let authority = Authority::new();
    let (program, _clients) = prepared(&authority);
    let tls = ["--tls-certificate=tls.pem", "--tls-key=tls.key"].as_slice();
    let clients = ["--clients=clients.toml"].as_slice();
    let plaintext = ["--allow-plaintext"].as_slice();
    let everybody = ["--allow-unauthenticated"].as_slice();
    for (given, said) in [
        (vec![], "--allow-unauthenticated"),
        (vec![tls], "--allow-unauthenticated"),
        (vec![plaintext], "--allow-unauthenticated"),
        (vec![clients], "--allow-plaintext"),
        (vec![everybody], "--allow-plaintext"),
    ] {
        let mut command = program.command(&["serve", "--listen", "0.0.0.0:0"]);
        let run = program.run(command.args(given.concat()));
        assert_eq!(run.code, Some(1), "{given:?} {}", run.err);
        assert!(
            run.err.contains(said) && !run.out.contains("listening"),
            "{given:?} {}",
            run.err
        );
    }
    for given in [
        [tls, clients],
        [tls, everybody],
        [plaintext, clients],
        [plaintext, everybody],
    ] {
        let mut check = program.command(&["config", "check", "--listen", "0.0.0.0:0"]);
        let run = program.run(check.args(given.concat()));
        assert_eq!(run.code, Some(0), "{given:?} {}", run.err);
    }
    let mut command = program.command(&["serve", "--listen=0.0.0.0:0", "--store=sqlite:f.db"]);
    command.args([tls, clients].concat());
    let (_process, address) = serve(&program, command).await;
    let address = address.replace("0.0.0.0", "127.0.0.1");
    assert_eq!(list(&authority.client(None), &address, None).await.unwrap(), 401);
}

#[tokio::test]
async fn tls_files_that_do_not_go_together_are_named() {
    let authority = Authority::new();
    let (program, _clients) = prepared(&authority);
    let other = Authority::new().issue("x", ExtendedKeyUsagePurpose::ServerAuth);
    std::fs::write(program.folder.path().join("other.key"), other.1).unwrap();
    for (given, said) in [
        (vec!["--tls-certificate=tls.pem"], "both or not at all"),
        (
            vec!["--tls-certificate=tls.pem", "--tls-key=other.key"],
            "other.key",
        ),
        (
            vec!["--tls-certificate=tls.key", "--tls-key=tls.key"],
            "no certificate",
        ),
        (
            vec!["--tls-certificate=tls.pem", "--tls-key=tls.pem"],
            "no private key",
        ),
        (
            vec!["--tls-certificate=nowhere", "--tls-key=tls.key"],
            "nowhere cannot be read",
        ),
        (vec!["--tls-client-ca=ca.pem"], "tls_certificate"),
        (vec!["--tls-require-client-certificate"], "tls_certificate"),
        (vec!["--jwt-algorithm=HS256"], "names no key"),
        (vec!["--jwt-keys=tls.pem"], "jwt_algorithm"),
        (
            vec!["--jwt-algorithm=RS256", "--jwt-keys=tls.key"],
            "no public key for RS256",
        ),
        (vec!["--clients=tls.pem"], "tls.pem: line 1"),
    ] {
        let run = program.run(program.command(&["config", "check"]).args(&given));
        assert_eq!(run.code, Some(1), "{given:?} {}", run.err);
        assert!(
            run.err.contains(said) || run.err.contains("none is named"),
            "{given:?} {}",
            run.err
        );
    }
}

#[tokio::test]
async fn the_typed_client_shows_what_it_is_given() {
    let authority = Authority::new();
    let (program, clients) = prepared(&authority);
    let (_process, address) = serve(&program, program.command(&TLS)).await;
    let worker = authority.issue("worker 7", ExtendedKeyUsagePurpose::ClientAuth);
    let fence = "f".parse().unwrap();
    let builder = || fencegate::client::Client::builder(&address).authorities(authority.pem());
    let keyed = builder().bearer(clients.key("keyed")).build().unwrap();
    let certified = builder()
        .identity(format!("{}{}", worker.0, worker.1))
        .build()
        .unwrap();
    let nobody = builder().build().unwrap();
    for known in [keyed, certified] {
        assert!(known.read(&fence, &"k".parse().unwrap()).await.unwrap().is_none());
    }
    let error = nobody.read(&fence, &"k".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.problem().unwrap().name(), "unauthenticated");
}

#[tokio::test]
async fn settings_come_from_the_file_and_the_environment() {
    let authority = Authority::new();
    let (program, _clients) = prepared(&authority);
    let folder = program.folder.path();
    std::fs::write(folder.join("store"), "sqlite:from-a-secret.db\n").unwrap();
    let file = "listen = \"127.0.0.1:0\"\nstore = \"file:store\"\nclients = \"clients.toml\"\nmax_value = \"10KiB\"\n";
    std::fs::write(folder.join("fencegate.toml"), file).unwrap();
    let mut command = program.command(&["config", "print", "--max-headers=70", "--output=json"]);
    command
        .env("FENCEGATE_MAX_VALUE", "20KiB")
        .env("FENCEGATE_LOCKS", "postgres://u:hunter2@h/d");
    let run = program.run(&mut command);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(!run.out.contains("hunter2"), "{}", run.out);
    let printed: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    for (key, value, source) in [
        ("max_value", "20KiB", "FENCEGATE_MAX_VALUE"),
        ("max_headers", "70", "--max-headers"),
        ("clients", "clients.toml", "fencegate.toml"),
        ("store", "file:store", "fencegate.toml"),
        ("max_json", "16KiB", "default"),
    ] {
        assert_eq!(printed[key], json!({"value": value, "source": source}), "{key}");
    }
    // What is printed is a settings file.
    let run = program.run(&mut program.command(&["config", "print"]));
    std::fs::write(folder.join("printed.toml"), &run.out).unwrap();
    let run = program.run(&mut program.command(&["config", "check", "--config=printed.toml"]));
    assert_eq!(run.code, Some(0), "{}", run.err);

    let (_process, address) = serve(&program, program.command(&["serve", "--migrate"])).await;
    assert_eq!(list(&authority.client(None), &address, None).await.unwrap(), 401);
    assert!(folder.join("from-a-secret.db").exists());
    std::fs::write(folder.join("fencegate.toml"), "max_vaule = 1\n").unwrap();
    let run = program.run(&mut program.command(&["serve"]));
    assert_eq!(run.code, Some(2), "{}", run.err);
    assert!(run.err.contains("max_value may be meant"), "{}", run.err);
}

#[tokio::test]
async fn a_new_key_is_a_clients_as_it_is_printed() {
    let program = Program::new();
    let run = program.run(&mut program.command(&["key", "new", "a name"]));
    assert_eq!(run.code, Some(0), "{}", run.err);
    let key = run
        .out
        .lines()
        .find_map(|line| line.trim().strip_prefix("fgk_"))
        .unwrap();
    let entry = run.out.split_once("[clients").unwrap().1;
    std::fs::write(
        program.folder.path().join("clients.toml"),
        format!("[clients{entry}"),
    )
    .unwrap();
    let command = program.command(&["serve", "--listen=127.0.0.1:0", "--clients=clients.toml"]);
    let (_process, client) = program.serve(command).await;
    client.get("/v1/fences").await.problem(401, "unauthenticated");
    let request = client
        .request(Method::GET, "/v1/fences")
        .bearer_auth(format!("fgk_{key}"));
    Answer::to(request).await.expect(200);
}
