//! Programs that take the same locks with libraries of their own.

#[cfg(feature = "redis")]
mod redis_py;
#[cfg(feature = "zookeeper")]
mod zookeeper;
