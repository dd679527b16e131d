-- The processes that wait for a lock that another one has, so that those who hand it to each other there let it go.
create table lock_waiter (
    name       text not null,
    process    text not null,
    -- Milliseconds on the clock of the boot that `boot` names.
    expires_at integer not null,
    boot       text not null,
    primary key (name, process)
) strict, without rowid;
