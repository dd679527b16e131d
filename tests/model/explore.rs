//! Exploring a model, for its promises or for a defect.

use std::{collections::BTreeSet, fmt::Debug, hash::Hash};

use stateright::{Checker, HasDiscoveries, Model};

/// Whether to explore what takes minutes, and gigabytes.
pub fn large() -> bool {
    std::env::var("MODEL").is_ok_and(|how| how == "large")
}

/// Explores all of it: every promise holds, and so many states at least were looked at.
pub fn holds<M>(what: &str, model: M, at_least: usize)
where
    M: Model + Send + Sync + 'static,
    M::State: Debug + Hash + Clone + Send + Sync + PartialEq,
    M::Action: Debug + Clone + PartialEq + Send + Sync,
{
    let checker = model.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    assert!(checker.is_done());
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{what}: {states} distinct states, to a depth of {depth}: every promise holds");
    assert!(states >= at_least, "that is fewer than {at_least} states");
}

/// Explores until this promise is broken.
pub fn breaks<M>(defect: impl Debug, model: M, promise: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: Debug + Hash + Clone + Send + Sync + PartialEq,
    M::Action: Debug + Clone + PartialEq + Send + Sync,
{
    let found = HasDiscoveries::AnyOf(BTreeSet::from([promise]));
    let checker = model.checker().threads(2).finish_when(found).spawn_bfs().join();
    let path = checker.discovery(promise);
    let path = path.unwrap_or_else(|| panic!("{defect:?} is not found"));
    println!("{defect:?} breaks \"{promise}\": {:?}", path.into_actions());
}
