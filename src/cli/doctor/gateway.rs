//! A gateway: whether it is ready, and what it says is wrong.

use std::time::Duration;

use fencegate::client::{Client, Health};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

use super::{
    super::exit,
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
                match error.problem() {
                    Some(_) => format!("it does not say how it is: {error}"),
                    None => format!("it does not answer: {error}"),
                },
                "nothing goes through it",
                exit::closer(&error).unwrap_or_else(|| format!("curl {}/livez", client.url())),
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
        let Some(part) = part else {
            findings.add(
                Severity::Note,
                format!("its {what} is not shown"),
                "that needs the right admin on all fences",
                "",
            );
            continue;
        };
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
        // Said of the part that is not usable.
        _ if health.store.is_some() => {}
        status => findings.add(
            Severity::Unsafe,
            format!("it is {status}"),
            "what needs the server that is not usable is refused",
            "ask again with a key that has the right admin, or look at the gateway's log",
        ),
    }
}
