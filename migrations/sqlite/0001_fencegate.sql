-- As migrations/postgres, for one file on one machine.

create table epoch (
    singleton     integer primary key check (singleton = 1),
    number        integer not null check (number >= 1),
    lock_kind     text,
    lock_cluster  text,
    lock_instance text
) strict;

insert into epoch (singleton, number) values (1, 1);

-- The mark of each fence: the newest token that it was shown. Rows are never deleted, and only go up.
create table fence (
    name      text primary key,
    epoch     integer not null check (epoch >= 1),
    sequence  integer not null check (sequence >= 1),
    holder    blob not null check (length(holder) = 32),
    -- Milliseconds since 1970, for people.
    sealed_at integer not null
) strict, without rowid;

create table record (
    fence        text not null,
    key          text not null,
    value        blob not null,
    content_type text not null,
    version      integer not null,
    -- The token that wrote it.
    epoch        integer not null,
    sequence     integer not null,
    updated_at   integer not null,
    primary key (fence, key)
) strict;

-- One counter for all versions: a record that is deleted and made again never repeats one.
create table record_version (
    singleton integer primary key check (singleton = 1),
    last integer not null
) strict;

insert into record_version values (1, 0);

-- The sqlite lock service. A row is a fence's counter and never goes away.
create table lock (
    name       text primary key,
    sequence   integer not null,
    -- The live acquisition, if it was made in this boot of the machine and expires_at is to come.
    holder     blob,
    label      text not null default '',
    ttl_ms     integer not null default 0,
    -- Milliseconds on the clock of the boot that `boot` names.
    expires_at integer not null default 0,
    boot       text not null default ''
) strict, without rowid;

-- The identity of the sqlite lock service in this file.
create table lock_service (
    singleton integer primary key check (singleton = 1),
    instance text not null
) strict;
