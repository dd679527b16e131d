-- Writes that were asked for under a key, so that asking again gives the first answer. It only creates: no existing
-- table is locked.

create table fencegate.idempotency (
    -- The SHA-256 of client, method, path and key. Neither these nor a token are kept.
    scope       bytea primary key check (octet_length(scope) = 32),
    -- The SHA-256 of the request, without its token.
    fingerprint bytea not null check (octet_length(fingerprint) = 32),
    -- Of each write, the version that it left (null for none) and whether there was a record before. Null only within
    -- the transaction that writes.
    versions    bigint[],
    existed     boolean[],
    expires_at  timestamptz not null
);

create index idempotency_expires_at on fencegate.idempotency (expires_at);
