//! A server's clock against this machine's.

use std::time::Duration;

use time::OffsetDateTime;

use super::finding::{Findings, Severity};

/// Beyond this, clocks are not kept.
const TOLERANCE: Duration = Duration::from_secs(2);

/// `span`: how long the answer took, or how coarse it was.
pub(super) fn judge(findings: &mut Findings, shown: OffsetDateTime, span: Duration) {
    let ahead = (OffsetDateTime::now_utc() - shown).abs();
    let apart = Duration::try_from(ahead).unwrap_or_default().saturating_sub(span);
    if apart <= TOLERANCE {
        return findings.ok("its clock agrees with this machine's");
    }
    let apart = humantime::format_duration(Duration::from_secs(apart.as_secs()));
    findings.add(
        Severity::Warning,
        format!("its clock and this machine's are {apart} apart"),
        "no token depends on it, but the times in rejections and logs do, JSON web tokens do, and a clock that is set \
         right at one stroke ends leases early or late",
        "run a time service (chrony, systemd-timesyncd) on both",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_told_in_either_direction() {
        for (off, severity) in [
            (0, Severity::Ok),
            (3600, Severity::Warning),
            (-3600, Severity::Warning),
        ] {
            let mut findings = Findings::of("x");
            let shown = OffsetDateTime::now_utc() + time::Duration::seconds(off);
            judge(&mut findings, shown, Duration::ZERO);
            assert_eq!(findings.into_list()[0].severity, severity, "{off}");
        }
        let mut findings = Findings::of("x");
        judge(
            &mut findings,
            OffsetDateTime::now_utc() - time::Duration::seconds(3),
            Duration::from_secs(2),
        );
        assert_eq!(findings.into_list()[0].severity, Severity::Ok);
    }
}
