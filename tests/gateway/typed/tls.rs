//! The client over TLS, with an API key and with a certificate; and the program as such a client.

use std::time::Duration;

use fencegate::client::{Builder, Client, ClientError};
use rcgen::ExtendedKeyUsagePurpose::ClientAuth;
use serde_json::json;

use super::{
    super::{
        auth::Clients,
        program::Program,
        tls::{Authority, serve},
    },
    fence, key, long,
};

/// A client that asks once, and trusts whoever is given.
fn of(address: &str, authority: &Authority) -> Builder {
    let client = Client::builder(address).patience(Duration::ZERO);
    client.authorities(authority.pem())
}

/// Acquires, writes, reads and releases.
async fn works(client: Client) -> Result<(), ClientError> {
    let lease = client.acquire(&fence("jobs"), long()).await?;
    lease
        .put(&key("k"), b"v".to_vec(), "text/plain", Default::default())
        .await?;
    let read = lease.read(&key("k")).await?.unwrap();
    assert_eq!(read.value.bytes, b"v");
    lease.release().await
}

#[tokio::test]
async fn a_key_or_a_certificate_opens_a_gateway_with_tls() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let program = Program::new();
    let folder = program.folder.path();
    authority.server(folder);
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    let clients = Clients::new([("keyed", json!({"jobs": ["lease", "write", "read"]}))]);
    let text = std::fs::read_to_string(clients.file()).unwrap();
    let worker = "[clients.worker]\ncertificates = [\"worker 7\"]\nrights = { \"jobs\" = [\"lease\", \"write\", \"read\"] }\n";
    std::fs::write(folder.join("clients.toml"), format!("{text}{worker}")).unwrap();
    let (_process, address) = serve(
        &program,
        program.command(&[
            "serve",
            "--listen=127.0.0.1:0",
            "--clients=clients.toml",
            "--tls-certificate=tls.pem",
            "--tls-key=tls.key",
            "--tls-client-ca=ca.pem",
        ]),
    )
    .await;
    assert!(address.starts_with("https://"), "{address}");
    let client = || of(&address, &authority);
    let (certificate, private) = authority.issue("worker 7", ClientAuth);

    works(client().bearer(clients.key("keyed")).build().unwrap())
        .await
        .unwrap();
    works(
        client()
            .identity(format!("{certificate}{private}"))
            .build()
            .unwrap(),
    )
    .await
    .unwrap();

    let (unknown, its) = authority.issue("worker 8", ClientAuth);
    for refused in [
        client(),
        client().bearer("fgk_wrong"),
        client().identity(format!("{unknown}{its}")),
    ] {
        match works(refused.build().unwrap()).await {
            Err(ClientError::Problem(problem)) => assert_eq!(problem.name(), "unauthenticated"),
            other => panic!("{other:?}"),
        }
    }
    let keyed = client().bearer(clients.key("keyed")).build().unwrap();
    match keyed.acquire(&fence("others"), long()).await {
        Err(ClientError::Problem(problem)) => assert_eq!(problem.name(), "forbidden"),
        other => panic!("{other:?}"),
    }
    // Whoever it may be at that address, it is not told the key.
    let misled = of(&address, &stranger).bearer(clients.key("keyed"));
    let error = works(misled.build().unwrap()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");

    std::fs::write(folder.join("worker.pem"), certificate).unwrap();
    std::fs::write(folder.join("worker.key"), private).unwrap();
    let mut command = program.command(&["lease", "acquire", "jobs", "--gateway", &address]);
    command.args([
        "--ca=ca.pem",
        "--client-cert=worker.pem",
        "--client-key=worker.key",
    ]);
    assert!(program.run(&mut command).ends_with(0).out.starts_with("1-"));
    let mut command = program.command(&["lease", "show", "jobs", "--gateway", &address, "--ca=ca.pem"]);
    command.env("FENCEGATE_API_KEY", clients.key("keyed"));
    assert!(program.run(&mut command).ends_with(0).out.contains("jobs"));
}
