//! What a client may do with which fences.

use crate::name::FenceName;

/// What can be allowed on a fence. None of them includes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Right {
    /// To acquire, renew and release leases.
    Lease,
    /// To write records.
    Write,
    /// To read records, the fence's state, and who was refused.
    Read,
    /// To release others' leases by force.
    Admin,
}

impl Right {
    const ALL: [Self; 4] = [Self::Lease, Self::Write, Self::Read, Self::Admin];

    pub(in crate::gateway) fn as_str(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Write => "write",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

/// Fences by their name, or by what their names begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fences {
    Named(FenceName),
    /// All, where the prefix is empty.
    Beginning(Box<str>),
}

impl Fences {
    fn has(&self, fence: &FenceName) -> bool {
        match self {
            Self::Named(name) => name == fence,
            Self::Beginning(prefix) => fence.as_str().starts_with(&**prefix),
        }
    }
}

/// A client's rights. They add up: what no part of them allows is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::gateway) struct Rights(Vec<(Fences, Vec<Right>)>);

impl Rights {
    pub(super) fn all() -> Self {
        Self(vec![(Fences::Beginning("".into()), Right::ALL.into())])
    }

    pub(super) fn on(&self, fence: &FenceName, right: Right) -> bool {
        let mut parts = self.0.iter();
        parts.any(|(fences, rights)| rights.contains(&right) && fences.has(fence))
    }

    pub(super) fn everywhere(&self, right: Right) -> bool {
        let is_all = |fences: &Fences| matches!(fences, Fences::Beginning(prefix) if prefix.is_empty());
        let mut parts = self.0.iter();
        parts.any(|(fences, rights)| rights.contains(&right) && is_all(fences))
    }
}
