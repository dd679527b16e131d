//! Versions, and from which on something is mended.

use std::fmt;

use super::finding::{Findings, Severity};

/// Numbers with dots between; what follows them does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u32, pub(super) u32, pub(super) u32);

/// Something that older versions do wrong.
pub(super) struct Flaw {
    pub(super) severity: Severity,
    /// The first release of each line that has it mended; lines before the first never have, lines after the last
    /// always.
    pub(super) mended: &'static [Version],
    /// What older ones do.
    pub(super) why: &'static str,
}

impl Version {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_of_it = |c: char| c.is_ascii_digit() || c == '.';
        let end = text.find(|c| !is_of_it(c)).unwrap_or(text.len());
        let mut numbers = text[..end].split('.').map(|part| part.parse().ok());
        let first = numbers.next()??;
        let mut rest = || numbers.next().flatten().unwrap_or(0);
        Some(Self(first, rest(), rest()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Flaw {
    /// The release to go to, if this version has the flaw: of its own line, or else of the next one.
    fn remedy(&self, version: Version) -> Option<Version> {
        let line = |version: &Version| (version.0, version.1);
        let of_its_line = self.mended.iter().find(|mended| line(mended) == line(&version));
        match of_its_line {
            Some(mended) => (version < *mended).then_some(*mended),
            None => self.mended.iter().find(|mended| **mended > version).copied(),
        }
    }
}

/// Tells the version, and which of the flaws it has.
pub(super) fn judge(findings: &mut Findings, name: &str, text: &str, flaws: &[Flaw]) {
    let Some(version) = Version::parse(text) else {
        return findings.add(
            Severity::Note,
            format!("{name} is of a version that cannot be read: {text}"),
            "whether it has known flaws cannot be told",
            "",
        );
    };
    let mut flawless = true;
    for flaw in flaws {
        if let Some(mended) = flaw.remedy(version) {
            flawless &= flaw.severity < Severity::Warning;
            let remedy = format!("upgrade to {mended} or newer");
            findings.add(
                flaw.severity,
                format!("{name} {version} is older than {mended}"),
                flaw.why,
                remedy,
            );
        }
    }
    if flawless {
        findings.ok(format!("{name} {version}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_which_releases_have_a_flaw() {
        let flaw = Flaw {
            severity: Severity::Unsafe,
            mended: &[Version(3, 4, 32), Version(3, 5, 14), Version(3, 6, 0)],
            why: "",
        };
        for (version, mended) in [
            ("3.4.23", Some(Version(3, 4, 32))),
            ("3.4.32", None),
            ("3.4.33", None),
            ("3.5.13", Some(Version(3, 5, 14))),
            ("3.5.14", None),
            ("3.3.27", Some(Version(3, 4, 32))),
            ("3.6.0-rc.1", None),
            ("3.7.0", None),
            ("4", None),
        ] {
            assert_eq!(flaw.remedy(Version::parse(version).unwrap()), mended, "{version}");
        }
        assert_eq!(
            Version::parse("15.10 (Debian 15.10-0+deb12u1)"),
            Some(Version(15, 10, 0))
        );
        assert_eq!(Version::parse("devel"), None);
    }
}
