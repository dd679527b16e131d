//! Who was refused.

use serde::{Deserialize, Serialize};

use time::format_description::well_known::Rfc3339;

use super::{Client, Listing};
use crate::{name::FenceName, rejections::Rejection};

/// Refusals of one token on one fence within about a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ListedRejection {
    /// Where it is in the listing.
    pub id: String,
    /// When the last of them was, as RFC 3339 has it.
    pub at: Option<String>,
    /// The fence; empty where a row of a protected table names none.
    pub fence: String,
    /// Why: `stale`, `holder-mismatch` and so on.
    pub reason: String,
    /// The token, as epoch-sequence.
    pub presented: Option<String>,
    /// The mark, as epoch-sequence.
    pub mark: Option<String>,
    /// Milliseconds after the mark was sealed.
    pub late_ms: Option<u64>,
    /// `gateway`, `guard` or `report`.
    pub source: String,
    /// Who was refused.
    pub who: String,
    /// The protected table, in report mode.
    pub table: Option<String>,
    /// How many refusals it stands for.
    pub count: i64,
}

/// As a gateway would tell it.
impl From<Rejection> for ListedRejection {
    fn from(row: Rejection) -> Self {
        let late = row.late.map(|late| u64::try_from(late.as_millis()));
        Self {
            id: row.id.to_string(),
            at: row.at.format(&Rfc3339).ok(),
            fence: row.fence,
            reason: row.reason,
            presented: row.presented,
            mark: row.mark,
            late_ms: late.map(|late| late.unwrap_or(u64::MAX)),
            source: row.source,
            who: row.who,
            table: row.relation,
            count: row.count,
        }
    }
}

impl Client {
    /// The rejections of a fence, or of all, newest first.
    pub fn rejections(&self, fence: Option<&FenceName>) -> Listing<ListedRejection> {
        let fence = fence.map_or("", FenceName::as_str);
        Listing::new(
            self.clone(),
            "/v1/rejections".into(),
            "rejections",
            ("fence", fence),
        )
    }
}
