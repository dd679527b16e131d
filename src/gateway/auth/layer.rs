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
    let client = match &gateway.config.authentication {
        None => Ok((gateway.anonymous.clone(), None)),
        Some(authentication) => {
            let tls = request.extensions().get::<Arc<TlsInfo>>();
            let client = authentication.client(request.headers(), tls.map(Arc::as_ref));
            client.map(|(client, standing)| (client, Some(standing)))
        }
    };
    let (client, standing) = match client {
        Ok(client) => client,
        Err(_) if is_open(&gateway, &request) => (Client::nobody(), None),
        Err(problem) => return problem.into_response(),
    };
    // So that nothing further in can let it out.
    request.headers_mut().remove(header::AUTHORIZATION);
    request.extensions_mut().insert(client.clone());
    if request.uri().path() == EVENTS {
        request
            .extensions_mut()
            .insert(standing.unwrap_or_else(Standing::forever));
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
