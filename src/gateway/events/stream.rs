//! `GET /v1/events`: server-sent events.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{FromRequestParts, State},
    http::{HeaderName, HeaderValue, header, request::Parts},
    response::{IntoResponse, Response, Sse, sse},
};
use futures::{StreamExt, stream};
use serde::Deserialize;
use tokio::{sync::broadcast::error::RecvError, time::Instant};
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Event, Listening, Place, What};
use crate::{
    gateway::{
        Gateway, Problem,
        auth::{Client, Right, Standing},
        openapi::{parameters, problems},
        query::Asking,
    },
    name::FenceName,
};

/// How often something is sent, so that both sides and all between them know that the connection lives.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a client that lost its connection waits before it comes back.
const RETRY: Duration = Duration::from_secs(2);
pub(in crate::gateway) const EVENTS: &str = "/v1/events";
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

pub(in crate::gateway) fn routes() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new().routes(routes!(listen))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// Only those of this fence.
    fence: Option<String>,
    /// Only those of fences whose names begin so.
    #[serde(default)]
    prefix: String,
    /// Only these, with commas between: granted, released, force-released, lost, written, refused.
    kinds: Option<String>,
}

/// Which events a listener wants, and may see.
struct Filter {
    client: Client,
    fence: Option<FenceName>,
    prefix: String,
    kinds: Vec<What>,
}

/// Ends when the gateway begins to stop, and when the client has to show anew who it is.
#[utoipa::path(
    get, path = "/v1/events", operation_id = "listen", tag = "watching",
    summary = "What happens, as it happens",
    description = "Server-sent events of what goes through this replica: `granted`, `released`, `force-released`, `lost`, \
                   `written`, `refused`, of the fences that the client may read. `missed` says that there were more, \
                   `draining` that the replica is stopping. They end when the client's credentials do, or were read anew: \
                   come back with `Last-Event-ID`.",
    params(Asked, parameters::LastEventId),
    responses((status = 200, description = "Events without end", body = String, content_type = "text/event-stream"),
              problems::Listen),
)]
async fn listen(
    State(gateway): State<Arc<Gateway>>,
    client: Client,
    standing: Standing,
    Asking(asked): Asking<Asked>,
    After(after): After,
) -> Result<Response, Problem> {
    let filter = Filter::read(client, asked)?;
    if gateway.draining.is_cancelled() {
        return Err(Problem::draining());
    }
    let most = gateway.config.max_listeners;
    let listening = gateway
        .witness
        .events()
        .listen(after.as_ref(), &filter.kinds, most);
    let listening = listening.ok_or_else(|| Problem::too_many_listening(most))?;
    let listener = Listener::new(listening, filter, gateway.draining.clone());
    let events = stream::unfold(listener, async |mut listener| {
        let event = listener.next().await?;
        Some((Ok::<_, Infallible>(event), listener))
    });
    let mut answer = Sse::new(events.take_until(Box::pin(standing.ended()))).into_response();
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies such as nginx hold answers back, unless told not to.
    headers.insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    Ok(answer)
}

impl Filter {
    fn read(client: Client, asked: Asked) -> Result<Self, Problem> {
        let fence = asked.fence.map(|fence| fence.parse()).transpose();
        let fence: Option<FenceName> = fence.map_err(|error| Problem::name_malformed(&error))?;
        // Nothing would ever come.
        if let Some(fence) = &fence {
            client.may(Right::Read, fence)?;
        }
        let kinds = match asked.kinds {
            None => What::ALL.to_vec(),
            Some(kinds) => kinds.split(',').map(what).collect::<Result<_, _>>()?,
        };
        Ok(Self {
            client,
            fence,
            prefix: asked.prefix,
            kinds,
        })
    }

    fn wants(&self, event: &Event) -> bool {
        self.kinds.contains(&event.what)
            && event.fence.as_str().starts_with(&self.prefix)
            && self.fence.as_ref().is_none_or(|fence| *fence == event.fence)
            && self.client.has(Right::Read, &event.fence)
    }
}

fn what(text: &str) -> Result<What, Problem> {
    let what = What::ALL.into_iter().find(|what| what.as_str() == text);
    what.ok_or_else(|| {
        let all: Vec<_> = What::ALL.iter().map(|what| what.as_str()).collect();
        Problem::query_malformed(format!(
            "kinds are some of {}, with commas between",
            all.join(",")
        ))
    })
}

/// Where the client is, if it has been here before.
struct After(Option<Place>);

impl<S: Sync> FromRequestParts<S> for After {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(LAST_EVENT_ID) else {
            return Ok(Self(None));
        };
        let text = value.to_str().unwrap_or_default();
        let place = Place::read(text);
        let unreadable =
            || Problem::header_malformed("Last-Event-ID is the id of the last event, as it was sent");
        Ok(Self(Some(place.ok_or_else(unreadable)?)))
    }
}

impl Place {
    fn read(text: &str) -> Option<Self> {
        let (run, number) = text.split_once('-')?;
        let hexadecimal = run.len() == 8 && run.bytes().all(|byte| byte.is_ascii_hexdigit());
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        let run = u32::from_str_radix(run, 16).ok().filter(|_| hexadecimal)?;
        let number = number.parse().ok().filter(|_| digits)?;
        Some(Self { run, number })
    }
}

/// One client.
struct Listener {
    filter: Filter,
    /// What is to be sent before all else.
    first: VecDeque<sse::Event>,
    past: VecDeque<Arc<Event>>,
    listening: Listening,
    /// The last event that was sent, or passed over.
    place: Place,
    draining: CancellationToken,
    ended: bool,
    beat: Instant,
}

impl Listener {
    fn new(mut listening: Listening, filter: Filter, draining: CancellationToken) -> Self {
        let place = listening.place.clone();
        let mut first = VecDeque::from([sse::Event::default().retry(RETRY).comment("listening")]);
        if listening.missed {
            first.push_back(missed(None));
        }
        // With an id at once, a client that never gets an event can still go on where it was.
        if listening.past.is_empty() {
            first.push_back(sse::Event::default().id(place.to_string()).comment("from here"));
        }
        Self {
            filter,
            first,
            past: std::mem::take(&mut listening.past).into(),
            listening,
            place,
            draining,
            ended: false,
            beat: Instant::now() + HEARTBEAT,
        }
    }

    async fn next(&mut self) -> Option<sse::Event> {
        if let Some(first) = self.first.pop_front() {
            return Some(first);
        }
        while let Some(event) = self.past.pop_front() {
            if self.filter.wants(&event) {
                return Some(self.send(&event));
            }
        }
        loop {
            let next = tokio::select! {
                biased;
                () = self.draining.cancelled() => return self.end(),
                next = tokio::time::timeout_at(self.beat, self.listening.live.recv()) => next,
            };
            match next {
                Ok(Ok(event)) => {
                    self.place.number = event.number;
                    if self.filter.wants(&event) {
                        return Some(self.send(&event));
                    }
                }
                Ok(Err(RecvError::Lagged(events))) => return Some(missed(Some(events))),
                Ok(Err(RecvError::Closed)) => return None,
                Err(_) => {
                    self.beat = Instant::now() + HEARTBEAT;
                    let event = sse::Event::default().id(self.place.to_string());
                    return Some(event.comment("still here"));
                }
            }
        }
    }

    fn send(&mut self, event: &Event) -> sse::Event {
        self.beat = Instant::now() + HEARTBEAT;
        let id = Place {
            run: self.place.run,
            number: event.number,
        };
        sse::Event::default()
            .id(id.to_string())
            .event(event.what.as_str())
            .data(&event.json)
    }

    /// Says so once, so that a client goes to another gateway before this one is gone.
    fn end(&mut self) -> Option<sse::Event> {
        if std::mem::replace(&mut self.ended, true) {
            return None;
        }
        Some(sse::Event::default().event("draining").data("{}"))
    }
}

/// Tells a client that there was more than it was sent. `events`: how many, of all fences, if that is known.
fn missed(events: Option<u64>) -> sse::Event {
    let events = events.map_or("null".to_owned(), |events| events.to_string());
    sse::Event::default()
        .event("missed")
        .data(format!("{{\"events\":{events}}}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        for (run, number) in [(0, 0), (7, 1), (u32::MAX, u64::MAX)] {
            let place = Place { run, number };
            assert_eq!(Place::read(&place.to_string()), Some(place));
        }
        for text in [
            "",
            "-",
            "7-1",
            "00000007-",
            "00000007-+1",
            "00000007--1",
            "0000000g-1",
            "+0000007-1",
            "00000007-18446744073709551616",
        ] {
            assert_eq!(Place::read(text), None, "{text}");
        }
    }
}
