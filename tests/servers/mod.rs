//! The ground under the other tests: each server starts, answers, and keeps its data over `kill -9`; what
//! breaks the network breaks it; and nothing outlives a test.

mod cleanup;
mod etcd;
mod postgres;
mod proxy;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "zookeeper")]
mod zookeeper;
