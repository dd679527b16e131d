//! A gateway that says to ask another one: a lease from ZooKeeper is renewed by the gateway that granted it.
//!
//! Only lease calls are sent on, and only as they are: to the same path, never from https to http, a few times at
//! most. The other gateway then sees the token and the credentials, as this one did.

use percent_encoding::percent_decode_str;
use reqwest::header;
use url::Url;

use super::ClientError;

/// How many gateways may send a call on, one after the other.
pub(super) const HOPS: usize = 3;

/// What the gateways of one operator have in common at the end of a path, whatever proxies put before it.
const PATHS: &str = "/v1/fences/";

/// Where a call that was sent to `from` is to be sent instead.
///
/// # Errors
/// [`ClientError::Redirect`] for where this client sends nothing.
pub(super) fn next(from: &Url, headers: &header::HeaderMap) -> Result<Url, ClientError> {
    let location = headers
        .get(header::LOCATION)
        .and_then(|value| from.join(value.to_str().ok()?).ok());
    let Some(mut to) = location else {
        return Err(refuse(from, "nowhere", "it names no URL"));
    };
    // What else a URL may have in it is not shown.
    let shown = gateway(&to);
    let why = if !matches!(to.scheme(), "http" | "https") {
        "that is no gateway"
    } else if from.scheme() == "https" && to.scheme() == "http" {
        "whoever is on the way could read the token; let that gateway advertise an https URL"
    } else if !to.username().is_empty() || to.password().is_some() {
        "it has a user in it"
    } else if call(from).is_none() || call(from) != call(&to) {
        "that is another call"
    } else {
        to.set_query(from.query());
        to.set_fragment(None);
        return Ok(to);
    };
    Err(refuse(from, &shown, why))
}

/// After the last hop.
pub(super) fn too_many(from: &Url) -> ClientError {
    refuse(
        from,
        "yet another",
        "each of them sends the call on; let every gateway advertise a URL at which clients reach that very one",
    )
}

/// A gateway's address, as errors show it.
pub(super) fn gateway(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn refuse(from: &Url, to: &str, why: &str) -> ClientError {
    ClientError::Redirect {
        gateway: gateway(from),
        location: to.to_owned(),
        detail: why.to_owned(),
    }
}

/// Which lease it is about, decoded; `None` if it is about something else.
fn call(url: &Url) -> Option<Vec<u8>> {
    let path = url.path();
    let fence = path[path.rfind(PATHS)? + PATHS.len()..].strip_suffix("/lease")?;
    (!fence.contains('/')).then(|| percent_decode_str(fence).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn go(from: &str, location: &str) -> Result<String, ClientError> {
        let headers = [(header::LOCATION, location.parse().unwrap())];
        next(&from.parse().unwrap(), &headers.into_iter().collect()).map(String::from)
    }

    #[test]
    fn goes_to_the_same_call_of_another_gateway() {
        for (from, location, to) in [
            (
                "http://a/v1/fences/a%3Ab/lease",
                "http://b:1/v1/fences/a:b/lease",
                "http://b:1/v1/fences/a:b/lease",
            ),
            (
                "http://a/v1/fences/f/lease",
                "https://b/behind/it/v1/fences/f/lease#x",
                "https://b/behind/it/v1/fences/f/lease",
            ),
            (
                "https://a/behind/it/v1/fences/f/lease?force=true",
                "https://b/v1/fences/%66/lease",
                "https://b/v1/fences/%66/lease?force=true",
            ),
            (
                "http://a/v1/fences/f/lease",
                "/v1/fences/f/lease",
                "http://a/v1/fences/f/lease",
            ),
        ] {
            assert_eq!(go(from, location).unwrap(), to, "{from} {location}");
        }
    }

    #[test]
    fn goes_nowhere_else() {
        let from = "https://a/v1/fences/f/lease";
        for (location, why) in [
            ("http://a/v1/fences/f/lease", "advertise an https URL"),
            ("ftp://b/v1/fences/f/lease", "no gateway"),
            ("https://u:hunter2@b/v1/fences/f/lease", "a user"),
            ("https://b/v1/fences/g/lease", "another call"),
            ("https://b/v1/fences/f/records/lease", "another call"),
            ("https://b/v1/fences/f/records/k/lease", "another call"),
            ("https://b/", "another call"),
            ("https://", "no URL"),
        ] {
            let error = go(from, location).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains(why) && text.contains("https://a"),
                "{location}: {text}"
            );
            assert!(!text.contains("hunter2"), "{text}");
            assert!(!error.is_outcome_unknown() && !error.is_lost() && !error.is_retryable());
        }
        for from in ["https://a/v1/fences/f/records/k", "https://a/v1/transactions"] {
            assert!(go(from, from).is_err(), "{from}");
        }
    }
}
