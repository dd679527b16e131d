-- Who was refused. Never a holder. The oldest beyond 10,000 go.
create table rejection (
    id        integer primary key autoincrement,
    -- Milliseconds since 1970.
    at        integer not null,
    fence     text not null,
    reason    text not null,
    -- Both as epoch-sequence.
    presented text,
    mark      text,
    -- Milliseconds after the mark was sealed.
    late      integer,
    source    text not null,
    who       text not null,
    -- How often.
    count     integer not null check (count > 0)
) strict;

create index rejection_by_fence on rejection (fence, id);
