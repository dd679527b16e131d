//! Every test of the project, in one binary: it links once, and all of it shares `support`.

mod conformance;
mod grants;
mod support;

mod servers;
mod world;
