//! What the tests stand on: real servers on free loopback ports, in temporary folders, that end with the
//! test however it ends.
#![allow(
    dead_code,
    unused_imports,
    reason = "a build with fewer features has fewer tests, and they use less of this"
)]

pub mod etcd;
pub mod eventually;
pub mod http;
pub mod pgbouncer;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod programs;
pub mod proxy;
pub mod reaper;
pub mod redis;
pub mod zookeeper;

pub use etcd::{Etcd, EtcdCluster};
pub use eventually::eventually;
pub use pgbouncer::PgBouncer;
pub use postgres::Postgres;
pub use process::Process;
pub use proxy::Proxy;
pub use reaper::folder;
pub use redis::Redis;
pub use zookeeper::ZooKeeper;
