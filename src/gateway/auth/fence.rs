//! The fence that a path names, for whoever has the right on it.

use axum::{extract::FromRequestParts, http::request::Parts};

use super::{Client, Right};
use crate::{
    gateway::{Problem, path::Fence},
    name::FenceName,
};

macro_rules! fences {
    ($($(#[$what:meta])* $extractor:ident: $right:ident;)*) => {$(
        $(#[$what])*
        pub(in crate::gateway) struct $extractor(pub(in crate::gateway) FenceName);

        impl<S: Sync> FromRequestParts<S> for $extractor {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
                let client = Client::from_request_parts(parts, state).await?;
                let Fence(fence) = Fence::from_request_parts(parts, state).await?;
                client.may(Right::$right, &fence)?;
                Ok(Self(fence))
            }
        }
    )*};
}

fences! {
    /// The fence that the path names, to a client that may lease it.
    ToLease: Lease;
    /// The fence that the path names, to a client that may write to it.
    ToWrite: Write;
    /// The fence that the path names, to a client that may read it.
    ToRead: Read;
}
