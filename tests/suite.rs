//! Every test of the project, in one binary: it links once, and all of it shares `support`.

mod conformance;
mod grants;
#[cfg(feature = "redis")]
mod redis;
mod support;

mod servers;
mod world;
