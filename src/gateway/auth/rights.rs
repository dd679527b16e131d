//! What a client may do with which fences.

use std::{cmp::Ordering, collections::BTreeMap};

use serde::{Deserialize, Deserializer, de::Error};

use crate::name::FenceName;

/// What can be allowed on a fence. None of them includes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
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

/// The most names and prefixes that one client's rights have.
const MOST: usize = 256;

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
pub(in crate::gateway) enum Fences {
    /// This one.
    Named(FenceName),
    /// All whose names begin so, which is all there are where it is empty.
    Beginning(Box<str>),
}

impl Fences {
    /// Reads `invoices:2026-11`, `invoices:*` or `*`.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &dyn std::fmt::Display| {
            format!("{text:?} names no fences, as invoices:2026-11, invoices:* or * do: {why}")
        };
        match text.strip_suffix('*') {
            Some(prefix) if prefix.contains('*') => Err(wrong(&"a star stands at the end, and only there")),
            Some("") => Ok(Self::Beginning("".into())),
            // What no name begins with is a mistake.
            Some(prefix) => match format!("{prefix}x").parse::<FenceName>() {
                Ok(_) => Ok(Self::Beginning(prefix.into())),
                Err(error) => Err(wrong(&error)),
            },
            None if text.contains('*') => Err(wrong(&"a star stands at the end, and only there")),
            None => text.parse().map(Self::Named).map_err(|error| wrong(&error)),
        }
    }

    fn has(&self, fence: &FenceName) -> bool {
        match self {
            Self::Named(name) => name == fence,
            Self::Beginning(prefix) => fence.as_str().starts_with(&**prefix),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Named(name) => name.as_str(),
            Self::Beginning(prefix) => prefix,
        }
    }

    /// Those of them whose names begin so.
    fn within(&self, beginning: &str) -> Option<Self> {
        match self {
            _ if self.text().starts_with(beginning) => Some(self.clone()),
            Self::Beginning(prefix) if beginning.starts_with(&**prefix) => {
                Some(Self::Beginning(beginning.into()))
            }
            _ => None,
        }
    }

    /// In the order of their names, and a prefix before the name that is the same.
    fn order(&self, other: &Self) -> Ordering {
        let rank = |fences: &Self| matches!(fences, Self::Named(_));
        (self.text(), rank(self)).cmp(&(other.text(), rank(other)))
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
        self.with(right).any(|fences| fences.has(fence))
    }

    pub(super) fn everywhere(&self, right: Right) -> bool {
        self.with(right).any(|fences| fences.text().is_empty())
    }

    /// The fences that the right is on, of those whose names begin so: in the order of their names, and none twice.
    pub(super) fn fences(&self, right: Right, beginning: &str) -> Vec<Fences> {
        let mut fences: Vec<_> = self
            .with(right)
            .filter_map(|fences| fences.within(beginning))
            .collect();
        fences.sort_by(Fences::order);
        // What a prefix covers follows it directly.
        fences.dedup_by(|later, earlier| match earlier {
            Fences::Beginning(prefix) => later.text().starts_with(&**prefix),
            Fences::Named(_) => later == earlier,
        });
        fences
    }

    fn with(&self, right: Right) -> impl Iterator<Item = &Fences> {
        let parts = self.0.iter().filter(move |(_, rights)| rights.contains(&right));
        parts.map(|(fences, _)| fences)
    }
}

/// From `{"invoices:*": ["lease", "write"], "*": ["read"]}`.
impl<'de> Deserialize<'de> for Rights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = BTreeMap::<String, Vec<Right>>::deserialize(deserializer)?;
        if given.len() > MOST {
            return Err(D::Error::custom(format!(
                "rights have at most {MOST} names and prefixes"
            )));
        }
        let rights = given
            .into_iter()
            .map(|(fences, rights)| Ok((Fences::parse(&fences)?, rights)));
        let rights: Result<_, String> = rights.collect();
        Ok(Self(rights.map_err(D::Error::custom)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn rights(json: Value) -> Rights {
        serde_json::from_value(json).unwrap()
    }

    fn name(text: &str) -> FenceName {
        text.parse().unwrap()
    }

    #[test]
    fn nothing_is_allowed_that_no_part_allows() {
        let rights =
            rights(json!({"a": ["read"], "b:*": ["write", "lease"], "b:1": ["read"], "*": ["admin"]}));
        for (fence, allowed) in [
            ("a", vec![Right::Read, Right::Admin]),
            ("ab", vec![Right::Admin]),
            ("b", vec![Right::Admin]),
            ("b:", vec![Right::Write, Right::Lease, Right::Admin]),
            ("b:1", vec![Right::Read, Right::Write, Right::Lease, Right::Admin]),
            ("b:12", vec![Right::Write, Right::Lease, Right::Admin]),
            ("B:1", vec![Right::Admin]),
        ] {
            for right in Right::ALL {
                assert_eq!(
                    rights.on(&name(fence), right),
                    allowed.contains(&right),
                    "{fence} {right:?}"
                );
            }
        }
        assert!(rights.everywhere(Right::Admin) && !rights.everywhere(Right::Write));
        assert!(Right::ALL.iter().all(|right| {
            let none = Rights::default();
            !none.on(&name("a"), *right) && !none.everywhere(*right)
        }));
    }

    #[test]
    fn what_names_no_fences_is_an_error() {
        for fences in [
            "",
            "a*b",
            "**",
            "a/*",
            "/",
            ".",
            "..",
            "a\n*",
            &"x".repeat(201),
            &"x*".repeat(2),
        ] {
            let error = serde_json::from_value::<Rights>(json!({fences: ["read"]}));
            assert!(error.is_err(), "{fences}");
        }
        for wrong in [
            json!({"a": ["raed"]}),
            json!({"a": "read"}),
            json!({"a": ["Read"]}),
            json!(["read"]),
            json!(7),
        ] {
            assert!(
                serde_json::from_value::<Rights>(wrong.clone()).is_err(),
                "{wrong}"
            );
        }
        let many: BTreeMap<_, _> = (0..=MOST).map(|n| (n.to_string(), ["read"])).collect();
        assert!(serde_json::from_value::<Rights>(json!(many)).is_err());
    }

    proptest! {
        /// The parts that a listing asks for are, together, exactly what may be read, each once and in order.
        #[test]
        fn parts_cover_what_is_allowed_once_and_in_order(
            given in proptest::collection::btree_map("[ab]{0,3}\\*?", Just(vec!["read"]), 0..8),
            beginning in "[ab]{0,2}",
        ) {
            let given: BTreeMap<_, _> = given.into_iter().filter(|(text, _)| !text.is_empty()).collect();
            let rights = rights(json!(given));
            let parts = rights.fences(Right::Read, &beginning);
            let mut all: Vec<String> = vec![String::new()];
            for length in 0..4 {
                let longest: Vec<_> = all.iter().filter(|text| text.len() == length).cloned().collect();
                all.extend(longest.iter().flat_map(|text| [format!("{text}a"), format!("{text}b")]));
            }
            all.sort();
            let names = all.iter().filter(|text| !text.is_empty()).map(|text| name(text));
            let (mut shown, mut expected) = (Vec::new(), Vec::new());
            for name in names {
                if name.as_str().starts_with(&beginning) && rights.on(&name, Right::Read) {
                    expected.push(name);
                }
            }
            for part in &parts {
                let of_part = all.iter().filter(|text| !text.is_empty()).map(|text| name(text));
                shown.extend(of_part.filter(|name| part.has(name)));
            }
            prop_assert_eq!(shown, expected);
        }
    }
}
