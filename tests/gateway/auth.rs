//! Who may do what: every call, by everybody, with every right.

use std::{collections::BTreeSet, path::Path, sync::LazyLock};

use fencegate::gateway::{
    Config,
    auth::{ApiKey, Authentication, Credentials, Jwt, JwtAlgorithm},
};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Answer, Client, Gateway, World};
use crate::support::{self, eventually::PATIENCE};

const RIGHTS: [&str; 4] = ["lease", "write", "read", "admin"];
pub const SECRET: &str = "0123456789abcdef0123456789abcdef-a-secret";

/// What a call needs.
#[derive(Clone, Copy, PartialEq)]
enum Needs {
    Nothing,
    /// To be somebody.
    Client,
    /// One of these rights on the fence.
    OnFence(&'static [&'static str]),
    Everywhere(&'static str),
}
use Needs::{Client as SomeClient, Everywhere, Nothing, OnFence};

/// Every call there is. `{fence}` stands for a fence, also in queries and bodies.
const CALLS: &[(&str, &str, &str, Needs)] = &[
    ("post", "/v1/fences/{fence}/lease", "", OnFence(&["lease"])),
    ("put", "/v1/fences/{fence}/lease", "", OnFence(&["lease"])),
    ("delete", "/v1/fences/{fence}/lease", "", OnFence(&["lease"])),
    (
        "delete",
        "/v1/fences/{fence}/lease?force=true",
        "",
        OnFence(&["admin"]),
    ),
    ("get", "/v1/fences", "", SomeClient),
    ("get", "/v1/fences/{fence}", "", OnFence(&["read"])),
    (
        "post",
        "/v1/fences/{fence}/check",
        "",
        OnFence(&["read", "write"]),
    ),
    ("get", "/v1/fences/{fence}/records", "", OnFence(&["read"])),
    ("get", "/v1/fences/{fence}/records/{key}", "", OnFence(&["read"])),
    ("head", "/v1/fences/{fence}/records/{key}", "", OnFence(&["read"])),
    ("put", "/v1/fences/{fence}/records/{key}", "", OnFence(&["write"])),
    (
        "patch",
        "/v1/fences/{fence}/records/{key}",
        "",
        OnFence(&["write"]),
    ),
    (
        "delete",
        "/v1/fences/{fence}/records/{key}",
        "",
        OnFence(&["write"]),
    ),
    (
        "post",
        "/v1/transactions",
        r#"{"tokens":{"{fence}":"1-1-9f86d081884c7d659a2feaa0c55ad015"},"operations":[{"op":"delete","fence":"{fence}","key":"k"}]}"#,
        OnFence(&["write"]),
    ),
    (
        "post",
        "/v1/transactions",
        r#"{"tokens":{},"operations":[{"op":"delete","fence":"{fence}","key":"k"}]}"#,
        OnFence(&["write"]),
    ),
    ("get", "/v1/rejections", "", Everywhere("admin")),
    ("get", "/v1/rejections?fence={fence}", "", OnFence(&["read"])),
    ("get", "/v1/events", "", SomeClient),
    ("get", "/v1/events?fence={fence}", "", OnFence(&["read"])),
    ("get", "/metrics", "", SomeClient),
    ("get", "/livez", "", Nothing),
    ("get", "/readyz", "", Nothing),
    ("get", "/openapi.json", "", Nothing),
    ("get", "/", "", Nothing),
];

/// Clients by name, each with an API key.
pub struct Clients {
    pub folder: TempDir,
    keys: Vec<(String, ApiKey, Value)>,
}

impl Clients {
    /// With these rights each.
    pub fn new<const N: usize>(clients: [(&str, Value); N]) -> Self {
        let keys = clients.map(|(name, rights)| (name.to_owned(), ApiKey::generate().unwrap(), rights));
        let clients = Self {
            folder: support::folder("clients"),
            keys: keys.into(),
        };
        clients.write();
        clients
    }

    pub fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("clients.toml")
    }

    fn write(&self) {
        let clients = self.keys.iter().map(|(name, key, rights)| {
            format!(
                "[clients.{name:?}]\nkeys = [\"{}\"]\nrights = {}\n",
                key.hashed(),
                inline(rights)
            )
        });
        std::fs::write(self.file(), clients.collect::<String>()).unwrap();
    }

    pub fn key(&self, name: &str) -> &str {
        let (_, key, _) = self.keys.iter().find(|(known, ..)| known == name).unwrap();
        key.expose()
    }

    pub fn config(&self, jwt: Option<Jwt>) -> Config {
        let mut credentials = Credentials::default();
        credentials.clients = Some(self.file());
        credentials.jwt = jwt;
        let mut config = Config::default();
        config.authentication = Some(Authentication::load(credentials).unwrap());
        config
    }
}

fn inline(rights: &Value) -> String {
    let parts = rights
        .as_object()
        .unwrap()
        .iter()
        .map(|(fences, rights)| format!("{fences:?} = {rights}"));
    format!("{{ {} }}", parts.collect::<Vec<_>>().join(", "))
}

/// JWTs that are signed with [`SECRET`].
pub fn hs256(folder: &Path) -> Jwt {
    let file = folder.join("secret");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    Jwt::new(JwtAlgorithm::Hs256, vec![file])
}

pub fn jwt(claims: &Value) -> String {
    static PROVIDER: LazyLock<()> = LazyLock::new(|| {
        let _ = jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER.install_default();
    });
    LazyLock::force(&PROVIDER);
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).unwrap()
}

pub fn in_an_hour() -> u64 {
    jsonwebtoken::get_current_timestamp() + 3600
}

/// Asks without a token, as far as the answer's head, and its problem where it is refused.
async fn ask(
    client: &Client,
    call: (&str, &str, &str),
    fence: &str,
    credential: Option<&str>,
) -> (u16, String) {
    let (method, path, body) = call;
    let path = path.replace("{fence}", fence).replace("{key}", "k");
    let method: Method = method.to_uppercase().parse().unwrap();
    let mut request = client
        .request(method.clone(), &path)
        .body(body.replace("{fence}", fence));
    if let Some(credential) = credential {
        request = request.bearer_auth(credential);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    if status == 401 {
        let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
        assert!(
            challenge.starts_with(r#"Bearer realm="fencegate""#),
            "{challenge}"
        );
        assert_eq!(challenge.contains("invalid_token"), credential.is_some());
    }
    if ![401, 403].contains(&status) || method == Method::HEAD {
        return (status, String::new());
    }
    let problem: Value = answer.json().await.unwrap();
    let kind = problem["type"]
        .as_str()
        .unwrap()
        .rsplit_once(':')
        .unwrap()
        .1
        .to_owned();
    (status, kind)
}

#[test]
fn the_table_has_every_call() {
    let description: Value = serde_json::from_str(include_str!("../../docs/openapi.json")).unwrap();
    let described: BTreeSet<(String, String)> = description["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods
                .as_object()
                .unwrap()
                .keys()
                .map(|method| (method.clone(), path.clone()))
        })
        .collect();
    let listed: BTreeSet<_> = CALLS
        .iter()
        .map(|(method, path, ..)| ((*method).to_owned(), path.split('?').next().unwrap().to_owned()))
        .collect();
    assert_eq!(listed, described);
}

#[tokio::test]
async fn every_call_needs_its_right_whoever_shows_it_in_whatever_way() {
    let world = World::sqlite().await;
    let all = |fences: &str| json!({fences: RIGHTS});
    let clients = Clients::new([
        ("lease", json!({"m:*": ["lease"]})),
        ("write", json!({"m:*": ["write"]})),
        ("read", json!({"m:*": ["read"]})),
        ("admin", json!({"m:*": ["admin"]})),
        ("other", all("other")),
        ("named", all("m:1")),
        ("nothing", json!({})),
        ("root", all("*")),
    ]);
    let gateway = world
        .gateway_with(clients.config(Some(hs256(clients.folder.path()))))
        .await;
    let client = gateway.client();
    // One of the two fences is there.
    let asked = client
        .request(Method::POST, "/v1/fences/m:1/lease")
        .bearer_auth(clients.key("root"));
    Answer::to(asked.body(r#"{"ttl":"5m"}"#)).await.expect(201);

    for (method, path, body, needs) in CALLS {
        let call = (*method, *path, *body);
        for fence in ["m:1", "m:2"] {
            let what = format!("{method} {path} {body} {fence}");
            let (status, kind) = ask(&client, call, fence, None).await;
            if *needs == Nothing {
                assert_eq!(status, 200, "{what}");
            } else {
                assert_eq!(status, 401, "{what}");
                assert!(kind == "unauthenticated" || *method == "head", "{what} {kind}");
            }
            for (name, _, rights) in &clients.keys {
                let has = |right: &str| {
                    let mut parts = rights.as_object().unwrap().iter();
                    parts.any(|(fences, rights)| {
                        let here = ["*", "m:*", fence].contains(&fences.as_str());
                        here && rights.as_array().unwrap().iter().any(|given| given == right)
                    })
                };
                let allowed = match needs {
                    Nothing | SomeClient => true,
                    OnFence(rights) => rights.iter().any(|right| has(right)),
                    Everywhere(_) => name == "root",
                };
                let token =
                    jwt(&json!({"sub": format!("jwt-{name}"), "exp": in_an_hour(), "fencegate": rights}));
                for (way, credential) in [("key", clients.key(name)), ("jwt", &token)] {
                    let (status, kind) = ask(&client, call, fence, Some(credential)).await;
                    if allowed {
                        assert!(
                            ![401, 403].contains(&status),
                            "{what} {name} {way}: {status} {kind}"
                        );
                        assert!(status < 500, "{what} {name} {way}: {status}");
                    } else {
                        assert_eq!(status, 403, "{what} {name} {way}");
                        assert!(
                            kind == "forbidden" || *method == "head",
                            "{what} {name} {way}: {kind}"
                        );
                    }
                }
                for wrong in [
                    "",
                    "fgk_",
                    "garbage",
                    &format!("{token}x"),
                    &clients.key(name)[1..],
                ] {
                    let (status, _) = ask(&client, call, fence, Some(wrong)).await;
                    let expected = if *needs == Nothing { 200 } else { 401 };
                    assert_eq!(status, expected, "{what} {wrong}");
                }
            }
        }
    }
    for path in ["/nowhere", "/v1", "/v1/fences/a/b"] {
        client.get(path).await.problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn listings_show_what_may_be_read_and_pages_are_whole() {
    for world in [World::sqlite().await, World::postgres().await] {
        let clients = Clients::new([
            ("root", json!({"*": RIGHTS})),
            (
                "some",
                json!({"a:*": ["read"], "b": ["read"], "c": ["write", "lease"], "a:3": ["read"], "zz*": ["read"]}),
            ),
            ("none", json!({"*": ["write"]})),
        ]);
        let gateway = world.gateway_with(clients.config(None)).await;
        let client = gateway.client();
        for fence in ["a", "a:1", "a:2", "a:3", "b", "b:1", "c", "d"] {
            let asked = client.request(Method::POST, &super::client::lease(fence));
            Answer::to(asked.bearer_auth(clients.key("root")).body("{}"))
                .await
                .expect(201);
        }
        let list = async |name: &str, query: &str| {
            let (mut found, mut after) = (Vec::new(), String::new());
            loop {
                let path = format!("/v1/fences?{query}&after={after}");
                let page =
                    Answer::to(client.request(Method::GET, &path).bearer_auth(clients.key(name))).await;
                let page = page.expect(200).json();
                let fences = page["fences"].as_array().unwrap();
                found.extend(
                    fences
                        .iter()
                        .map(|fence| fence["fence"].as_str().unwrap().to_owned()),
                );
                match page["next"].as_str() {
                    Some(next) => after = next.to_owned(),
                    None => return found.join(" "),
                }
            }
        };
        for limit in [1, 2, 3, 100] {
            let query = format!("limit={limit}");
            assert_eq!(list("root", &query).await, "a a:1 a:2 a:3 b b:1 c d");
            assert_eq!(list("some", &query).await, "a:1 a:2 a:3 b");
            assert_eq!(list("some", &format!("{query}&prefix=a")).await, "a:1 a:2 a:3");
            assert_eq!(list("some", &format!("{query}&prefix=a:2")).await, "a:2");
            assert_eq!(list("some", &format!("{query}&prefix=c")).await, "");
            assert_eq!(list("none", &query).await, "");
        }
    }
}

#[tokio::test]
async fn a_header_that_cannot_be_read_is_no_way_in() {
    let world = World::sqlite().await;
    let clients = Clients::new([("root", json!({"*": RIGHTS}))]);
    let gateway = world.gateway_with(clients.config(None)).await;
    let key = clients.key("root");
    let status = async |lines: &str| {
        let request = format!("GET /v1/fences HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n");
        gateway.client().raw(request).await.status
    };
    for good in [
        format!("Authorization: Bearer {key}\r\n"),
        format!("authorization: bearer  {key} \r\n"),
    ] {
        assert_eq!(status(&good).await, 200, "{good}");
    }
    for wrong in [
        String::new(),
        "Authorization:\r\n".into(),
        "Authorization: Bearer\r\n".into(),
        format!("Authorization: {key}\r\n"),
        format!("Authorization: Basic {key}\r\n"),
        format!("Authorization: Bearer{key}\r\n"),
        format!("Authorization: Bearer {key}, Bearer {key}\r\n"),
        format!("Authorization: Bearer {key} {key}\r\n"),
        format!("Authorization: Bearer {key}\r\nAuthorization: Bearer {key}\r\n"),
        format!("Authorization: Bearer {key}\r\nAuthorization: Bearer wrong\r\n"),
        format!("Authorization: Bearer \u{fc}{key}\r\n"),
        format!("Authorization: Bearer {}\r\n", key.to_uppercase()),
        format!("Authorization: Bearer {}\r\n", "x".repeat(20_000)),
        format!("Proxy-Authorization: Bearer {key}\r\n"),
        format!("X-Api-Key: {key}\r\n"),
    ] {
        assert_eq!(status(&wrong).await, 401, "{wrong}");
    }
}

#[tokio::test]
async fn a_reload_counts_at_once_and_a_bad_file_changes_nothing() {
    let world = World::sqlite().await;
    let clients = Clients::new([("a", json!({"*": RIGHTS})), ("b", json!({"*": RIGHTS}))]);
    let config = clients.config(Some(hs256(clients.folder.path())));
    let authentication = config.authentication.clone().unwrap();
    let gateway = world.gateway_with(config).await;
    let client = gateway.client();
    let status = async |credential: &str| {
        ask(&client, ("get", "/v1/fences", ""), "", Some(credential))
            .await
            .0
    };
    let token = jwt(&json!({"sub": "j", "exp": in_an_hour(), "fencegate": {"*": ["read"]}}));
    assert_eq!((status(clients.key("a")).await, status(&token).await), (200, 200));

    std::fs::write(clients.file(), "nonsense").unwrap();
    assert!(authentication.reload().is_err());
    assert_eq!((status(clients.key("a")).await, status(&token).await), (200, 200));

    let text = "[clients.j]\nkeys = []\nrights = {}\n";
    std::fs::write(clients.file(), text).unwrap();
    authentication.reload().unwrap();
    assert_eq!(status(clients.key("a")).await, 401);
    // A token that was believed is looked at again: its name is another client's by now.
    assert_eq!(status(&token).await, 401);
}

/// Who has shown once who it is does not listen for ever.
#[tokio::test]
async fn events_end_with_the_credentials_they_are_for() {
    let world = World::sqlite().await;
    let clients = Clients::new([("a", json!({"*": RIGHTS}))]);
    let mut jwts = hs256(clients.folder.path());
    jwts.leeway = std::time::Duration::ZERO;
    let config = clients.config(Some(jwts));
    let authentication = config.authentication.clone().unwrap();
    let gateway = world.gateway_with(config).await;
    let listen = async |credential: &str| {
        let request = gateway.client().request(Method::GET, "/v1/events");
        let answer = request.bearer_auth(credential).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer
    };
    let by_key = tokio::spawn(listen(clients.key("a")).await.bytes());
    let soon = jsonwebtoken::get_current_timestamp() + 3;
    let by_token = listen(&jwt(
        &json!({"sub": "j", "exp": soon, "fencegate": {"*": ["read"]}}),
    ))
    .await;
    let heard = tokio::time::timeout(PATIENCE, by_token.bytes()).await;
    heard.unwrap().unwrap();
    assert!(jsonwebtoken::get_current_timestamp() >= soon);
    assert!(!by_key.is_finished());
    authentication.reload().unwrap();
    tokio::time::timeout(PATIENCE, by_key)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn idempotency_keys_are_each_clients_own() {
    let world = World::sqlite().await;
    let clients = Clients::new([("a", json!({"*": RIGHTS})), ("b", json!({"*": RIGHTS}))]);
    let gateway = world.gateway_with(clients.config(None)).await;
    let client = gateway.client();
    let asked = client
        .request(Method::POST, "/v1/fences/f/lease")
        .bearer_auth(clients.key("a"));
    let token = Answer::to(asked.body(r#"{"ttl":"5m"}"#))
        .await
        .expect(201)
        .token();
    let put = async |name: &str, value: &str| {
        let request = client
            .request(Method::PUT, "/v1/fences/f/records/k")
            .bearer_auth(clients.key(name));
        let request = request
            .header("fencing-token", &token)
            .header("idempotency-key", "1");
        Answer::to(request.body(value.to_owned())).await
    };
    put("a", "x").await.expect(201);
    assert_eq!(
        put("a", "x").await.expect(201).header("idempotency-replayed"),
        Some("true")
    );
    put("a", "y").await.problem(422, "idempotency-key-reused");
    // Another client's key of the same text is another key.
    assert_eq!(
        put("b", "y").await.expect(200).header("idempotency-replayed"),
        None
    );
}

#[tokio::test]
async fn readyz_names_servers_to_admins_only_and_metrics_have_their_switch() {
    let world = World::sqlite().await;
    let clients = Clients::new([
        ("root", json!({"*": RIGHTS})),
        ("some", json!({"*": ["read", "write"]})),
    ]);
    let mut config = clients.config(None);
    config.open_metrics = true;
    let gateway = world.gateway_with(config).await;
    let client = gateway.client();
    client.get("/metrics").await.expect(200);
    assert!(
        client
            .get("/readyz")
            .await
            .expect(200)
            .json()
            .get("store")
            .is_none()
    );
    for (name, shown) in [("root", true), ("some", false)] {
        let answer = client
            .request(Method::GET, "/readyz")
            .bearer_auth(clients.key(name));
        assert_eq!(
            Answer::to(answer).await.expect(200).json().get("store").is_some(),
            shown
        );
    }
}

/// A gateway on loopback that takes JWTs.
pub async fn gateway_for(world: &World, jwt: Jwt) -> Gateway {
    let mut credentials = Credentials::default();
    credentials.jwt = Some(jwt);
    let mut config = Config::default();
    config.authentication = Some(Authentication::load(credentials).unwrap());
    world.gateway_with(config).await
}
