//! TLS client certificates: the names in them. That a certificate is of the client authority, and that whoever shows
//! it has its key, was seen to in the handshake.

use std::collections::BTreeSet;

use x509_parser::{extensions::GeneralName, prelude::parse_x509_certificate};

/// The common names of the subject, and the alternative names that are host names, URIs or mail addresses. None if it
/// cannot be read.
pub(super) fn names(der: &[u8]) -> BTreeSet<String> {
    let Ok((_, certificate)) = parse_x509_certificate(der) else {
        return BTreeSet::new();
    };
    let common = certificate
        .subject()
        .iter_common_name()
        .filter_map(|name| name.as_str().ok());
    let mut names: BTreeSet<String> = common.map(str::to_owned).collect();
    if let Ok(Some(alternative)) = certificate.subject_alternative_name() {
        for name in &alternative.value.general_names {
            match name {
                GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => {
                    names.insert((*name).to_owned());
                }
                _ => {}
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, string::Ia5String};

    use super::*;

    #[test]
    fn all_names_are_read_and_rubbish_has_none() {
        let mut parameters = CertificateParams::new(vec!["billing.example".into()]).unwrap();
        parameters
            .distinguished_name
            .push(DnType::CommonName, "Billing Ü");
        parameters
            .distinguished_name
            .push(DnType::OrganizationName, "not a name");
        for name in ["spiffe://example/billing", "urn:billing"] {
            parameters
                .subject_alt_names
                .push(SanType::URI(Ia5String::try_from(name).unwrap()));
        }
        parameters
            .subject_alt_names
            .push(SanType::Rfc822Name(Ia5String::try_from("b@example").unwrap()));
        parameters
            .subject_alt_names
            .push(SanType::IpAddress([127, 0, 0, 1].into()));
        let certificate = parameters.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let expected = [
            "Billing Ü",
            "b@example",
            "billing.example",
            "spiffe://example/billing",
            "urn:billing",
        ];
        let found = names(certificate.der());
        assert!(found.iter().map(String::as_str).eq(expected), "{found:?}");

        let der = certificate.der();
        for rubbish in [&[][..], &[0], &der[..der.len() / 2]] {
            assert!(names(rubbish).is_empty());
        }
    }
}
