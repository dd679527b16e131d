-- What was done to the epoch, by whom, and why. Rows are only added.

create table audit (
    id         integer primary key autoincrement,
    -- Milliseconds since 1970.
    at         integer not null,
    who        text not null,
    action     text not null check (action = 'rebase'),
    reason     text not null,
    from_epoch integer not null,
    to_epoch   integer not null,
    was        text not null,
    became     text not null
) strict;
