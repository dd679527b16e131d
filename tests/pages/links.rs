//! Links between the pages lead somewhere, and the names of metrics on them are those that there are.

use std::path::{Path, PathBuf};

use regex::Regex;

/// All Markdown of the repository that people read.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [root.to_path_buf(), root.join("docs")];
    let files = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let files = files.map(|file| file.unwrap().path());
    files
        .filter(|file| file.extension().is_some_and(|extension| extension == "md"))
        .collect()
}

/// What GitHub makes of a heading.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter_map(|line| {
        let text = line.trim_start_matches('#');
        (text.len() < line.len()).then(|| text.trim())
    });
    let anchor = |heading: &str| {
        let kept = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    assert!(pages.len() > 10, "{pages:?}");
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    for page in &pages {
        let text = std::fs::read_to_string(page).unwrap();
        for found in link.captures_iter(&text) {
            let target = &found[1];
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            assert!(file.exists(), "{} links to {target}", page.display());
            if !anchor.is_empty() {
                let anchors = anchors(&std::fs::read_to_string(&file).unwrap());
                assert!(
                    anchors.iter().any(|known| known == anchor),
                    "{} links to {target}, of {anchors:?}",
                    page.display()
                );
            }
        }
    }
}

#[test]
fn metrics_are_called_by_their_names() {
    let known = include_str!("../../docs/metrics.md");
    let known: Vec<&str> = known
        .lines()
        .filter_map(|line| line.strip_prefix("| `fencegate_")?.split('`').next())
        .collect();
    assert!(known.len() > 15, "{known:?}");
    let name = Regex::new(r"\bfencegate_([a-z_]+)").unwrap();
    let page = include_str!("../../docs/operations.md");
    let mut used = 0;
    for found in name.captures_iter(page) {
        let metric = &found[1];
        let of_histogram = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|part| metric.strip_suffix(part));
        let is_role = ["writer", "sealer", "reader"].contains(&metric);
        assert!(
            is_role || known.contains(&metric) || of_histogram.is_some_and(|metric| known.contains(&metric)),
            "fencegate_{metric}"
        );
        used += usize::from(!is_role);
    }
    assert!(used > 5, "{used}");
}
