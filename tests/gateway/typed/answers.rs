//! Answers that are lost, and answers that are none: what is asked again, and what is not.

use std::time::Duration;

use fencegate::{
    client::{Client, ClientError, IdempotencyKey, Transaction, WriteOptions},
    gateway::Config,
    store::Condition,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{World, client, fence, key, long, patiently, text};
use crate::support::Proxy;

/// A gateway behind a proxy.
async fn behind_a_proxy(world: &World) -> (super::super::Gateway, Proxy, Client) {
    let mut config = Config::default();
    config.allow_force_release = true;
    let gateway = world.gateway_with(config).await;
    let proxy = Proxy::start(format!("127.0.0.1:{}", gateway.port)).await;
    let client = client(proxy.addr().port());
    (gateway, proxy, client)
}

/// Loses the answer to the next request that begins with this.
fn lose(proxy: &Proxy, start: &'static str) -> tokio::sync::oneshot::Receiver<()> {
    proxy.cut_on_request(move |bytes| bytes.starts_with(start.as_bytes()))
}

#[tokio::test]
async fn an_acquisition_whose_answer_is_lost_is_found_again() {
    let world = World::postgres().await;
    let (_gateway, proxy, client) = behind_a_proxy(&world).await;
    let lost = lose(&proxy, "POST /v1/fences/a/lease");
    let lease = client.acquire(&fence("a"), long()).await.unwrap();
    lost.await.expect("an answer was lost");
    // The lease that was granted first, so nothing is left behind when it is released.
    assert_eq!(lease.token().sequence.get(), 1);
    lease.release().await.unwrap();
    client.acquire(&fence("a"), long()).await.unwrap();
}

#[tokio::test]
async fn only_writes_with_a_key_are_asked_again() {
    let world = World::postgres().await;
    let (gateway, proxy, client) = behind_a_proxy(&world).await;
    let a = fence("a");
    let lease = client.acquire(&a, long()).await.unwrap();
    let keyed = || WriteOptions::from(Condition::Absent).once(IdempotencyKey::random());

    // Had it been asked again without its key, there would be a record by then.
    let lost = lose(&proxy, "PUT /v1/fences/a/records/keyed");
    let version = lease
        .put(&key("keyed"), b"1".to_vec(), "text/plain", keyed())
        .await
        .unwrap();
    lost.await.expect("an answer was lost");
    assert_eq!(
        client.read(&a, &key("keyed")).await.unwrap().unwrap().version,
        version
    );

    // Had this been asked again, the answer would be a version mismatch.
    let lost = lose(&proxy, "PUT /v1/fences/a/records/plain");
    let plain = lease
        .put(
            &key("plain"),
            b"1".to_vec(),
            "text/plain",
            Condition::Absent.into(),
        )
        .await;
    lost.await.expect("an answer was lost");
    let unknown = plain.unwrap_err();
    assert!(
        unknown.is_outcome_unknown() && !unknown.is_retryable(),
        "{unknown}"
    );
    assert!(
        unknown.to_string().contains(&proxy.addr().to_string()),
        "{unknown}"
    );
    assert!(
        super::client(gateway.port)
            .read(&a, &key("plain"))
            .await
            .unwrap()
            .is_some()
    );

    for (once, there) in [(Some(IdempotencyKey::random()), "t1"), (None, "t2")] {
        let transaction =
            Transaction::new()
                .under(&a, lease.token())
                .put(&a, &key(there), text("1"), Condition::Absent);
        let lost = lose(&proxy, "POST /v1/transactions");
        let done = client.transact(&transaction, once.as_ref()).await;
        lost.await.expect("an answer was lost");
        match once {
            Some(_) => assert_eq!(done.unwrap().len(), 1),
            None => assert!(done.unwrap_err().is_outcome_unknown()),
        }
    }
}

#[tokio::test]
async fn what_can_be_asked_again_is() {
    let world = World::sqlite().await;
    let (_gateway, proxy, client) = behind_a_proxy(&world).await;
    let (a, k) = (fence("a"), key("k"));
    let lease = client.grant(&a, &long()).await.unwrap();
    let token = &lease.token;
    client
        .put(&a, token, &k, text("v"), Condition::Always)
        .await
        .unwrap();
    let lost = lose(&proxy, "GET /v1/fences/a/records/k");
    assert_eq!(client.read(&a, &k).await.unwrap().unwrap().value, text("v"));
    lost.await.expect("an answer was lost");
    let lost = lose(&proxy, "GET /v1/fences?");
    assert_eq!(client.fences("").all().await.unwrap().len(), 1);
    lost.await.expect("an answer was lost");
    let lost = lose(&proxy, "POST /v1/fences/a/check");
    client.check(&a, token).await.unwrap();
    lost.await.expect("an answer was lost");
    let lost = lose(&proxy, "PUT /v1/fences/a/lease");
    client.renew(&a, token).await.unwrap();
    lost.await.expect("an answer was lost");
    let lost = lose(&proxy, "DELETE /v1/fences/a/lease");
    client.release(&a, token).await.unwrap();
    lost.await.expect("an answer was lost");
    // By force it is not: it might end the next holder's lease.
    client.acquire(&a, patiently()).await.unwrap();
    let lost = lose(&proxy, "DELETE /v1/fences/a/lease?force");
    assert!(client.force_release(&a).await.unwrap_err().is_outcome_unknown());
    lost.await.expect("an answer was lost");
}

#[tokio::test]
async fn a_gateway_that_is_away_is_waited_for_and_named() {
    let world = World::sqlite().await;
    let (_gateway, mut proxy, client) = behind_a_proxy(&world).await;
    proxy.refuse(true).await;
    let impatient = Client::builder(client.url()).patience(Duration::from_millis(100));
    let error = impatient
        .build()
        .unwrap()
        .acquire(&fence("a"), long())
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }) && error.is_retryable());
    assert!(error.to_string().contains(&proxy.addr().to_string()), "{error}");
    let patient = Client::builder(client.url())
        .patience(Duration::from_secs(60))
        .build()
        .unwrap();
    let acquiring = tokio::spawn(async move { patient.acquire(&fence("a"), long()).await });
    // It is asked in vain for a while, then not.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!acquiring.is_finished());
    proxy.refuse(false).await;
    acquiring.await.unwrap().unwrap();
}

#[tokio::test]
async fn answers_that_are_no_gateways_are_told_as_such() {
    for answer in [
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/elsewhere\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\n\r\n<p/>",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 201 Created\r\ncontent-length: 55\r\n\r\n{\"token\":\"1-1-x\",\"ttl\":\"10s\",\"expires_in_ms\":10000     }",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let error = client(port).grant(&fence("a"), &long()).await.unwrap_err();
        let as_such = match answer.contains("location") {
            true => matches!(error, ClientError::Redirect { .. }),
            false => matches!(error, ClientError::Unexpected(_)),
        };
        assert!(as_such, "{answer}: {error}");
    }
}
