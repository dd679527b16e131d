-- Everything of fencegate's lives in the schema fencegate. It only creates: no existing table is locked.

create schema if not exists fencegate;

-- The epoch, and the history that it is bound to. One row.
create table fencegate.epoch (
    singleton     boolean primary key default true check (singleton),
    number        bigint not null check (number >= 1),
    lock_kind     text,
    lock_cluster  text,
    lock_instance uuid,
    bound_at      timestamptz,
    raised_at     timestamptz not null default clock_timestamp(),
    check (num_nulls(lock_kind, lock_cluster, lock_instance, bound_at) in (0, 4))
);

insert into fencegate.epoch (number) values (1);

-- The mark of each fence: the newest token that it was shown. Rows are never deleted, and only go up.
create table fencegate.fence (
    name      text collate "C" primary key check (octet_length(name) between 1 and 200),
    epoch     bigint not null check (epoch >= 1),
    sequence  bigint not null check (sequence >= 1),
    holder    bytea not null check (octet_length(holder) = 32),
    sealed_at timestamptz not null default clock_timestamp()
) with (fillfactor = 80);

create table fencegate.record (
    fence        text collate "C" not null,
    key          text collate "C" not null check (octet_length(key) between 1 and 1024),
    value        bytea not null,
    content_type text not null,
    version      bigint not null,
    -- The token that wrote it.
    epoch        bigint not null,
    sequence     bigint not null,
    updated_at   timestamptz not null default clock_timestamp(),
    primary key (fence, key)
) with (fillfactor = 90);

-- One counter for all versions: a record that is deleted and made again never repeats one.
create sequence fencegate.record_version;

-- The postgres lock service. A row is a fence's counter and never goes away.
create table fencegate.lock (
    name       text collate "C" primary key,
    sequence   bigint not null check (sequence >= 0),
    -- The live acquisition, if expires_at is to come.
    holder     bytea check (octet_length(holder) = 32),
    label      text not null default '',
    ttl        interval,
    expires_at timestamptz
) with (fillfactor = 80);

-- The identity of the postgres lock service in this database.
create table fencegate.lock_service (
    singleton boolean primary key default true check (singleton),
    instance uuid not null default gen_random_uuid()
);

insert into fencegate.lock_service default values;

-- The number of a fence's advisory lock. Two fences may share one: they then wait for each other, no more.
create function fencegate.lock_key(fence text) returns bigint
    language sql immutable strict parallel safe
    return hashtextextended(fence collate "C", 7411);

-- The rule, as in src/rule.rs. A mark that is null was never set.
create function fencegate.verdict(
    mark_epoch bigint, mark_sequence bigint, mark_holder bytea,
    epoch bigint, sequence bigint, holder bytea, confirmed boolean
) returns text
    language sql immutable parallel safe
    return case
        when (mark_epoch, mark_sequence) = (epoch, sequence)
            then case when mark_holder = holder then 'admit' else 'holder-mismatch' end
        when (mark_epoch, mark_sequence) > (epoch, sequence) then 'stale'
        when confirmed then 'seal'
        else 'unsealed'
    end;

-- Makes the commit of this transaction wait for the disk at least; never lowers what is set higher.
create function fencegate.make_durable() returns void
    language sql volatile
begin atomic
    select set_config('synchronous_commit', 'on', true)
    where current_setting('synchronous_commit') not in ('on', 'remote_apply');
end;

-- Takes a fence's advisory lock for this transaction, as sealing and retiring do: everybody who entered the
-- fence before has then ended. Whoever still holds it after the grace period is disconnected, if the
-- fence's mark is still below (below_epoch, below_sequence), or at it with or_equal: then its lease is
-- known to be dead. Answers false, without the lock, when the mark is not below.
create function fencegate.close_fence(
    fence text, below_epoch bigint, below_sequence bigint, or_equal boolean, grace interval
) returns boolean
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    key bigint := fencegate.lock_key(fence);
    blockers text[];
    blocker int;
begin
    begin
        perform set_config('lock_timeout', (extract(epoch from grace) * 1000)::bigint::text, true);
        perform pg_advisory_xact_lock(key);
        perform set_config('lock_timeout', '0', true);
        return true;
    exception when lock_not_available then
        null;
    end;

    -- First who blocks, then the mark: whoever blocked while the mark was below has a dead lease.
    select array_agg(l.pid || ' ' || l.virtualtransaction) into blockers
      from pg_locks l
     where l.locktype = 'advisory' and l.granted and l.pid <> pg_backend_pid()
       and l.database = (select oid from pg_database where datname = current_database())
       and (l.classid::bigint << 32 | l.objid::bigint) = key and l.objsubid = 1;

    perform 1 from fencegate.fence f
      where f.name = fence
        and ((f.epoch, f.sequence) > (below_epoch, below_sequence)
             or not or_equal and (f.epoch, f.sequence) = (below_epoch, below_sequence));
    if found then
        return false;
    end if;

    for blocker in
        select l.pid from pg_locks l
         where l.pid || ' ' || l.virtualtransaction = any (blockers)
           and l.locktype = 'advisory' and l.granted and l.objsubid = 1
           and (l.classid::bigint << 32 | l.objid::bigint) = key
    loop
        begin
            perform pg_terminate_backend(blocker);
        exception when insufficient_privilege then
            raise log 'fencegate: may not end session %, which holds fence "%": grant pg_signal_backend to the owner of schema fencegate',
                blocker, fence;
        end;
    end loop;

    perform set_config('lock_timeout', '10s', true);
    perform pg_advisory_xact_lock(key);
    perform set_config('lock_timeout', '0', true);
    return true;
end;
$$;

-- Raises a fence's mark to a token that was just granted. Answers with `sealed`, or with the mark that stands
-- against it, or, when the epoch has moved on, with neither.
create function fencegate.seal(
    fence text, token_epoch bigint, token_sequence bigint, token_holder bytea, grace interval default '500 ms',
    out sealed boolean, out mark_epoch bigint, out mark_sequence bigint, out current_epoch bigint
)
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'fencegate.seal needs a read committed transaction of its own'
            using errcode = 'invalid_transaction_state', hint = 'begin isolation level read committed';
    end if;
    perform fencegate.make_durable();

    -- Sealed already: asked again by the same holder, whose own transactions must not be ended.
    perform 1 from fencegate.fence f
      where f.name = fence
        and (f.epoch, f.sequence, f.holder) = (token_epoch, token_sequence, token_holder);
    sealed := found;
    if not sealed and fencegate.close_fence(fence, token_epoch, token_sequence, false, grace) then
        -- Held until the commit, so that no fence is made under an epoch that has just been left.
        select e.number into current_epoch from fencegate.epoch e for share;
        if current_epoch = token_epoch then
            insert into fencegate.fence as f (name, epoch, sequence, holder)
            values (fence, token_epoch, token_sequence, token_holder)
            on conflict (name) do update
                set epoch = excluded.epoch, sequence = excluded.sequence, holder = excluded.holder,
                    sealed_at = clock_timestamp()
                where (f.epoch, f.sequence) < (excluded.epoch, excluded.sequence)
                   or (f.epoch, f.sequence, f.holder) = (excluded.epoch, excluded.sequence, excluded.holder);
            sealed := found;
        end if;
    end if;

    select f.epoch, f.sequence into mark_epoch, mark_sequence from fencegate.fence f where f.name = fence;
    if current_epoch is null then
        select e.number into current_epoch from fencegate.epoch e;
    end if;
end;
$$;

-- Kills a token without a successor: the mark keeps its number and gets a holder that nobody knows. Answers
-- whether the token was the mark.
create function fencegate.retire(
    fence text, token_epoch bigint, token_sequence bigint, token_holder bytea, grace interval default '500 ms'
) returns boolean
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'fencegate.retire needs a read committed transaction of its own'
            using errcode = 'invalid_transaction_state', hint = 'begin isolation level read committed';
    end if;
    perform fencegate.make_durable();
    perform 1 from fencegate.fence f
      where f.name = fence
        and (f.epoch, f.sequence, f.holder) = (token_epoch, token_sequence, token_holder);
    if not found or not fencegate.close_fence(fence, token_epoch, token_sequence, true, grace) then
        return false;
    end if;
    update fencegate.fence f
       set holder = sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
     where f.name = fence
       and (f.epoch, f.sequence, f.holder) = (token_epoch, token_sequence, token_holder);
    return found;
end;
$$;

revoke execute on function
    fencegate.close_fence(text, bigint, bigint, boolean, interval),
    fencegate.seal(text, bigint, bigint, bytea, interval),
    fencegate.retire(text, bigint, bigint, bytea, interval)
from public;
