//! Which instances count.

use fencegate::{
    GrantError, connect,
    lock::{LockError, LockService, redlock::Redlock},
};
use redis::{AsyncCommands, Client};

use super::{SOON, assert_unavailable, cycle, locks, named, request, three};
use crate::support::{self, Redis, eventually};

async fn flush(instance: &Redis) {
    let client = Client::open(instance.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let () = redis::cmd("FLUSHALL").query_async(&mut connection).await.unwrap();
}

#[tokio::test]
async fn all_must_be_up_for_the_first_use() {
    let mut instances = three().await;
    instances[1].kill9();
    let locks = locks(&instances);
    let message = assert_unavailable(locks.acquire(&request("a")).await);
    let expected = format!("{} does not answer: all must be up", instances[1].endpoint());
    assert!(message.contains(&expected), "{message}");
    instances[1].restart().await;
    eventually(SOON, async || locks.acquire(&request("a")).await.is_ok()).await;
}

#[tokio::test]
async fn many_may_be_the_first_at_the_same_time() {
    let instances = three().await;
    let firsts = futures::future::join_all((0..10).map(|_| {
        let locks = locks(&instances);
        async move {
            eventually(SOON, async || locks.identity().await.is_ok()).await;
            locks.identity().await.unwrap()
        }
    }));
    let identities = firsts.await;
    assert!(
        identities.iter().all(|identity| *identity == identities[0]),
        "{identities:?}"
    );
}

#[tokio::test]
async fn an_instance_that_comes_back_empty_counts_as_down() {
    let mut instances = three().await;
    let (one, other) = (locks(&instances), locks(&instances));
    let identity = one.identity().await.unwrap();
    let last = cycle(&one, "a").await;
    flush(&instances[2]).await;

    // With the two that know everything it goes on.
    assert_eq!(one.identity().await.unwrap(), identity);
    let held = other.acquire(&request("a")).await.unwrap();
    assert!(held.claim.sequence.get() > last);
    one.renew(&held.claim).await.unwrap();
    assert!(!super::has_lock(&instances[2], "a").await);

    // With one of them it does not, though two are up.
    instances[0].kill9();
    assert_unavailable(other.renew(&held.claim).await);
    assert_unavailable(one.acquire(&request("b")).await);
    let message = assert_unavailable(locks(&instances).acquire(&request("b")).await);
    let expected = format!("{} has lost its data", instances[2].endpoint());
    assert!(message.contains(&expected), "{message}");
    assert_unavailable(one.identity().await);

    instances[0].restart().await;
    eventually(SOON, async || other.renew(&held.claim).await.is_ok()).await;
}

#[tokio::test]
async fn a_majority_that_comes_back_empty_ends_leases() {
    let instances = three().await;
    let locks = locks(&instances);
    let held = locks.acquire(&request("a")).await.unwrap();
    flush(&instances[1]).await;
    flush(&instances[2]).await;
    assert!(matches!(locks.renew(&held.claim).await, Err(LockError::Lost)));
    assert_unavailable(locks.acquire(&request("b")).await);
    assert_unavailable(super::locks(&instances).identity().await);
}

#[tokio::test]
async fn if_all_are_emptied_no_lease_is_granted() {
    let instances = three().await;
    let folder = support::folder("store");
    let store = format!("sqlite:{}", folder.path().join("store.db").display());
    let addresses: Vec<_> = instances.iter().map(Redis::endpoint).collect();
    let url = format!("redlock://{}", addresses.join(","));
    let grants = connect(&store, Some(&url)).await.unwrap();
    grants.store().migrate().await.unwrap();
    let ttl = std::time::Duration::from_secs(10);
    grants.acquire("a", ttl).await.unwrap().release().await.unwrap();
    let direct = locks(&instances);
    let identity = direct.identity().await.unwrap();

    for instance in &instances {
        flush(instance).await;
    }
    let error = grants.acquire("a", ttl).await.unwrap_err();
    assert!(matches!(error, GrantError::OtherHistory { .. }), "{error}");
    assert_ne!(direct.acquire(&request("b")).await.unwrap().identity, identity);
}

#[tokio::test]
async fn an_operator_has_them_agree_anew() {
    let instances = three().await;
    let before = locks(&instances);
    let identity = before.identity().await.unwrap();
    flush(&instances[0]).await;
    for instance in &instances {
        let client = Client::open(instance.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let ours = ["fencegate/locks//members", "fencegate/locks//instance"];
        let () = connection.del(&ours[..]).await.unwrap();
    }
    let after = locks(&instances);
    let held = after.acquire(&request("a")).await.unwrap();
    assert_ne!(held.identity, identity);
    // Who still remembers the former set learns of it.
    assert_eq!(
        before.acquire(&request("b")).await.unwrap().identity,
        held.identity
    );
}

#[tokio::test]
async fn instances_that_cannot_be_a_redlock_are_refused() {
    let instances = three().await;
    let (a, b) = (&instances[0], &instances[1]);
    let twice = named([a.endpoint(), b.endpoint(), format!("localhost:{}", a.port())].into_iter());
    let error = twice.identity().await.unwrap_err();
    assert!(matches!(error, LockError::Unexpected { .. }), "{error}");
    assert!(
        error.to_string().contains("another name of an instance"),
        "{error}"
    );

    locks(&instances).identity().await.unwrap();
    let (more, still_more) = (Redis::start().await, Redis::start().await);
    let five = instances.iter().chain([&more, &still_more]).map(Redis::endpoint);
    let error = named(five).identity().await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("belong to 3 instances, and 5 are named"),
        "{error}"
    );

    // Once they have agreed, one that is named twice has one vote.
    let twice = named([a.endpoint(), format!("localhost:{}", a.port()), more.endpoint()].into_iter());
    assert_unavailable(twice.acquire(&request("a")).await);
}

#[test]
fn even_numbers_and_few_are_refused() {
    for url in ["redlock://a", "redlock://a,b", "redlock://a,b,c,d", "redis://a"] {
        assert!(Redlock::connect(url).is_err(), "{url}");
    }
}
