//! What a URL begins with, and what was probably meant.

/// What stands before the first colon. A URL without one is shown in errors, so it is cut short.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) fn of(url: &str) -> &str {
    let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
    scheme
        .char_indices()
        .nth(20)
        .map_or(scheme, |(end, _)| &scheme[..end])
}

/// What to add to an error about a scheme that nobody has: the one that is spelled most like it.
pub(crate) fn hint(given: &str, known: &[&str]) -> String {
    let given = given.to_ascii_lowercase();
    let alike = |known: &str| strsim::normalized_damerau_levenshtein(&given, known);
    let nearest = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)));
    match nearest {
        Some(nearest) if alike(nearest) >= 0.6 => format!(" (did you mean {nearest}?)"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let known = ["etcd", "zookeeper", "redis", "redlock", "postgres", "sqlite"];
        for (given, meant) in [
            ("ectd", "etcd"),
            ("zookeper", "zookeeper"),
            ("Postgress", "postgres"),
            ("sqlite3", "sqlite"),
            ("REDIS", "redis"),
            ("redlok", "redlock"),
        ] {
            assert_eq!(hint(given, &known), format!(" (did you mean {meant}?)"));
        }
        for given in ["", "consul", "mysql", "x", "ftp"] {
            assert_eq!(hint(given, &known), "", "{given}");
        }
    }
}
