//! What the doctor finds, and how it says it.

use std::fmt;

use serde::Serialize;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// Costs leases or answers when something else fails, but the guard stands.
    Warning,
    /// Does not work, or may lose what was promised.
    Unsafe,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// Where: `store`, `locks` or `gateway`, with the server.
    pub(super) place: String,
    /// What was found.
    pub(super) what: String,
    /// Why it matters; empty where all is well.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) why: String,
    /// What to do about it; empty where nothing is to be done.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) remedy: String,
}

/// All findings about one place.
#[derive(Debug)]
pub(super) struct Findings {
    place: String,
    list: Vec<Finding>,
}

impl Findings {
    pub(super) fn of(place: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            list: Vec::new(),
        }
    }

    pub(super) fn ok(&mut self, what: impl Into<String>) {
        self.add(Severity::Ok, what, "", "");
    }

    pub(super) fn add(
        &mut self,
        severity: Severity,
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.list.push(Finding {
            severity,
            place: self.place.clone(),
            what: what.into(),
            why: why.into(),
            remedy: remedy.into(),
        });
    }

    pub(super) fn into_list(self) -> Vec<Finding> {
        self.list
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "WARNING",
            Self::Unsafe => "UNSAFE",
        })
    }
}

/// For people: a heading for each place, and reasons under what is not well.
pub(super) fn told(findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut place = "";
    for finding in findings {
        if finding.place != place {
            place = &finding.place;
            let gap = if text.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{gap}{place}\n"));
        }
        text.push_str(&format!("  {:<8} {}\n", finding.severity, finding.what));
        for (heading, words) in [("why", &finding.why), ("do", &finding.remedy)] {
            if !words.is_empty() {
                text.push_str(&format!("           {heading:<4} {words}\n"));
            }
        }
    }
    text.push_str(&format!("\n{}", verdict(findings)));
    text
}

fn verdict(findings: &[Finding]) -> String {
    let count = |severity| {
        findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count()
    };
    match (count(Severity::Unsafe), count(Severity::Warning)) {
        (0, 0) => "All is well.".into(),
        (0, warnings) => format!("{warnings} to look at."),
        (bad, warnings) => format!("{bad} UNSAFE, {warnings} more to look at."),
    }
}
