//! An HTTP handler of your own, whose clients hold leases: it writes under the token that the request shows.
//!
//!     cargo run --example axum_handler -- postgres://postgres@localhost/postgres 127.0.0.1:3000
//!     curl -X POST -H "Fencing-Token: $TOKEN" http://127.0.0.1:3000/invoices/1/pay

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use fencegate::{FenceName, GuardError, Isolation, Retry, Token, guard, retry};
use sqlx::PgPool;

const FENCE: &str = "invoices:2026-11";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("give the URL of a Postgres database")?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".into());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    axum::serve(listener, router(PgPool::connect(&url).await?)).await?;
    Ok(())
}

/// The routes.
pub fn router(pool: PgPool) -> Router {
    Router::new()
        .route("/invoices/{id}/pay", post(pay))
        .with_state(pool)
}

async fn pay(
    State(pool): State<PgPool>,
    Path(id): Path<i32>,
    headers: HeaderMap,
) -> Result<StatusCode, (StatusCode, String)> {
    let token: Token = headers
        .get("Fencing-Token")
        .ok_or((
            StatusCode::PRECONDITION_REQUIRED,
            "send the lease's Fencing-Token".to_owned(),
        ))?
        .to_str()
        .unwrap_or_default()
        .parse()
        .map_err(|error: fencegate::TokenError| (StatusCode::BAD_REQUEST, error.to_string()))?;
    let fence: FenceName = FENCE.parse().expect("a constant");

    let paid = retry(&Retry::default(), || async {
        let mut transaction = guard::begin(&pool, &fence, &token, Isolation::Serializable).await?;
        let paid = sqlx::query("update invoice set paid_by = 'http' where id = $1 and paid_by is null")
            .bind(id)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        transaction.commit().await?;
        Ok::<_, GuardError>(paid)
    })
    .await;
    match paid {
        Ok(0) => Err((StatusCode::CONFLICT, "there is no such invoice to pay".into())),
        Ok(_) => Ok(StatusCode::NO_CONTENT),
        Err(error @ GuardError::Refused(_)) => Err((StatusCode::PRECONDITION_FAILED, error.to_string())),
        Err(error) => Err((StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
    }
}
