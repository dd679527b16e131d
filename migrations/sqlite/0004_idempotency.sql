-- As migrations/postgres, for one file on one machine.

create table idempotency (
    -- The SHA-256 of client, method, path and key. Neither these nor a token are kept.
    scope       blob primary key check (length(scope) = 32),
    -- The SHA-256 of the request, without its token.
    fingerprint blob not null check (length(fingerprint) = 32),
    -- JSON, of each write: [the version that it left or null, whether there was a record before]. Null only within the
    -- transaction that writes.
    written     text,
    -- Milliseconds since 1970.
    expires_at  integer not null
) strict, without rowid;

create index idempotency_expires_at on idempotency (expires_at);
