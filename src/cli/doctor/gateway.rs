//! A gateway: whether it is ready, and what it says is wrong.

use std::time::Duration;

use fencegate::client::{Client, Health};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

use super::{
    clock,
    finding::{Findings, Severity},
};

pub(super) async fn look(client: &Client) -> Findings {
    let mut findings = Findings::of(format!("gateway: {}", client.url()));
    let health = match client.health().await {
        Ok(health) => health,
        Err(error) => {
            findings.add(
                Severity::Unsafe,
                format!("it does not answer: {error}"),
                "nothing goes through it",
                format!("curl {}/livez", client.url()),
            );
            return findings;
        }
    };
    transport(&mut findings, client);
    judge(&mut findings, &health);
    let shown = health.date.as_deref().map(|date| date.replace("GMT", "+0000"));
    if let Some(shown) = shown.and_then(|date| OffsetDateTime::parse(&date, &Rfc2822).ok()) {
        // It tells whole seconds.
        clock::judge(&mut findings, shown, Duration::from_secs(1));
    }
    findings
}

fn transport(findings: &mut Findings, client: &Client) {
    if client.url().starts_with("http://") && !client.is_on_this_machine() {
        findings.add(
            Severity::Warning,
            "it is reached without TLS",
            "tokens and API keys are credentials, and whoever is on the way can read them",
            "give the gateway a certificate, and its URL as https://",
        );
    }
}

fn judge(findings: &mut Findings, health: &Health) {
    for (what, part) in [("store", &health.store), ("lock service", &health.lock_service)] {
        match &part.problem {
            None => findings.ok(format!("its {what} is usable: {}", part.name)),
            Some(problem) => findings.add(
                Severity::Unsafe,
                format!("its {what} is not usable: {}: {problem}", part.name),
                "what needs it is refused",
                "fencegate doctor with the --store and --locks of the gateway says more",
            ),
        }
    }
    match health.status.as_str() {
        "ready" => findings.ok("ready"),
        "draining" => findings.add(Severity::Note, "it is stopping", "it gives no more leases", ""),
        _ => {}
    }
}
