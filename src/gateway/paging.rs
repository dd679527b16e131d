//! Pages of lists: how long one is, and whether there is another.

use super::Problem;

/// How many items a page has, unless asked otherwise.
const USUAL: u32 = 100;
/// How many it has at most.
const MOST: u32 = 1000;

/// How many items a page is to have.
pub(super) fn limit(asked: Option<&str>) -> Result<u32, Problem> {
    let Some(text) = asked else { return Ok(USUAL) };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = text
        .parse()
        .ok()
        .filter(|limit| digits && (1..=MOST).contains(limit));
    limit.ok_or_else(|| Problem::query_malformed(format!("limit is from 1 to {MOST}")))
}

/// Cuts what was read, one item more than the limit, to a page. Answers with whether there is another.
pub(super) fn cut<T>(items: &mut Vec<T>, limit: u32) -> bool {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    more
}
