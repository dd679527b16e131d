//! Media types, as `Content-Type` has them (RFC 9110, 8.3.1).

/// The most bytes of one.
pub(super) const LONGEST: usize = 255;

/// Whether this is one media type, and nothing else.
pub(super) fn is_media_type(text: &str) -> bool {
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    (1..=LONGEST).contains(&text.len()) && printable && is_one(text).is_some()
}

/// `type/subtype`, then parameters, each behind a semicolon.
fn is_one(text: &str) -> Option<()> {
    let rest = token(text)?.strip_prefix('/')?;
    let mut rest = token(rest)?.trim_start_matches(' ');
    while !rest.is_empty() {
        rest = rest.strip_prefix(';')?.trim_start_matches(' ');
        // Semicolons with nothing between are no mistake.
        if !rest.is_empty() && !rest.starts_with(';') {
            rest = parameter(rest)?.trim_start_matches(' ');
        }
    }
    Some(())
}

/// What follows a `name=value`.
fn parameter(text: &str) -> Option<&str> {
    let value = token(text)?.strip_prefix('=')?;
    match value.strip_prefix('"') {
        Some(quoted) => quotation(quoted),
        None => token(value),
    }
}

/// What follows a token.
fn token(text: &str) -> Option<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let rest = text.trim_start_matches(is_part);
    (rest.len() < text.len()).then_some(rest)
}

/// What follows the quotation mark at the end.
fn quotation(text: &str) -> Option<&str> {
    let mut characters = text.chars();
    loop {
        match characters.next()? {
            '"' => return Some(characters.as_str()),
            '\\' => {
                characters.next()?;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_media_type_is_one_and_nothing_else_is() {
        for one in [
            "text/plain",
            "image/svg+xml",
            "text/plain;charset=utf-8",
            "text/plain ; charset=\"utf-8\"; q=1",
            "multipart/x; boundary=\"a, \\\"b\\\"; c\"",
            "a/b;",
            "a/b;; ;c=d",
            "*/*",
        ] {
            assert!(is_media_type(one), "{one}");
        }
        for other in [
            "",
            "garbage",
            "/",
            "a/",
            "/b",
            "a/b/c",
            "a/b, c/d",
            " a/b",
            "a /b",
            "a/b c",
            "a/b;c",
            "a/b;c=",
            "a/b;c=\"",
            "a/b;c=\"d\\\"",
            "a/b;c=\"d\"e",
            "a/b;c=d, e/f",
            "a/b\n",
            "a/\u{fc}",
        ] {
            assert!(!is_media_type(other), "{other:?}");
        }
        assert!(is_media_type(&format!("t/{}", "t".repeat(253))));
        assert!(!is_media_type(&format!("t/{}", "t".repeat(254))));
    }
}
