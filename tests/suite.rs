//! Every test of the project, in one binary: it links once, and all of it shares `support`.

mod cli;
mod clock;
mod conformance;
mod demo;
mod etcd;
mod examples;
mod gateway;
mod grants;
mod guard;
mod herds;
#[cfg(all(feature = "etcd", feature = "zookeeper", feature = "redis"))]
mod histories;
mod interop;
mod pages;
mod postgres_locks;
mod readme;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod redlock;
mod run;
mod servers;
mod sqlite_locks;
mod support;
mod teeth;
mod trouble;
mod world;
#[cfg(feature = "zookeeper")]
mod zookeeper;
