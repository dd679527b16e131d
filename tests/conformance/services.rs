//! The services that the contract is tried on.

use std::{sync::Arc, time::Duration};

use fencegate::{
    database::{
        postgres::{PoolSize, connect, migrate},
        sqlite::SqliteFile,
    },
    lock::{etcd::EtcdLocks, postgres::PostgresLocks, sqlite::SqliteLocks},
};

use super::{Fixture, cases};
use crate::support;

macro_rules! conform {
    ($service:ident: $($case:ident)*) => {
        mod $service {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::cases::$case(&super::start::$service().await).await;
                }
            )*
        }
    };
}

macro_rules! services {
    ($($service:ident)*) => {
        $(
            conform! { $service:
                sequences_rise_after_release_and_expiry
                one_holder_at_a_time
                a_waiter_gets_the_lock_when_it_is_released
                a_waiter_gets_the_lock_when_it_expires_and_not_before
                a_wait_that_runs_out_leaves_no_trace
                renewals_keep_the_lock
                a_renewal_that_is_late_fails_and_takes_nothing_back
                releases_act_on_their_own_acquisition_only
                a_number_without_its_holder_is_worth_nothing
                another_process_may_renew_and_release
                asking_again_gives_the_same_acquisition
                dropped_waiters_leave_nothing
                the_identity_stays
                inspection_shows_the_holder
                counters_go_on_from_the_floor
                fences_are_strangers
                contenders_take_turns
                a_process_with_many_waiters_starves_no_other
            }
        )*
    };
}

services! { sqlite postgres etcd }
#[cfg(feature = "zookeeper")]
services! { zookeeper }
#[cfg(feature = "redis")]
services! { redis redlock }

mod start {
    use super::*;

    pub async fn sqlite() -> Fixture {
        let folder = support::folder("sqlite");
        let path = folder.path().join("locks.db");
        Fixture {
            one: Arc::new(SqliteLocks::new(SqliteFile::open(&path).await.unwrap())),
            other: Arc::new(SqliteLocks::new(SqliteFile::open(&path).await.unwrap())),
            ttl: Duration::from_millis(600),
            counts: true,
            renews_anywhere: true,
            lets_others: true,
            _servers: Box::new(folder),
        }
    }

    pub async fn postgres() -> Fixture {
        let server = support::Postgres::start().await;
        let pool = || connect(&server.url(), &PoolSize::default()).unwrap();
        migrate(&pool()).await.unwrap();
        Fixture {
            one: Arc::new(PostgresLocks::new(pool())),
            other: Arc::new(PostgresLocks::new(pool())),
            ttl: Duration::from_millis(600),
            counts: true,
            renews_anywhere: true,
            lets_others: true,
            _servers: Box::new(server),
        }
    }

    pub async fn etcd() -> Fixture {
        let server = support::Etcd::start().await;
        let url = format!("etcd://{}", server.endpoint().trim_start_matches("http://"));
        Fixture {
            one: Arc::new(EtcdLocks::connect(&url).await.unwrap()),
            other: Arc::new(EtcdLocks::connect(&url).await.unwrap()),
            ttl: Duration::from_secs(2),
            counts: false,
            renews_anywhere: true,
            lets_others: true,
            _servers: Box::new(server),
        }
    }

    #[cfg(feature = "zookeeper")]
    pub async fn zookeeper() -> Fixture {
        use fencegate::lock::zookeeper::ZookeeperLocks;
        let server = support::ZooKeeper::start().await;
        let url = format!("zookeeper://{}", server.endpoint());
        Fixture {
            one: Arc::new(ZookeeperLocks::new(&url).unwrap()),
            other: Arc::new(ZookeeperLocks::new(&url).unwrap()),
            ttl: Duration::from_secs(1),
            counts: false,
            renews_anywhere: false,
            lets_others: true,
            _servers: Box::new(server),
        }
    }

    #[cfg(feature = "redis")]
    pub async fn redis() -> Fixture {
        use fencegate::lock::redis::RedisLocks;
        let server = support::Redis::start().await;
        let url = server.url();
        Fixture {
            one: Arc::new(RedisLocks::connect(&url).unwrap()),
            other: Arc::new(RedisLocks::connect(&url).unwrap()),
            ttl: Duration::from_millis(600),
            counts: true,
            renews_anywhere: true,
            lets_others: true,
            _servers: Box::new(server),
        }
    }

    #[cfg(feature = "redis")]
    pub async fn redlock() -> Fixture {
        use fencegate::lock::redlock::Redlock;
        let (a, b, c) = tokio::join!(
            support::Redis::start(),
            support::Redis::start(),
            support::Redis::start()
        );
        let url = format!("redlock://{},{},{}", a.endpoint(), b.endpoint(), c.endpoint());
        Fixture {
            one: Arc::new(Redlock::connect(&url).unwrap()),
            other: Arc::new(Redlock::connect(&url).unwrap()),
            ttl: Duration::from_millis(600),
            counts: true,
            renews_anywhere: true,
            lets_others: false,
            _servers: Box::new([a, b, c]),
        }
    }
}
