//! The layer around every route: who is it?

use std::sync::Arc;

use axum::{
    extract::{MatchedPath, Request, State},
    http::header,
    middleware::Next,
    response::{IntoResponse, Response},
};
use axum_server::tls::TlsInfo;

use super::{Client, Standing};
use crate::gateway::{
    Gateway,
    events::EVENTS,
    health::{LIVEZ, READYZ},
    metrics::METRICS,
};

/// Puts the [`Client`] into the request, and into the answer for the log; answers itself where there is none.
pub(in crate::gateway) async fn authenticate(
    State(gateway): State<Arc<Gateway>>,
    mut request: Request,
    next: Next,
) -> Response {
    let shown = gateway.config.authentication.as_ref().map(|authentication| {
        let tls = request.extensions().get::<Arc<TlsInfo>>();
        authentication.client(request.headers(), tls.map(Arc::as_ref))
    });
    // Only those who listen are answered for longer than it takes.
    let listens = request.uri().path() == EVENTS;
    let names = &gateway.own_names;
    let (client, standing) = match shown {
        None => {
            let own = names.host_is_own(&request);
            if let Err(problem) = own.and_then(|()| names.origin_is_own(&request)) {
                return problem.into_response();
            }
            (gateway.anonymous.clone(), listens.then(Standing::forever))
        }
        Some(Ok(shown)) => {
            // Browsers show certificates by themselves.
            if !request.headers().contains_key(header::AUTHORIZATION)
                && let Err(problem) = names.origin_is_own(&request)
            {
                return problem.into_response();
            }
            let standing = listens.then(|| shown.standing());
            (shown.believed.client, standing)
        }
        Some(Err(_)) if is_open(&gateway, &request) => (Client::nobody(), None),
        Some(Err(problem)) => return problem.into_response(),
    };
    // So that nothing further in can let it out.
    request.headers_mut().remove(header::AUTHORIZATION);
    request.extensions_mut().insert(client.clone());
    if let Some(standing) = standing {
        request.extensions_mut().insert(standing);
    }
    let mut answer = next.run(request).await;
    answer.extensions_mut().insert(client);
    answer
}

/// What is for everybody: whether the gateway is well, and what it is. There is nothing of fences in it.
fn is_open(gateway: &Gateway, request: &Request) -> bool {
    let route = request.extensions().get::<MatchedPath>();
    match route.map(MatchedPath::as_str) {
        Some(LIVEZ | READYZ | "/" | "/openapi.json") => true,
        Some(METRICS) => gateway.config.open_metrics,
        _ => false,
    }
}
