//! JWTs that are not to be believed.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use fencegate::gateway::auth::{Authentication, Credentials, Jwt, JwtAlgorithm};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use serde_json::{Value, json};

use super::{
    World,
    auth::{self, SECRET, gateway_for, hs256, in_an_hour, jwt},
};
use crate::support;

fn claims() -> Value {
    json!({"sub": "worker", "exp": in_an_hour(), "fencegate": {"*": ["read"]}})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn part(json: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(json.to_string())
}

async fn status(gateway: &super::Gateway, token: &str) -> u16 {
    let request = gateway
        .client()
        .request(reqwest::Method::GET, "/v1/fences")
        .bearer_auth(token);
    super::Answer::to(request).await.status
}

#[tokio::test]
async fn a_token_is_believed_for_what_it_says_and_no_longer_than_it_says() {
    let world = World::sqlite().await;
    let folder = support::folder("jwt");
    let mut jwt_settings = hs256(folder.path());
    jwt_settings.audiences = vec!["fencegate".into(), "other".into()];
    jwt_settings.issuers = vec!["https://issuer.example".into()];
    let strict = gateway_for(&world, jwt_settings).await;
    let gateway = gateway_for(&world, hs256(folder.path())).await;
    let now = get_current_timestamp();

    assert_eq!(status(&gateway, &jwt(&claims())).await, 200);
    for (wrong, what) in [
        (without("exp"), "no exp"),
        (without("sub"), "no sub"),
        (without("fencegate"), "no rights"),
        (with("exp", json!(now - 60)), "expired"),
        (with("exp", json!(-1)), "before all time"),
        (with("exp", json!("tomorrow")), "exp is a text"),
        (
            with("exp", json!(in_an_hour().to_string())),
            "exp is digits in a text",
        ),
        (with("exp", Value::Null), "exp is null"),
        (with("nbf", json!(now + 600)), "not yet"),
        (with("aud", json!("somebody else")), "for somebody else"),
        (with("sub", json!("")), "nobody"),
        (with("sub", json!("anonymous")), "anonymous"),
        (with("sub", json!("a\nb")), "a name of two lines"),
        (with("sub", json!("x".repeat(201))), "a long name"),
        (with("sub", json!(7)), "a number"),
        (with("fencegate", json!({"*": ["everything"]})), "no such right"),
        (with("fencegate", json!("*")), "rights in another form"),
        (with("fencegate", json!({"a*b": ["read"]})), "no such fences"),
        (with("x", json!("x".repeat(20_000))), "too long"),
    ] {
        assert_eq!(status(&gateway, &jwt(&wrong)).await, 401, "{what}");
    }
    // It may have been meant to be an API key.
    let request = gateway.client().request(reqwest::Method::GET, "/v1/fences");
    let answer = super::Answer::to(request.bearer_auth("fgk-mistyped")).await;
    let problem = answer.problem(401, "unauthenticated");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("API key") && detail.contains("JWT"), "{detail}");
    // Within the leeway, and also a second time, from memory.
    let late = jwt(&with("exp", json!(now - 5)));
    assert_eq!(
        (status(&gateway, &late).await, status(&gateway, &late).await),
        (200, 200)
    );

    let mut right = with("aud", json!(["fencegate", "x"]));
    right["iss"] = json!("https://issuer.example");
    assert_eq!(status(&strict, &jwt(&right)).await, 200);
    for (name, wrong) in [
        ("aud", Value::Null),
        ("aud", json!("x")),
        ("aud", json!([])),
        ("aud", json!(7)),
        ("iss", Value::Null),
        ("iss", json!("https://issuer.example.evil")),
        ("iss", json!(7)),
    ] {
        let mut claims = right.clone();
        claims[name] = wrong;
        assert_eq!(status(&strict, &jwt(&claims)).await, 401, "{claims}");
    }
}

#[tokio::test]
async fn a_token_cannot_choose_its_algorithm() {
    let world = World::sqlite().await;
    let folder = support::folder("jwt");
    jwt(&claims());
    for (algorithm, of_library, made) in [
        (JwtAlgorithm::Es256, Algorithm::ES256, &PKCS_ECDSA_P256_SHA256),
        (JwtAlgorithm::EdDsa, Algorithm::EdDSA, &PKCS_ED25519),
    ] {
        let pair = KeyPair::generate_for(made).unwrap();
        let other = KeyPair::generate_for(made).unwrap();
        let file = folder.path().join(algorithm.as_str());
        std::fs::write(&file, pair.public_key_pem()).unwrap();
        let private = |pair: &KeyPair| match algorithm {
            JwtAlgorithm::Es256 => EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap(),
            _ => EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()).unwrap(),
        };
        let gateway = gateway_for(&world, Jwt::new(algorithm, vec![file.clone()])).await;
        let good = encode(&Header::new(of_library), &claims(), &private(&pair)).unwrap();
        assert_eq!(status(&gateway, &good).await, 200, "{algorithm:?}");

        let mut parts = good.split('.');
        let (header, body, signature) = (
            parts.next().unwrap(),
            parts.next().unwrap(),
            parts.next().unwrap(),
        );
        let more = part(&with("sub", json!("root")));
        let mut forged = vec![
            // Signed by somebody else, or another body under the same signature.
            encode(&Header::new(of_library), &claims(), &private(&other)).unwrap(),
            format!("{header}.{more}.{signature}"),
            format!("{header}.{body}."),
            format!("{header}.{body}"),
            format!("{header}.{body}.{signature}.{signature}"),
        ];
        for none in ["none", "None", "NONE", "nOnE", ""] {
            let header = part(&json!({"alg": none, "typ": "JWT"}));
            forged.extend([
                format!("{header}.{body}."),
                format!("{header}.{body}.{signature}"),
                format!("{header}.{body}"),
            ]);
        }
        // The public key, which everybody knows, as the secret of an HMAC: as it is in the file, and without its end.
        let public = pair.public_key_pem();
        for secret in [
            public.as_bytes(),
            public.trim_end().as_bytes(),
            pair.public_key_raw(),
        ] {
            let key = EncodingKey::from_secret(secret);
            forged.push(encode(&Header::new(Algorithm::HS256), &claims(), &key).unwrap());
            let mut lying = encode(&Header::new(Algorithm::HS256), &claims(), &key).unwrap();
            lying.replace_range(..lying.find('.').unwrap(), header);
            forged.push(lying);
        }
        let mut critical = Header::new(of_library);
        critical.crit = Some(vec!["b64".into()]);
        forged.push(encode(&critical, &claims(), &private(&pair)).unwrap());
        for forged in forged {
            assert_eq!(status(&gateway, &forged).await, 401, "{algorithm:?} {forged}");
        }
        // Nor is a public key taken for a secret where somebody configures it so.
        let mut credentials = Credentials::default();
        credentials.jwt = Some(Jwt::new(JwtAlgorithm::Hs256, vec![file]));
        assert!(Authentication::load(credentials).is_err());
    }
}

#[tokio::test]
async fn keys_can_be_changed_and_wrong_ones_are_named() {
    let world = World::sqlite().await;
    let folder = support::folder("jwt");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let old = file("old", "the-old-secret-of-thirty-two-bytes-and-more");
    let new = file("new", SECRET);
    let both = gateway_for(&world, Jwt::new(JwtAlgorithm::Hs256, vec![old.clone(), new])).await;
    let key = EncodingKey::from_secret(b"the-old-secret-of-thirty-two-bytes-and-more");
    let signed = encode(&Header::default(), &claims(), &key).unwrap();
    assert_eq!(
        (status(&both, &signed).await, status(&both, &jwt(&claims())).await),
        (200, 200)
    );

    let short = file("short", "hunter2");
    let pem = file(
        "pem",
        "-----BEGIN PUBLIC KEY-----\nhunter2\n-----END PUBLIC KEY-----\n",
    );
    for (algorithm, path) in [
        (JwtAlgorithm::Hs256, &short),
        (JwtAlgorithm::Hs256, &pem),
        (JwtAlgorithm::Rs256, &pem),
        (JwtAlgorithm::Es256, &old),
        (JwtAlgorithm::EdDsa, &pem),
        (JwtAlgorithm::EdDsa, &folder.path().join("nowhere")),
    ] {
        let mut credentials = Credentials::default();
        credentials.jwt = Some(Jwt::new(algorithm, vec![path.clone()]));
        let error = Authentication::load(credentials).unwrap_err().to_string();
        assert!(
            error.contains(&path.display().to_string()) && !error.contains("hunter2"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn nobody_becomes_a_client_of_the_file_by_being_called_so() {
    let world = World::sqlite().await;
    let clients = auth::Clients::new([("billing", json!({"*": ["read"]}))]);
    let text = std::fs::read_to_string(clients.file()).unwrap();
    let listed = "[clients.reports]\nsubjects = [\"system:serviceaccount:prod:reports\"]\nrights = { \"*\" = [\"read\"] }\n";
    std::fs::write(clients.file(), format!("{text}{listed}")).unwrap();
    let gateway = world
        .gateway_with(clients.config(Some(hs256(clients.folder.path()))))
        .await;
    assert_eq!(status(&gateway, &jwt(&with("sub", json!("billing")))).await, 401);
    assert_eq!(status(&gateway, &jwt(&with("sub", json!("reports")))).await, 401);
    // The file's rights count, and the token's do not.
    let subject = json!({
        "sub": "system:serviceaccount:prod:reports",
        "exp": in_an_hour(),
        "fencegate": {"*": ["lease"]},
    });
    let token = jwt(&subject);
    assert_eq!(status(&gateway, &token).await, 200);
    let lease = gateway
        .client()
        .request(reqwest::Method::POST, "/v1/fences/f/lease")
        .bearer_auth(&token);
    super::Answer::to(lease).await.problem(403, "forbidden");
}
