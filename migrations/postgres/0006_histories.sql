-- Histories that go back: which history of Postgres the marks are from, the quarantine when it is another one, and the
-- rebase that ends it. It only creates, apart from functions that it replaces: no table is locked.
--
-- A standby that is promoted, and a restore to a point in time, begin a new timeline; another cluster has another system
-- identifier. Marks that were acknowledged may then be missing, so old holders would pass. Sessions survive a promotion:
-- this is looked at where tokens are, and not where connections are made.
--
-- SQLSTATE ZF008: the store is quarantined.

create table fencegate.history (
    singleton         boolean primary key default true check (singleton),
    system_identifier bigint not null,
    -- The first eight digits of a file of the log.
    timeline          text not null check (timeline ~ '^[0-9A-F]{8}$'),
    -- The server that was last seen to have both: a server keeps its system identifier until it ends, and reading that
    -- takes longer than all else that a write looks at.
    started_at        timestamptz not null,
    -- Whether a standby that is promoted has every commit, as the operator declares.
    replication       text not null default 'asynchronous' check (replication in ('asynchronous', 'synchronous'))
);

insert into fencegate.history (system_identifier, timeline, started_at)
select (pg_control_system()).system_identifier, left(pg_walfile_name(pg_current_wal_lsn()), 8), pg_postmaster_start_time();

-- What was done to the histories, by whom, and why. Rows are only added.
create table fencegate.audit (
    id         bigint generated always as identity primary key,
    at         timestamptz not null default clock_timestamp(),
    who        text not null,
    action     text not null check (action in ('rebase', 'declare', 'accept')),
    reason     text not null,
    from_epoch bigint not null,
    to_epoch   bigint not null,
    -- What was left, and what is now: a history of Postgres, a lock service, a way of replication.
    was        text not null,
    became     text not null
);

-- Whether this server, on its present timeline, is what the history was last seen on.
create function fencegate.is_here(started_at timestamptz, timeline text) returns boolean
    language sql volatile parallel safe
    return case when pg_is_in_recovery() then false
                else started_at = pg_postmaster_start_time()
                     and timeline = left(pg_walfile_name(pg_current_wal_lsn()), 8) end;

-- A history, for people.
create function fencegate.describe_history(system_identifier bigint, timeline text) returns text
    language sql immutable parallel safe
    return 'timeline ' || timeline || ' of system ' || system_identifier;

-- Raises ZF008 if marks may have been lost, and otherwise answers whether the history's row is behind: another start of
-- the server, or a timeline that the declaration accepts.
create function fencegate.verify_history() returns boolean
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    history fencegate.history;
    system_identifier bigint;
    timeline text;
begin
    if pg_is_in_recovery() then
        raise exception 'this server is a standby: nothing can be written here'
            using errcode = 'operator_intervention', hint = 'Connect to the primary.';
    end if;
    select h.* into history from fencegate.history h;
    if history.started_at is null then
        raise exception 'the store does not know which history its marks are from'
            using errcode = 'ZF008', hint = 'Run fencegate rebase --reason TEXT, then acquire leases again.';
    elsif fencegate.is_here(history.started_at, history.timeline) then
        return false;
    end if;
    system_identifier := (pg_control_system()).system_identifier;
    timeline := left(pg_walfile_name(pg_current_wal_lsn()), 8);
    if system_identifier = history.system_identifier
       and (timeline = history.timeline
            or history.replication = 'synchronous' and timeline collate "C" > history.timeline) then
        return true;
    end if;
    raise exception 'the store is quarantined: its marks are from %, and this server is on %. % Marks may have been lost, and with them what keeps old holders out',
            fencegate.describe_history(history.system_identifier, history.timeline),
            fencegate.describe_history(system_identifier, timeline),
            case when system_identifier = history.system_identifier
                 then 'A standby was promoted, or a backup was restored.'
                 else 'The database was copied into another cluster.' end
        using errcode = 'ZF008',
              hint = 'Run fencegate rebase --reason TEXT, then acquire leases again. Where every commit had reached the '
                     'standby: fencegate declare --replication synchronous';
end;
$$;

-- The same, for whoever must not write. Cheap where nothing has changed.
create function fencegate.require_history() returns void
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from fencegate.history h where h.singleton and fencegate.is_here(h.started_at, h.timeline)) then
        perform fencegate.verify_history();
    end if;
end;
$$;

-- The same, and the row catches up. In a short transaction only, as the row stays locked until its end; nobody waits for
-- that.
create function fencegate.keep_history() returns void
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    history fencegate.history;
    present text;
begin
    if exists (select from fencegate.history h where h.singleton and fencegate.is_here(h.started_at, h.timeline))
       or not fencegate.verify_history() or current_setting('transaction_read_only')::boolean then
        return;
    end if;
    select h.* into history from fencegate.history h for update skip locked;
    -- Somebody else is at it, or has been meanwhile.
    if history.started_at is null or not fencegate.verify_history() then
        return;
    end if;
    present := left(pg_walfile_name(pg_current_wal_lsn()), 8);
    update fencegate.history h set started_at = pg_postmaster_start_time(), timeline = present;
    if present <> history.timeline then
        insert into fencegate.audit (who, action, reason, from_epoch, to_epoch, was, became)
        select session_user, 'accept', 'the replication is declared to be synchronous', e.number, e.number,
               fencegate.describe_history(history.system_identifier, history.timeline),
               fencegate.describe_history(history.system_identifier, present)
          from fencegate.epoch e;
    end if;
end;
$$;

-- The epoch and what it is bound to, or ZF008. What a grant begins with.
create function fencegate.current_epoch(
    out number bigint, out lock_kind text, out lock_cluster text, out lock_instance uuid
)
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform fencegate.require_history();
    select e.number, e.lock_kind, e.lock_cluster, e.lock_instance
      into current_epoch.number, current_epoch.lock_kind, current_epoch.lock_cluster, current_epoch.lock_instance
      from fencegate.epoch e;
end;
$$;

-- Raises the epoch, over every fence at once: all tokens from before are stale, the next grant binds the new epoch to its
-- lock service, and the history of Postgres is the present one. Does nothing, and answers with the epoch that is, when
-- that is no longer the `expected` one.
--
-- The new epoch is at least the milliseconds since 1970: epochs that a lost history had reached may be unknown here, and
-- none may ever come twice.
--
-- The epoch's row first, which seals share and hold until they commit, and only then the fences.
create function fencegate.rebase(
    reason text, who text, expected bigint default null,
    out from_epoch bigint, out to_epoch bigint, out fences bigint
)
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    history fencegate.history;
    service text;
    blocker int;
    nobody bytea := sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'fencegate.rebase needs a read committed transaction of its own'
            using errcode = 'invalid_transaction_state', hint = 'begin isolation level read committed';
    elsif coalesce(btrim(reason), '') = '' then
        raise exception 'a rebase needs a reason' using errcode = 'invalid_parameter_value';
    elsif pg_is_in_recovery() then
        raise exception 'this server is a standby: nothing can be written here'
            using errcode = 'operator_intervention', hint = 'Connect to the primary.';
    end if;
    perform fencegate.make_durable();
    select h.* into history from fencegate.history h for update;
    select e.number, e.lock_kind || coalesce(' cluster ' || nullif(e.lock_cluster, ''), '') || ' instance ' || e.lock_instance
      into from_epoch, service from fencegate.epoch e for update;
    if from_epoch <> expected then
        to_epoch := from_epoch;
        fences := 0;
        return;
    end if;
    begin
        perform set_config('lock_timeout', '2s', true);
        lock table fencegate.fence in exclusive mode;
    exception when lock_not_available then
        -- Guarded transactions above read committed, which hold rows. All leases are over with this.
        for blocker in
            select distinct l.pid from pg_locks l
             where l.locktype = 'relation' and l.relation = 'fencegate.fence'::regclass and l.granted
               and l.database = (select oid from pg_database where datname = current_database())
               and l.pid <> pg_backend_pid() and l.mode <> 'AccessShareLock'
        loop
            perform pg_terminate_backend(blocker);
        end loop;
        perform set_config('lock_timeout', '10s', true);
        lock table fencegate.fence in exclusive mode;
    end;
    perform set_config('lock_timeout', '0', true);

    to_epoch := greatest(from_epoch + 1, (extract(epoch from clock_timestamp()) * 1000)::bigint);
    update fencegate.fence f set epoch = to_epoch, sequence = 1, holder = nobody, sealed_at = clock_timestamp();
    get diagnostics fences = row_count;
    update fencegate.epoch e
       set number = to_epoch, lock_kind = null, lock_cluster = null, lock_instance = null, bound_at = null,
           raised_at = clock_timestamp();
    insert into fencegate.history as h (system_identifier, timeline, started_at)
    values ((pg_control_system()).system_identifier, left(pg_walfile_name(pg_current_wal_lsn()), 8),
            pg_postmaster_start_time())
    on conflict (singleton) do update
        set system_identifier = excluded.system_identifier, timeline = excluded.timeline,
            started_at = excluded.started_at;
    insert into fencegate.audit (who, action, reason, from_epoch, to_epoch, was, became)
    select rebase.who, 'rebase', rebase.reason, rebase.from_epoch, rebase.to_epoch,
           coalesce(fencegate.describe_history(history.system_identifier, history.timeline), 'no history')
               || ', ' || coalesce(service, 'no lock service'),
           fencegate.describe_history(h.system_identifier, h.timeline) || ', whichever lock service grants next'
      from fencegate.history h;
end;
$$;

-- Writes down whether a standby that is promoted has every commit. While it is so declared, a later timeline of the same
-- system is accepted. Not in a quarantine that would outlast it.
create function fencegate.declare_replication(replication text, reason text, who text) returns void
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    was text;
begin
    if replication is null or replication not in ('asynchronous', 'synchronous') then
        raise exception 'replication is asynchronous or synchronous, and not "%"', replication
            using errcode = 'invalid_parameter_value';
    end if;
    perform fencegate.make_durable();
    select h.replication into was from fencegate.history h for update;
    if replication = 'asynchronous' then
        -- What the declaration has accepted until now stays accepted.
        perform fencegate.keep_history();
    end if;
    update fencegate.history h set replication = declare_replication.replication;
    perform fencegate.keep_history();
    insert into fencegate.audit (who, action, reason, from_epoch, to_epoch, was, became)
    select declare_replication.who, 'declare', coalesce(declare_replication.reason, ''), e.number, e.number,
           coalesce(was, 'nothing') || ' replication', declare_replication.replication || ' replication'
      from fencegate.epoch e;
end;
$$;

-- As in 0005, and it looks at the history too, in the same breath. Lets this transaction write under a fence until it ends;
-- false if the token is not the mark.
--
-- The lock and the look are evaluated one after the other, and plpgsql gives each a snapshot of its own in a volatile
-- function. At read committed the lock alone holds the mark still. Elsewhere the snapshot may be older than the lock, and
-- the row's lock finds that out: it fails with a serialization failure (40001).
create or replace function fencegate.try_enter(fence text, epoch bigint, sequence bigint, holder bytea) returns boolean
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    entered text;
    entry text;
begin
    -- Never null, whatever the condition says: it is there to be evaluated.
    if pg_advisory_xact_lock_shared(hashtextextended(fence collate "C", 7411)) is null then
        return false;
    end if;
    if current_setting('transaction_isolation') = 'read committed' then
        perform from fencegate.fence f, fencegate.history h
          where f.name = try_enter.fence and f.epoch = try_enter.epoch and f.sequence = try_enter.sequence
            and f.holder = sha256(try_enter.holder) and h.singleton and fencegate.is_here(h.started_at, h.timeline);
    else
        perform from fencegate.fence f, fencegate.history h
          where f.name = try_enter.fence and f.epoch = try_enter.epoch and f.sequence = try_enter.sequence
            and f.holder = sha256(try_enter.holder) and h.singleton and fencegate.is_here(h.started_at, h.timeline)
          for share of f;
    end if;
    if not found then
        -- A history that is another one raises. Then again, as a rebase may have come between.
        perform fencegate.require_history();
        if current_setting('transaction_isolation') = 'read committed' then
            perform from fencegate.fence f
              where f.name = try_enter.fence and f.epoch = try_enter.epoch and f.sequence = try_enter.sequence
                and f.holder = sha256(try_enter.holder);
        else
            perform from fencegate.fence f
              where f.name = try_enter.fence and f.epoch = try_enter.epoch and f.sequence = try_enter.sequence
                and f.holder = sha256(try_enter.holder)
              for share;
        end if;
        if not found then
            return false;
        end if;
    end if;
    entered := current_setting('fencegate.entered', true);
    entry := E'\n' || fence || E'\t' || epoch || '-' || sequence || '-' || encode(holder, 'hex');
    if entered <> '' then
        -- The newest first: it is the one that is found.
        entry := entry || replace(entered, entry, '');
    end if;
    entry := set_config('fencegate.entered', entry, true);
    if current_setting('synchronous_commit') not in ('on', 'remote_apply') then
        entry := set_config('synchronous_commit', 'on', true);
    end if;
    -- Where nobody may end this session when its lease is dead, it must end by itself.
    if not pg_has_role('pg_signal_backend', 'usage') then
        perform fencegate.limit_idle_time();
    end if;
    return true;
end;
$$;

-- As in 0002, and a write under a history that is another one is refused.
create or replace function fencegate.verify(fence text, relation oid, report boolean) returns void
    language plpgsql volatile
as $$
declare
    entered text := current_setting('fencegate.entered', true);
    place int := strpos(entered, E'\n' || fence || E'\t');
    reason text := 'missing';
    -- What was shown, and the mark.
    epoch bigint;
    sequence bigint;
    holder bytea;
    mark_epoch bigint;
    mark_sequence bigint;
    mark_holder bytea;
    sealed_at timestamptz;
begin
    if fence is null then
        reason := 'no-fence';
    elsif place > 0 then
        select t.epoch, t.sequence, t.holder into epoch, sequence, holder
          from fencegate.read_token(split_part(substr(entered, place + length(fence) + 2), E'\n', 1)) t;
        if epoch is null then
            reason := 'malformed';
        else
            perform pg_advisory_xact_lock_shared(hashtextextended(fence collate "C", 7411));
            if current_setting('transaction_isolation') = 'read committed' then
                select f.epoch, f.sequence, f.holder, f.sealed_at into mark_epoch, mark_sequence, mark_holder, sealed_at
                  from fencegate.fence f where f.name = verify.fence;
            else
                select f.epoch, f.sequence, f.holder, f.sealed_at into mark_epoch, mark_sequence, mark_holder, sealed_at
                  from fencegate.fence f where f.name = verify.fence for share;
            end if;
            reason := fencegate.verdict(mark_epoch, mark_sequence, mark_holder, epoch, sequence, sha256(holder), false);
            if reason = 'admit' then
                -- The setting may have been written by hand, so it was not looked at when entering.
                if not report and not exists (
                    select from fencegate.history h where h.singleton and fencegate.is_here(h.started_at, h.timeline)
                ) then
                    perform fencegate.verify_history();
                end if;
                return;
            end if;
        end if;
    end if;
    if report then
        perform fencegate.report(reason, fence, epoch || '-' || sequence,
                                 mark_epoch || '-' || mark_sequence, sealed_at, relation::regclass::text);
    else
        perform fencegate.refuse(reason, fence, epoch || '-' || sequence,
                                 mark_epoch || '-' || mark_sequence, relation::regclass::text);
    end if;
end;
$$;

-- As in 0005, and it looks at the history too.
create or replace function fencegate.write_record(
    token_fence text, token_epoch bigint, token_sequence bigint, token_holder bytea,
    record_key text, content bytea, record_type text,
    out outcome text, out item int, out version bigint, out existed boolean,
    out mark_epoch bigint, out mark_sequence bigint, out mark_holder bytea, out fence text, out key text
)
    language plpgsql volatile
    set search_path = pg_catalog, pg_temp
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    setting text;
    here boolean;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'fencegate.write_record needs a read committed transaction'
            using errcode = 'invalid_transaction_state', hint = 'begin isolation level read committed';
    end if;
    if current_setting('synchronous_commit') not in ('on', 'remote_apply') then
        setting := set_config('synchronous_commit', 'on', true);
    end if;
    item := 1;

    -- Shared with all who write, and never waited for: behind a seal that waits, the write is tried again.
    if not pg_try_advisory_xact_lock_shared(hashtextextended(token_fence collate "C", 7411)) then
        outcome := 'busy';
        return;
    end if;

    -- A later statement than the lock, so that it sees what was committed before it.
    select f.epoch, f.sequence, f.holder, fencegate.is_here(h.started_at, h.timeline)
      into mark_epoch, mark_sequence, mark_holder, here
      from fencegate.fence f, fencegate.history h where f.name = token_fence and h.singleton;
    if here is not true then
        -- A history that is another one raises. Then again, as a rebase may have come between.
        perform fencegate.keep_history();
        select f.epoch, f.sequence, f.holder into mark_epoch, mark_sequence, mark_holder
          from fencegate.fence f where f.name = token_fence;
    end if;
    if (mark_epoch, mark_sequence, mark_holder) is distinct from (token_epoch, token_sequence, token_holder) then
        outcome := fencegate.verdict(
            mark_epoch, mark_sequence, mark_holder, token_epoch, token_sequence, token_holder, false);
        return;
    end if;

    item := null;
    insert into fencegate.record as r (fence, key, value, content_type, version, epoch, sequence)
    values (token_fence, record_key, content, record_type, nextval('fencegate.record_version'), token_epoch, token_sequence)
    on conflict (fence, key) do update
        set value = excluded.value, content_type = excluded.content_type,
            -- Drawn before the row was waited for, so another may have drawn and written since.
            version = case when excluded.version > r.version then excluded.version
                           else nextval('fencegate.record_version') end,
            epoch = excluded.epoch, sequence = excluded.sequence, updated_at = clock_timestamp()
    returning 'written', r.version, r.xmax <> 0, r.fence, r.key into outcome, version, existed, fence, key;
end;
$$;

-- As in 0005, and it looks at the history too.
create or replace function fencegate.write_records(
    fences text[], epochs bigint[], sequences bigint[], holders bytea[],
    tokens int[], keys text[], puts boolean[], contents bytea[], content_types text[],
    conditions smallint[], versions bigint[], plain boolean, extra int
) returns table (
    outcome text, item int, version bigint, existed boolean,
    mark_epoch bigint, mark_sequence bigint, mark_holder bytea, fence text, key text
)
    language plpgsql volatile
    set search_path = pg_catalog, pg_temp
    set plan_cache_mode = force_generic_plan
    set enable_hashjoin = off
    set enable_mergejoin = off
    set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    free boolean[];
    verdicts text[];
    current bigint[];
    writable boolean[];
    setting text;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'fencegate.write_records needs a read committed transaction'
            using errcode = 'invalid_transaction_state', hint = 'begin isolation level read committed';
    end if;
    if current_setting('synchronous_commit') not in ('on', 'remote_apply') then
        setting := set_config('synchronous_commit', 'on', true);
    end if;

    -- Shared with all who write, and never waited for: behind a seal that waits, the fence is passed over.
    free := array(
        select pg_try_advisory_xact_lock_shared(fencegate.lock_key(t.fence))
          from unnest(fences) with ordinality t(fence, n) order by t.n);

    -- Before the marks: a rebase that comes between is then seen.
    if not exists (select from fencegate.history h where h.singleton and fencegate.is_here(h.started_at, h.timeline)) then
        perform fencegate.keep_history();
    end if;

    -- A later statement than the locks, so that it sees what was committed before them.
    verdicts := array(
        select case when not free[t.n] then 'busy'
                    else fencegate.verdict(f.epoch, f.sequence, f.holder, t.epoch, t.sequence, t.holder, false) end
          from unnest(fences, epochs, sequences, holders) with ordinality t(fence, epoch, sequence, holder, n)
          left join fencegate.fence f on f.name = t.fence
         order by t.n);
    if exists (select from unnest(verdicts) v where v <> 'admit') then
        return query
            select verdicts[t.n], t.n::int, null::bigint, null::boolean, f.epoch, f.sequence, f.holder, null::text, null::text
              from unnest(fences) with ordinality t(fence, n)
              left join fencegate.fence f on f.name = t.fence
             where verdicts[t.n] <> 'admit';
    end if;
    if extra > 0 then
        return query
            select 'drawn', null::int, nextval('fencegate.record_version'), null::boolean,
                   null::bigint, null::bigint, null::bytea, null::text, null::text
              from generate_series(1, extra);
    end if;

    if not plain then
        -- Holds the rows, in their order.
        current := array(
            select r.version
              from unnest(tokens, keys) with ordinality w(token, key, n)
              left join lateral (
                  select r.version from fencegate.record r
                   where verdicts[w.token] = 'admit' and r.fence = fences[w.token] and r.key = w.key
                     for update) r on true
             order by w.n);
        writable := array(
            select case c.condition
                       when 0 then true
                       when 1 then current[c.n] is null
                       when 2 then current[c.n] is not null
                       else current[c.n] is not distinct from c.version end
              from unnest(conditions, versions) with ordinality c(condition, version, n)
             order by c.n);
        return query
            select 'condition', w.n::int, current[w.n], null::boolean, null::bigint, null::bigint, null::bytea, null::text, null::text
              from unnest(tokens) with ordinality w(token, n)
             where verdicts[w.token] = 'admit' and not writable[w.n];

        -- A record that was absent a moment ago may have been made since.
        return query
            with made as (
                insert into fencegate.record (fence, key, value, content_type, version, epoch, sequence)
                select fences[w.token], w.key, w.content, w.content_type, nextval('fencegate.record_version'),
                       epochs[w.token], sequences[w.token]
                  from unnest(tokens, keys, puts, contents, content_types, conditions)
                       with ordinality w(token, key, put, content, content_type, condition, n)
                 where verdicts[w.token] = 'admit' and writable[w.n] and w.put and w.condition = 1
                 order by w.n
                on conflict (fence, key) do nothing
                returning fence, key, version
            )
            select case when m.version is null then 'again' else 'written' end, w.n::int, m.version, false,
                   null::bigint, null::bigint, null::bytea, null::text, null::text
              from unnest(tokens, keys, puts, conditions) with ordinality w(token, key, put, condition, n)
              left join made m on m.fence = fences[w.token] and m.key = w.key
             where verdicts[w.token] = 'admit' and writable[w.n] and w.put and w.condition = 1;

        delete from fencegate.record r
         using unnest(tokens, keys, puts) with ordinality w(token, key, put, n)
         where verdicts[w.token] = 'admit' and writable[w.n] and not w.put
           and r.fence = fences[w.token] and r.key = w.key;
        return query
            select 'written', w.n::int, null::bigint, current[w.n] is not null,
                   null::bigint, null::bigint, null::bytea, null::text, null::text
              from unnest(tokens, puts) with ordinality w(token, put, n)
             where verdicts[w.token] = 'admit' and writable[w.n] and not w.put;
    end if;

    return query
        insert into fencegate.record as r (fence, key, value, content_type, version, epoch, sequence)
        select fences[w.token], w.key, w.content, w.content_type, nextval('fencegate.record_version'),
               epochs[w.token], sequences[w.token]
          from unnest(tokens, keys, puts, contents, content_types, conditions)
               with ordinality w(token, key, put, content, content_type, condition, n)
         where verdicts[w.token] = 'admit' and (plain or (writable[w.n] and w.put and w.condition <> 1))
         order by w.n
        on conflict (fence, key) do update
            set value = excluded.value, content_type = excluded.content_type,
                -- Drawn before the row was waited for, so another may have drawn and written since.
                version = case when excluded.version > r.version then excluded.version
                               else nextval('fencegate.record_version') end,
                epoch = excluded.epoch, sequence = excluded.sequence, updated_at = clock_timestamp()
        returning 'written', null::int, r.version, r.xmax <> 0, null::bigint, null::bigint, null::bytea,
                  r.fence, r.key;
end;
$$;

-- As in 0001, but nothing is sealed under a history that is another one. (Retiring goes on: it only ever ends what a token
-- may do.)
create or replace function fencegate.seal(
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
    perform fencegate.keep_history();

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

-- As in 0002, with what is new here.
create or replace function fencegate.grant_rights() returns void
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    role text;
begin
    for role in
        select r.rolname from pg_roles r
         where r.rolname in ('fencegate_writer', 'fencegate_sealer', 'fencegate_reader')
    loop
        execute format('grant usage on schema fencegate to %I', role);
        execute format('grant select (name, epoch, sequence, sealed_at) on fencegate.fence to %I', role);
        execute format('grant select on fencegate.epoch to %I', role);
        execute format('grant select on fencegate.history to %I', role);
        execute format('grant execute on function
            fencegate.current_fences(), fencegate.current_epoch(), fencegate.require_history() to %I', role);
        if role = 'fencegate_reader' then
            grant select on fencegate.rejection, fencegate.audit to fencegate_reader;
        else
            execute format('grant execute on function
                fencegate.record_rejections(text, text[], text[], text[], text[], text[], bigint[], bigint[]) to %I',
                role);
        end if;
        if role = 'fencegate_writer' then
            grant execute on function
                fencegate.enter(text, text), fencegate.enter_as(text, bigint, bigint, bytea),
                fencegate.try_enter(text, bigint, bigint, bytea),
                fencegate.protect(regclass, text, name, text), fencegate.unprotect(regclass)
            to fencegate_writer;
        elsif role = 'fencegate_sealer' then
            -- With what a lock service in this database needs.
            grant execute on function
                fencegate.seal(text, text, interval), fencegate.seal(text, bigint, bigint, bytea, interval),
                fencegate.retire(text, bigint, bigint, bytea, interval)
            to fencegate_sealer;
            grant select on fencegate.fence, fencegate.lock_service to fencegate_sealer;
            if to_regclass('fencegate.migration') is not null then
                grant select on fencegate.migration to fencegate_sealer;
            end if;
            grant update (lock_kind, lock_cluster, lock_instance, bound_at) on fencegate.epoch to fencegate_sealer;
            grant select, insert, update on fencegate.lock to fencegate_sealer;
        end if;
    end loop;
end;
$$;

revoke execute on function
    fencegate.verify_history(), fencegate.require_history(), fencegate.keep_history(), fencegate.current_epoch(),
    fencegate.rebase(text, text, bigint), fencegate.declare_replication(text, text, text)
from public;
select fencegate.grant_rights();
