//! What requests of several calls have in their paths and their headers.

use utoipa::{
    IntoParams,
    openapi::{
        ObjectBuilder, Required, Type,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::Schema,
    },
};

use crate::name::{FenceName, RecordKey};

const TOKEN: &str = r"^([1-9][0-9]{0,18}-[1-9][0-9]{0,18}-[0-9a-f]{32}|[1-9][0-9]{0,18})$";

macro_rules! parameters {
    ($($(#[$what:meta])* $name:ident: [$($parameter:expr),*];)*) => {$(
        $(#[$what])*
        pub(in crate::gateway) struct $name;

        impl IntoParams for $name {
            fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                vec![$($parameter),*]
            }
        }
    )*};
}

parameters! {
    /// The fence in the path.
    Fence: [path("fence", FenceName::LONGEST, r"^[^/\x00-\x1f\x7f-\x9f]+$", "The fence: UTF-8 without slashes and control characters, of at most 200 bytes.")];
    /// The record in the path.
    Key: [path("key", RecordKey::LONGEST, r"^[^\x00-\x1f\x7f-\x9f]+$", "The record: UTF-8 without control characters, of at most 1,024 bytes. It may have slashes.")];
    /// The token, of a call that needs one.
    Token: [header("Fencing-Token", true, TOKEN, "The lease's token, or the bare sequence of a lock that was taken without fencegate. `X-Fencing-Token` is the same.")];
    /// The token, of a release that is not by force.
    TokenUnlessForced: [header("Fencing-Token", false, TOKEN, "The lease's token. Only with `force` there is none.")];
    /// The token, of a call that is fenced if there is one.
    AnyToken: [header("Fencing-Token", false, TOKEN, "With a token the answer is fenced: refused, if a newer holder has the fence.")];
    /// Under which condition to write.
    Conditions: [
        header("If-Match", false, r#"^(\*|"[0-9]+")$"#, "Only if the record is in this version, or with `*`, in any."),
        header("If-None-Match", false, r"^\*$", "With `*`: only if there is no record. Not together with `If-Match`.")
    ];
    /// Which version the reader has.
    Known: [header("If-None-Match", false, r#"^(\*|(W/)?"[0-9]+")$"#, "The version that is known already: 304 if it is still the one.")];
    /// So that a request happens once.
    IdempotencyKey: [header("Idempotency-Key", false, "^[ -~]{1,255}$", "The same request under the same key happens once, and is answered as the first time for a day. A key counts for one client, one method and one path.")];
    /// So that a listener goes on where it was.
    LastEventId: [header("Last-Event-ID", false, "^[0-9a-f]{8}-[0-9]{1,19}$", "The id of the last event: go on from there.")];
}

fn path(name: &str, longest: usize, pattern: &str, description: &str) -> Parameter {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(longest))
        .pattern(Some(pattern));
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(Schema::from(text.build())))
        .build()
}

fn header(name: &str, required: bool, pattern: &str, description: &str) -> Parameter {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern));
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(if required { Required::True } else { Required::False })
        .description(Some(description))
        .schema(Some(Schema::from(text.build())))
        .build()
}
