//! Programs that take the same locks with libraries of their own.

#[cfg(feature = "etcd")]
mod etcd;
#[cfg(any(feature = "etcd", feature = "redis", feature = "zookeeper"))]
mod foreign;
#[cfg(feature = "redis")]
mod redis_py;
#[cfg(feature = "zookeeper")]
mod zookeeper;
