//! Leases that only the gateway which granted them can renew: others say where to ask.

use std::time::Duration;

use fencegate::{
    FenceName, Token,
    client::{AcquireOptions, Client, ClientError},
    gateway::Config,
};
use reqwest::{Method, RequestBuilder, redirect::Policy};
use serde_json::json;
use tokio::net::TcpListener;

use super::{
    Answer, Gateway,
    auth::Clients,
    client::lease,
    program::Program,
    tls::{self, Authority},
};
use crate::{
    support::{Process, Proxy, ZooKeeper, eventually::PATIENCE, folder, ports::Port},
    world::name,
};

const TTL: Duration = Duration::from_secs(2);

/// One store and one ZooKeeper, and a client that gateways know.
struct Place {
    zookeeper: ZooKeeper,
    clients: Clients,
    folder: tempfile::TempDir,
}

impl Place {
    async fn new() -> Self {
        Self {
            zookeeper: ZooKeeper::start().await,
            clients: Clients::new([("worker", json!({"*": ["lease", "read", "write"]}))]),
            folder: folder("redirects"),
        }
    }

    fn store(&self) -> String {
        format!("sqlite:{}", self.folder.path().join("store.db").display())
    }

    fn locks(&self) -> String {
        format!("zookeeper://{}", self.zookeeper.endpoint())
    }

    /// A gateway with sessions of its own, as a process has them, and its URL.
    async fn gateway(&self, config: impl FnOnce(&mut Config, &str)) -> (Gateway, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut with = self.clients.config(None);
        config(&mut with, &url);
        (self.gateway_at(listener, with).await, url)
    }

    async fn gateway_at(&self, listener: TcpListener, config: Config) -> Gateway {
        let locks = fencegate::connect(&self.store(), Some(&self.locks()))
            .await
            .unwrap();
        let _ = locks.store().migrate().await;
        Gateway::start_at(listener, locks, config)
    }

    /// A gateway as a process that can be killed.
    async fn process(&self, program: &Program, port: &Port) -> (Process, String) {
        let listen = format!("127.0.0.1:{}", port.number());
        let url = format!("http://{listen}");
        let clients = self.clients.file();
        let _ = std::fs::remove_file(program.folder.path().join("log"));
        let command = program.command(&[
            "serve",
            "--migrate",
            "--listen",
            &listen,
            "--advertise",
            &url,
            "--store",
            &self.store(),
            "--locks",
            &self.locks(),
            "--clients",
            clients.to_str().unwrap(),
        ]);
        (program.serve(command).await.0, url)
    }

    /// One that asks once, and has no other way than through redirects.
    fn client(&self, url: &str) -> Client {
        let builder = Client::builder(url).bearer(self.clients.key("worker"));
        builder.patience(Duration::ZERO).build().unwrap()
    }

    /// A request, as whoever does not follow sends it.
    fn request(&self, method: Method, url: String) -> RequestBuilder {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .build()
            .unwrap();
        http.request(method, url).bearer_auth(self.clients.key("worker"))
    }

    /// The answer to a call about a lease.
    async fn ask(&self, method: Method, url: &str, fence: &str, token: Option<&str>, body: &str) -> Answer {
        let mut request = self
            .request(method, format!("{url}{}", lease(fence)))
            .body(body.to_owned());
        if let Some(token) = token {
            request = request.header("fencing-token", token);
        }
        Answer::to(request).await
    }

    /// How many renewals a gateway has sent on.
    async fn sent_on(&self, url: &str) -> u64 {
        let answer = Answer::to(self.request(Method::GET, format!("{url}/metrics"))).await;
        let text = String::from_utf8(answer.expect(200).body).unwrap();
        let counts = text.lines().filter(|line| {
            line.starts_with("fencegate_http_requests_total") && line.contains("\"PUT\",status=\"307\"")
        });
        counts
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
            .sum()
    }
}

fn at_its_own(config: &mut Config, url: &str) {
    config.advertise = Some(url.parse().unwrap());
}

fn of(ttl: Duration) -> AcquireOptions {
    AcquireOptions {
        ttl: Some(ttl),
        ..AcquireOptions::default()
    }
}

/// For leases whose end is waited for.
fn short() -> AcquireOptions {
    of(TTL)
}

/// For longer than any test takes, and no longer than the server allows.
fn long() -> AcquireOptions {
    of(Duration::from_secs(60))
}

fn fence() -> FenceName {
    name("a:b c")
}

/// This lease is not renewed any more.
async fn is_over(client: &Client, token: &Token) {
    let error = client.renew(&fence(), token).await.unwrap_err();
    assert!(error.is_lost(), "{error}");
}

#[tokio::test]
async fn a_renewal_is_sent_to_the_gateway_that_granted_the_lease() {
    let place = Place::new().await;
    let ((_one, here), (_other, there)) = (place.gateway(at_its_own).await, place.gateway(at_its_own).await);
    let (client, elsewhere) = (place.client(&here), place.client(&there));
    let granted = client.grant(&fence(), &long()).await.unwrap();

    let token = granted.token.expose();
    let answer = place.ask(Method::PUT, &there, "a:b c", Some(&token), "").await;
    let answer = answer.expect(307);
    assert_eq!(
        answer.header("location"),
        Some(&*format!("{here}{}", lease("a:b c")))
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let location = answer.header("location").unwrap().to_owned();
    let base = location.strip_suffix(&lease("a:b c")).unwrap();
    place
        .ask(Method::PUT, base, "a:b c", Some(&token), "")
        .await
        .expect(200);

    let renewed = elsewhere.renew(&fence(), &granted.token).await.unwrap();
    assert_eq!(renewed.token, granted.token);
    assert!(renewed.expires_in > granted.ttl / 2, "{:?}", renewed.expires_in);
    // Any of them releases, and then it is over for all.
    place
        .ask(Method::DELETE, &there, "a:b c", Some(&token), "")
        .await
        .expect(204);
    for client in [&client, &elsewhere] {
        is_over(client, &granted.token).await;
    }
    let next = elsewhere.grant(&fence(), &long()).await.unwrap();
    client.release(&fence(), &next.token).await.unwrap();
    is_over(&elsewhere, &next.token).await;
}

#[tokio::test]
async fn a_lease_lives_on_when_its_renewals_come_to_another_gateway() {
    let place = Place::new().await;
    let ((one, _), (other, there)) = (place.gateway(at_its_own).await, place.gateway(at_its_own).await);
    let mut balancer = Proxy::start(format!("127.0.0.1:{}", one.port)).await;
    let client = place.client(&format!("http://{}", balancer.addr()));
    let lease = client.acquire(&fence(), short()).await.unwrap();
    balancer.lead_to(format!("127.0.0.1:{}", other.port)).await;
    // Nobody else gets it, for as long as it would have lasted twice.
    let waiting = AcquireOptions {
        wait: Some(TTL * 2),
        ..long()
    };
    let busy = place.client(&there).grant(&fence(), &waiting).await.unwrap_err();
    assert!(busy.is_busy(), "{busy}");
    assert!(!lease.is_lost());
    lease.renew().await.unwrap();
    lease.release().await.unwrap();
    place.client(&there).grant(&fence(), &long()).await.unwrap();
}

#[tokio::test]
async fn who_lost_the_answer_to_its_acquisition_finds_the_lease_through_another_gateway() {
    let place = Place::new().await;
    let ((_one, here), (_other, there)) = (place.gateway(at_its_own).await, place.gateway(at_its_own).await);
    let holder = "9f86d081884c7d659a2feaa0c55ad015";
    let asked = json!({"ttl": "5m", "holder": holder}).to_string();
    let granted = place
        .ask(Method::POST, &here, "f", None, &asked)
        .await
        .expect(201);
    for wait in ["0s", "30s"] {
        let asked = json!({"ttl": "5m", "holder": holder, "wait": wait}).to_string();
        let answer = place
            .ask(Method::POST, &there, "f", None, &asked)
            .await
            .expect(307);
        assert_eq!(answer.header("location"), Some(&*format!("{here}{}", lease("f"))));
        let options = AcquireOptions {
            wait: Some(humantime::parse_duration(wait).unwrap()),
            holder: Some(holder.parse().unwrap()),
            ..AcquireOptions::default()
        };
        let again = place.client(&there).grant(&name("f"), &options).await.unwrap();
        assert_eq!(again.token.expose(), granted.token());
    }
    // Others wait for it as ever.
    let busy = place.client(&there).grant(&name("f"), &long()).await.unwrap_err();
    assert!(busy.is_busy(), "{busy}");
}

#[tokio::test]
async fn a_lease_ends_with_the_gateway_that_granted_it() {
    let place = Place::new().await;
    let (program, port) = (Program::new(), Port::reserve());
    let (mut process, here) = place.process(&program, &port).await;
    let (_other, there) = place.gateway(at_its_own).await;
    let (client, elsewhere) = (place.client(&here), place.client(&there));
    let granted = client.grant(&fence(), &short()).await.unwrap();
    let kept = client.grant(&name("kept"), &long()).await.unwrap();
    process.kill9();

    // While ZooKeeper holds the session, nobody can tell whether that gateway is to come back.
    let error = elsewhere.renew(&name("kept"), &kept.token).await.unwrap_err();
    match &error {
        ClientError::Unreachable { gateway, .. } => assert_eq!(*gateway, here),
        other => panic!("{other:?}"),
    }
    // Then the lock is free, and the old lease is over.
    let waiting = AcquireOptions {
        wait: Some(PATIENCE),
        ..long()
    };
    let next = elsewhere.grant(&fence(), &waiting).await.unwrap();
    assert!(next.token.sequence > granted.token.sequence);
    is_over(&elsewhere, &granted.token).await;

    // One that is started again at that address knows nothing of what went before.
    let (_process, _) = place.process(&program, &port).await;
    for client in [&client, &elsewhere] {
        let error = client.renew(&name("kept"), &kept.token).await.unwrap_err();
        let problem = error.problem().unwrap_or_else(|| panic!("{error}"));
        assert_eq!((problem.name(), problem.status), ("lease-elsewhere", 421));
        assert!(problem.retryable && !error.is_lost());
    }
}

#[tokio::test]
async fn without_an_address_the_renewal_fails_elsewhere_and_nothing_is_lost() {
    let place = Place::new().await;
    let (_one, here) = place.gateway(|_, _| ()).await;
    let (_other, there) = place.gateway(at_its_own).await;
    let client = place.client(&here);
    let granted = client.grant(&name("f"), &long()).await.unwrap();
    let token = granted.token.expose();
    let answer = place.ask(Method::PUT, &there, "f", Some(&token), "").await;
    let problem = answer.problem(421, "lease-elsewhere");
    assert!(
        problem["detail"].as_str().unwrap().contains("--advertise"),
        "{problem}"
    );
    assert_eq!(problem["fence"], "f");
    client.renew(&name("f"), &granted.token).await.unwrap();
}

#[tokio::test]
async fn gateways_that_send_on_in_a_circle_are_not_followed_for_ever() {
    let place = Place::new().await;
    let listeners = [
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
    ];
    let urls = listeners
        .each_ref()
        .map(|listener| format!("http://{}", listener.local_addr().unwrap()));
    // Each advertises the other.
    let mut gateways = Vec::new();
    for (listener, wrong) in listeners.into_iter().zip(urls.iter().rev()) {
        let mut config = place.clients.config(None);
        at_its_own(&mut config, wrong);
        config.open_metrics = true;
        gateways.push(place.gateway_at(listener, config).await);
    }
    let granted = place.client(&urls[0]).grant(&name("f"), &long()).await.unwrap();
    let (lost, f) = (place.client(&urls[1]), name("f"));
    let error = tokio::time::timeout(PATIENCE, lost.renew(&f, &granted.token))
        .await
        .expect("it gives up")
        .unwrap_err();
    assert!(matches!(error, ClientError::Redirect { .. }), "{error:?}");
    assert!(error.to_string().contains("advertise"), "{error}");
    assert!(!error.is_lost() && !error.is_outcome_unknown());
    // Asked once, and sent on three times.
    assert_eq!(place.sent_on(&urls[1]).await, 4);
}

#[tokio::test]
async fn a_token_that_came_over_tls_is_not_sent_on_without() {
    let place = Place::new().await;
    let (_one, here) = place.gateway(at_its_own).await;
    let (authority, program) = (Authority::new(), Program::new());
    authority.server(program.folder.path());
    let clients = place.clients.file();
    let command = program.command(&[
        "serve",
        "--listen=127.0.0.1:0",
        "--tls-certificate=tls.pem",
        "--tls-key=tls.key",
        "--store",
        &place.store(),
        "--locks",
        &place.locks(),
        "--clients",
        clients.to_str().unwrap(),
    ]);
    let (_other, there) = tls::serve(&program, command).await;
    let client = Client::builder(&there)
        .bearer(place.clients.key("worker"))
        .authorities(authority.pem())
        .patience(Duration::ZERO)
        .build()
        .unwrap();
    let granted = place.client(&here).grant(&name("f"), &long()).await.unwrap();
    match client.renew(&name("f"), &granted.token).await.unwrap_err() {
        ClientError::Redirect {
            gateway,
            location,
            detail,
        } => {
            assert_eq!((gateway, location), (there, here));
            assert!(detail.contains("https"), "{detail}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_a_gateway_cannot_advertise_ends_it_at_its_start() {
    let program = Program::new();
    for (url, said) in [
        ("gateway-1:7411", "neither http:// nor https://"),
        ("http://root:hunter2@gateway-1", "every client would see"),
        ("http://0.0.0.0:7411", "nobody reaches"),
        ("gateway-1", "https://gateway-1.example.com:7411"),
    ] {
        for verb in [&["serve", "--listen=127.0.0.1:0"][..], &["config", "check"]] {
            let mut command = program.command(verb);
            let run = program.run(command.env("FENCEGATE_ADVERTISE", url)).ends_with(1);
            assert!(
                run.err.contains("--advertise") && run.err.contains(said),
                "{}",
                run.err
            );
            assert!(
                !run.err.contains("hunter2") && !run.out.contains("listening"),
                "{}",
                run.err
            );
        }
    }
    Authority::new().server(program.folder.path());
    let mut command = program.command(&[
        "serve",
        "--listen=127.0.0.1:0",
        "--tls-certificate=tls.pem",
        "--tls-key=tls.key",
    ]);
    command.env("FENCEGATE_ADVERTISE", "http://gateway-1:7411");
    let run = program.run(&mut command).ends_with(1);
    assert!(run.err.contains("advertise that URL"), "{}", run.err);
}
