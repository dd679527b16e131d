//! What is answered on a spare place.

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, Version, header},
    middleware,
    middleware::Next,
    response::Response,
};
use axum_server::ConnectionShutdown;
use utoipa_axum::router::OpenApiRouter;

use crate::gateway::{Gateway, health, metrics};

/// What is answered when there are too many connections: probes, and nothing else.
pub(in crate::gateway) fn when_full() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new()
        .merge(health::routes())
        .merge(metrics::routes())
}

/// The routes, with the connection's end after the first request.
pub(in crate::gateway) fn for_one_request(routes: Router) -> Router {
    async fn end(request: Request, next: Next) -> Response {
        if let Some(connection) = request.extensions().get::<ConnectionShutdown>() {
            connection.graceful_shutdown();
        }
        // HTTP/2 has no such header, and says so in its own way.
        let says = request.version() < Version::HTTP_2;
        let mut answer = next.run(request).await;
        if says {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(header::CONNECTION, close);
        }
        answer
    }
    routes.layer(middleware::from_fn(end))
}
