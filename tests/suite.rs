//! Every test of the project, in one binary: it links once, and all of it shares `support`.

mod conformance;
mod grants;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod redlock;
mod support;

mod servers;
mod world;
