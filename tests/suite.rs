//! Every test of the project, in one binary: it links once, and all of it shares `support`.

mod conformance;
mod gateway;
mod grants;
mod support;

mod servers;
mod world;
