-- The guard for programs in any language: entering fences, protecting tables, roles, rejections.
--
-- It only creates, apart from functions of fencegate's own that it replaces: no table is locked for long.
--
-- SQLSTATEs, of a class that the standard leaves to implementations:
--   ZF001 stale, ZF002 holder mismatch, ZF003 unsealed, ZF004 missing: the fence was not entered,
--   ZF005 malformed token or name, ZF006 not in a transaction, ZF007 cannot be told which fences it touches.

-- Who was refused. Never a holder. Bounded: see prune_rejections.
create table fencegate.rejection (
    id        bigint generated always as identity primary key,
    at        timestamptz not null default clock_timestamp(),
    -- Empty where a row names no fence.
    fence     text collate "C" not null,
    reason    text not null,
    -- Both as epoch-sequence.
    presented text,
    mark      text,
    -- How long after the mark was sealed.
    late      interval,
    -- guard: a program; gateway; report: a table that is protected in report mode.
    source    text not null check (source in ('guard', 'gateway', 'report')),
    who       text not null,
    relation  text,
    -- How often, in the second before.
    count     bigint not null default 1 check (count > 0)
);

create index rejection_by_fence on fencegate.rejection (fence, id);

-- Deletes the oldest rejections beyond `keep`, at most 5,000 at a time, and waits for nobody.
create function fencegate.prune_rejections(keep bigint default 10000) returns void
    language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
    delete from fencegate.rejection
     where id in (select r.id from fencegate.rejection r
                   where r.id <= (select max(newest.id) from fencegate.rejection newest) - keep
                   order by r.id limit 5000 for update skip locked);
end;

-- Writes down what a program has gathered: one entry in each array for a fence and a token.
create function fencegate.record_rejections(
    source text, who text[], fence text[], reason text[], presented text[], mark text[], age_ms bigint[], count bigint[]
) returns void
    language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
    insert into fencegate.rejection (source, at, who, fence, reason, presented, mark, late, count)
    select record_rejections.source, clock_timestamp() - r.age_ms * interval '1 ms', left(r.who, 200), left(r.fence, 200),
           left(r.reason, 40), left(r.presented, 40), left(r.mark, 40),
           clock_timestamp() - r.age_ms * interval '1 ms' - f.sealed_at, r.count
      from unnest(who, fence, reason, presented, mark, age_ms, count)
           as r (who, fence, reason, presented, mark, age_ms, count)
      left join fencegate.fence f on f.name = r.fence and f.epoch || '-' || f.sequence = r.mark;
    select fencegate.prune_rejections();
end;

-- Reads a token, or answers with nulls. As in src/token.rs: no sign, no leading zero, no space, 64 bits. (Not by
-- a regular expression: one with counted repetitions took 100 microseconds.)
create function fencegate.read_token(
    token text, out epoch bigint, out sequence bigint, out holder bytea
)
    language plpgsql immutable parallel safe
as $$
declare
    e text := split_part(token, '-', 1);
    s text := split_part(token, '-', 2);
    h text := split_part(token, '-', 3);
begin
    if length(token) = length(e) + length(s) + 34 and length(h) = 32 and translate(h, '0123456789abcdef', '') = ''
       and length(e) between 1 and 19 and length(s) between 1 and 19 and translate(e || s, '0123456789', '') = ''
       and left(e, 1) <> '0' and left(s, 1) <> '0'
       and greatest(lpad(e, 19, '0') collate "C", lpad(s, 19, '0')) <= '9223372036854775807' then
        epoch := e;
        sequence := s;
        holder := decode(h, 'hex');
    end if;
end;
$$;

-- Whether a text can be a fence's name. As in src/name.rs.
create function fencegate.is_fence_name(name text) returns boolean
    language sql immutable parallel safe
    return name is not null and octet_length(name) between 1 and 200
        and name not in ('.', '..') and name collate "C" !~ '[/\x01-\x1f\x7f]' and name !~ '[\u0080-\u009f]';

-- Raises the refusal of a token, or of a fence that was not entered. `what` is what was to be written.
create function fencegate.refuse(reason text, fence text, presented text, mark text, what text) returns void
    language plpgsql volatile
as $$
declare
    code text;
    said text := format('fence "%s": token %s is refused as %s', fence, presented, reason);
    hint text := 'Roll back, and acquire a lease.';
begin
    case reason
    when 'stale' then
        code := 'ZF001';
        said := format('%s: the mark is %s', said, mark);
        hint := 'A newer holder has the fence. Roll back, and acquire a lease again.';
    when 'holder-mismatch' then
        code := 'ZF002';
        said := format('%s: the mark is %s, of another holder', said, mark);
        hint := 'The token was released, or is not yours. Roll back, and acquire a lease again.';
    when 'unsealed' then
        code := 'ZF003';
        said := case when mark is null then said || ': the fence was never sealed'
                     else format('%s: the mark is %s, and no grant stands behind the token', said, mark) end;
    when 'malformed' then
        code := 'ZF005';
        said := format('fence "%s": what was entered is not a token', fence);
        hint := 'A token is epoch-sequence-holder, as the lease was answered with. Send it as a bind parameter.';
    when 'missing' then
        code := 'ZF004';
        said := format('fence "%s" was not entered in this transaction', fence);
        hint := 'Begin, select fencegate.enter(fence, token), outside any savepoint, then write.';
    when 'no-fence' then
        code := 'ZF004';
        said := 'the row names no fence';
        hint := 'Give the column that names the fence a value.';
    when 'truncate' then
        code := 'ZF007';
        said := 'truncate touches the rows of every fence, and cannot tell which those are';
        hint := 'Delete the rows of the fences that you entered.';
    end case;
    raise exception using errcode = code, message = coalesce('a write to ' || what || ' is refused: ', '') || said, hint = hint;
end;
$$;

-- The longest that this transaction may be idle: fencegate.idle_timeout_ms, 10 s unless set.
create function fencegate.limit_idle_time() returns void
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    limit_ms bigint := coalesce(nullif(current_setting('fencegate.idle_timeout_ms', true), ''), '10000');
begin
    if (select s.setting::bigint not between 1 and limit_ms from pg_settings s
         where s.name = 'idle_in_transaction_session_timeout') then
        perform set_config('idle_in_transaction_session_timeout', limit_ms::text, true);
    end if;
end;
$$;

-- Lets this transaction write under a fence until it ends; false if the token is not the mark. What every guarded
-- transaction calls, so it does no more than it must: half of its time is the lock and the look. The holder as its
-- 16 bytes.
--
-- The lock and the look are two statements, and plpgsql gives each a snapshot of its own in a volatile function. At
-- read committed the lock alone holds the mark still. Elsewhere the snapshot may be older than the lock, and the
-- row's lock finds that out: it fails with a serialization failure (40001).
--
-- The setting fencegate.entered has, for this transaction, the tokens that it entered with: for each a line feed, the
-- fence, a tab, the token. It is a note and not a proof: whoever relies on it verifies the token again, so writing
-- it by hand gives nothing that its writer did not have.
create function fencegate.try_enter(fence text, epoch bigint, sequence bigint, holder bytea) returns boolean
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    entered text;
    entry text;
begin
    perform pg_advisory_xact_lock_shared(hashtextextended(fence collate "C", 7411));
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
    entered := current_setting('fencegate.entered', true);
    entry := E'\n' || fence || E'\t' || epoch || '-' || sequence || '-' || encode(holder, 'hex');
    if entered <> '' then
        -- The newest first: it is the one that is found.
        entry := entry || replace(entered, entry, '');
    end if;
    perform set_config('fencegate.entered', entry, true);
    if current_setting('synchronous_commit') not in ('on', 'remote_apply') then
        perform set_config('synchronous_commit', 'on', true);
    end if;
    -- Where nobody may end this session when its lease is dead, it must end by itself.
    if not pg_has_role('pg_signal_backend', 'usage') then
        perform fencegate.limit_idle_time();
    end if;
    return true;
end;
$$;

-- The same, answering why not, with the mark.
create function fencegate.enter_as(
    fence text, epoch bigint, sequence bigint, holder bytea,
    out verdict text, out mark_epoch bigint, out mark_sequence bigint, out mark_holder bytea
)
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if fencegate.try_enter(fence, epoch, sequence, holder) then
        verdict := 'admit';
        mark_epoch := epoch;
        mark_sequence := sequence;
        mark_holder := sha256(holder);
    else
        -- A snapshot that is older than the mark is a conflict, and not a refusal.
        if current_setting('transaction_isolation') <> 'read committed' then
            perform from fencegate.fence f where f.name = enter_as.fence for share;
        end if;
        select f.epoch, f.sequence, f.holder into mark_epoch, mark_sequence, mark_holder
          from fencegate.fence f where f.name = enter_as.fence;
        verdict := fencegate.verdict(mark_epoch, mark_sequence, mark_holder, epoch, sequence, sha256(holder), false);
    end if;
end;
$$;

-- The fences that this transaction says it has entered, with the tokens' epoch-sequence.
create function fencegate.current_fences() returns table (fence text, token text)
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select distinct on (split_part(entry, E'\t', 1))
           split_part(entry, E'\t', 1), regexp_replace(split_part(entry, E'\t', 2), '-[^-]*$', '')
      from unnest(string_to_array(current_setting('fencegate.entered', true), E'\n'))
           with ordinality as e (entry, place)
     where entry <> ''
     order by split_part(entry, E'\t', 1), place;
end;

-- Lets this transaction write under a fence until it ends, or raises. Give the token as a bind parameter: a
-- literal ends up in logs.
create function fencegate.enter(fence text, token text) returns void
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    shown record;
    found record;
    context text;
begin
    if transaction_timestamp() = statement_timestamp() then
        -- Fine inside a function or a DO block that goes on to write; useless as a statement of its own.
        get diagnostics context = pg_context;
        if strpos(context, E'\n') = 0 then
            raise exception 'fence "%" cannot be entered outside a transaction: nothing would be held', fence
                using errcode = 'ZF006', hint = 'Send begin first, by itself, or switch autocommit off.';
        end if;
    end if;
    if not fencegate.is_fence_name(fence) then
        raise exception 'not the name of a fence: %', coalesce('"' || left(fence, 200) || '"', 'null')
            using errcode = 'ZF005',
                  hint = 'A name is 1 to 200 bytes without slashes and control characters, and not . or ..';
    end if;
    shown := fencegate.read_token(token);
    if shown.epoch is null then
        raise exception 'fence "%": the token cannot be read', fence
            using errcode = 'ZF005', detail = case
                when token is null then 'It is null.'
                when token = '' then 'It is empty.'
                when token ~ '^[0-9]+$' then 'It is a bare sequence.'
                else format('It has %s characters.', length(token)) end,
            hint = 'A token is epoch-sequence-holder, as 1-1042-<32 lower-case hex digits>.';
    end if;
    found := fencegate.enter_as(fence, shown.epoch, shown.sequence, shown.holder);
    if found.verdict <> 'admit' then
        perform fencegate.refuse(found.verdict, fence, shown.epoch || '-' || shown.sequence,
                                 found.mark_epoch || '-' || found.mark_sequence, null);
    end if;
end;
$$;

-- Raises a fence's mark to a token, for a sealer that has it as text; raises when the mark or the epoch stands
-- against it. In a short read committed transaction of its own.
create function fencegate.seal(fence text, token text, grace interval default '500 ms') returns void
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    shown record := fencegate.read_token(token);
    sealed record;
begin
    if shown.epoch is null or not fencegate.is_fence_name(fence) then
        raise exception 'the fence or the token cannot be read' using errcode = 'ZF005',
            hint = 'A name has 1 to 200 bytes and no slash, a token is epoch-sequence-<32 lower-case hex digits>.';
    end if;
    sealed := fencegate.seal(fence, shown.epoch, shown.sequence, sha256(shown.holder), grace);
    if sealed.sealed then
        return;
    elsif sealed.current_epoch <> shown.epoch and (sealed.mark_epoch is null or sealed.mark_epoch < shown.epoch) then
        raise exception 'fence "%": token %-% is not of the epoch, which is %',
                fence, shown.epoch, shown.sequence, sealed.current_epoch
            using errcode = 'ZF003', hint = 'Acquire a lease again.';
    end if;
    perform fencegate.refuse(
        case when (sealed.mark_epoch, sealed.mark_sequence) = (shown.epoch, shown.sequence)
             then 'holder-mismatch' else 'stale' end,
        fence, shown.epoch || '-' || shown.sequence, sealed.mark_epoch || '-' || sealed.mark_sequence, null);
end;
$$;

-- A rejection of a table in report mode: a row for each fence, token and table, at most once a second and once in a
-- transaction. Waits for nobody.
create function fencegate.report(
    reason text, fence text, presented text, mark text, sealed_at timestamptz, what text
) returns void
    language plpgsql volatile
as $$
declare
    key text := concat_ws(E'\t', reason, fence, presented, what);
    reported text := coalesce(current_setting('fencegate.reported', true), '');
begin
    if strpos(reported, E'\n' || key || E'\n') > 0 or current_setting('transaction_read_only')::boolean then
        return;
    end if;
    perform set_config('fencegate.reported', right(reported, 10000) || E'\n' || key || E'\n', true);
    if not pg_try_advisory_xact_lock(hashtextextended(key collate "C", 7412))
       or exists (select from fencegate.rejection r
                   where r.fence = coalesce(report.fence, '') and r.at > clock_timestamp() - interval '1 second'
                     and r.reason = report.reason and r.relation = report.what
                     and r.presented is not distinct from report.presented) then
        return;
    end if;
    insert into fencegate.rejection (fence, reason, presented, mark, late, source, who, relation)
    values (coalesce(fence, ''), reason, presented, mark, clock_timestamp() - sealed_at, 'report', session_user, what);
    if (select max(r.id) % 256 = 0 from fencegate.rejection r) then
        perform fencegate.prune_rejections();
    end if;
end;
$$;

-- Verifies, for a write to a protected table, that this transaction has entered a fence. It trusts nothing that the
-- session says: it takes the lock again, which costs nothing where it is held, and looks at the mark again, since
-- a savepoint that is rolled back gives the lock back.
create function fencegate.verify(fence text, relation oid, report boolean) returns void
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

-- The trigger of a protected table for whole statements. Arguments: `fence` or `fence_column`; which; the mode.
create function fencegate.guard_statement() returns trigger
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_argv[0] = 'fence' then
        perform fencegate.verify(tg_argv[1], tg_relid, tg_argv[2] = 'report');
    elsif tg_argv[2] = 'report' then
        perform fencegate.report('truncate', null, null, null, null, tg_relid::regclass::text);
    else
        perform fencegate.refuse('truncate', null, null, null, tg_relid::regclass::text);
    end if;
    return null;
end;
$$;

-- The trigger of a protected table for rows. After the row is written, when no other trigger can change it any more.
create function fencegate.guard_row() returns trigger
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    before text;
    after text;
begin
    if tg_argv[0] = 'fence' then
        perform fencegate.verify(tg_argv[1], tg_relid, tg_argv[2] = 'report');
        return null;
    end if;
    if tg_op <> 'INSERT' then
        before := to_jsonb(old) ->> tg_argv[1];
        perform fencegate.verify(before, tg_relid, tg_argv[2] = 'report');
    end if;
    if tg_op <> 'DELETE' then
        after := to_jsonb(new) ->> tg_argv[1];
        if tg_op = 'INSERT' or after is distinct from before then
            perform fencegate.verify(after, tg_relid, tg_argv[2] = 'report');
        end if;
    end if;
    return null;
end;
$$;

-- Refuses every write to a table in a transaction that has not entered the right fence: one fence for the table, or
-- the one that a column names in each row. In mode `report` the write passes, and is written down. Again, to change
-- any of it, or to reach tables that were attached by inheritance since. For the table's owner.
--
-- It locks the table against writers, briefly: set lock_timeout first on a busy one.
create function fencegate.protect(
    target regclass, fence text default null, fence_column name default null, mode text default 'enforce'
) returns void
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    kind "char";
    is_partition boolean;
    owner oid;
    arguments text;
    part record;
begin
    select c.relkind, c.relispartition, c.relowner into kind, is_partition, owner from pg_class c where c.oid = target;
    if kind is null or kind not in ('r', 'p') then
        raise exception '% cannot be protected: it is not a table', coalesce(target::text, 'null')
            using errcode = 'wrong_object_type', hint = 'For a view, protect the tables under it.';
    elsif is_partition then
        raise exception '% is a partition', target
            using errcode = 'wrong_object_type', hint = 'Protect the partitioned table, and with it all partitions.';
    elsif not pg_has_role(owner, 'usage') then
        raise exception 'only the owner of % may protect it', target using errcode = 'insufficient_privilege';
    elsif mode is null or mode not in ('enforce', 'report') then
        raise exception 'there is no mode "%"', mode
            using errcode = 'invalid_parameter_value', hint = 'The modes are enforce and report.';
    elsif num_nulls(fence, fence_column) <> 1 then
        raise exception 'a table is protected by one fence, or by one column'
            using errcode = 'invalid_parameter_value', hint = 'Give either fence => or fence_column =>.';
    elsif fence is not null and not fencegate.is_fence_name(fence) then
        raise exception 'not the name of a fence: "%"', left(fence, 200) using errcode = 'ZF005',
            hint = 'A name is 1 to 200 bytes without slashes and control characters, and not . or ..';
    elsif fence_column is not null and not exists (
        select from pg_attribute a where a.attrelid = target and a.attname = fence_column and a.attnum > 0
           and a.atttypid in ('text'::regtype, 'varchar'::regtype, 'uuid'::regtype, 'int2'::regtype,
                              'int4'::regtype, 'int8'::regtype)
    ) then
        raise exception '% has no column "%" that can name a fence', target, fence_column
            using errcode = 'undefined_column', hint = 'The column is text, varchar, uuid or an integer.';
    end if;
    arguments := case when fence is null then format('%L, %L, %L', 'fence_column', fence_column, mode)
                      else format('%L, %L, %L', 'fence', fence, mode) end;

    -- Rows: the trigger reaches partitions, those to come too. A table with one fence and no partitions is
    -- looked at once for each statement, and by rows only where there are no statements: logical replication.
    execute format(
        'create or replace trigger fencegate_row after insert or update or delete on %s
           for each row execute function fencegate.guard_row(%s)', target, arguments);
    execute format(
        'alter table only %s enable %s trigger fencegate_row', target,
        case when fence is not null and kind = 'r' then 'replica' else 'always' end);
    execute format(
        'create or replace trigger fencegate_statement before truncate%s on %s
           for each statement execute function fencegate.guard_statement(%s)',
        case when fence is null then '' else ' or insert or update or delete' end, target, arguments);
    execute format('alter table only %s enable always trigger fencegate_statement', target);

    if kind = 'p' then
        execute format('alter table %s enable always trigger fencegate_row', target);
        for part in select t.relid::regclass as name from pg_partition_tree(target) t where t.level > 0 loop
            execute format(
                'create or replace trigger fencegate_statement before truncate on %s
                   for each statement execute function fencegate.guard_statement(%s)', part.name, arguments);
            execute format('alter table only %s enable always trigger fencegate_statement', part.name);
        end loop;
    else
        for part in select i.inhrelid::regclass as name from pg_inherits i where i.inhparent = target loop
            perform fencegate.protect(part.name, fence, fence_column, mode);
        end loop;
    end if;
end;
$$;

-- Takes the protection off again, from partitions and inheriting tables too. For the table's owner.
create function fencegate.unprotect(target regclass) returns void
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    part record;
begin
    for part in
        with recursive tree (id) as (
            select target::oid union select i.inhrelid from pg_inherits i join tree on i.inhparent = tree.id)
        select t.tgrelid::regclass as name, t.tgname from tree join pg_trigger t on t.tgrelid = tree.id
         where t.tgparentid = 0
           and t.tgfoid in ('fencegate.guard_row()'::regprocedure, 'fencegate.guard_statement()'::regprocedure)
    loop
        execute format('drop trigger %I on %s', part.tgname, part.name);
    end loop;
end;
$$;

-- Gives the roles their rights. Whoever migrates may not be allowed to make roles: then somebody else makes them,
-- and this is called again.
create function fencegate.grant_rights() returns void
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
        execute format('grant execute on function fencegate.current_fences() to %I', role);
        if role = 'fencegate_reader' then
            grant select on fencegate.rejection to fencegate_reader;
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

-- Functions that only others of this schema call have no search_path of their own, which would cost more than what
-- they do: their callers' is fixed.

-- Roles belong to the whole cluster: another database may have made them, or be making them now.
do $$
declare
    role text;
begin
    foreach role in array array['fencegate_writer', 'fencegate_sealer', 'fencegate_reader'] loop
        if not exists (select from pg_roles r where r.rolname = role) then
            begin
                execute format('create role %I nologin', role);
            exception
                when duplicate_object or unique_violation then
                    null;
                when insufficient_privilege then
                    raise warning 'fencegate: % may not create the role %. Have it created, then: select fencegate.grant_rights()',
                        current_user, role;
            end;
        end if;
    end loop;
end;
$$;

revoke execute on all functions in schema fencegate from public;
-- Indexes, checks and triggers of others need these; they decide nothing by themselves.
grant execute on function
    fencegate.lock_key(text), fencegate.verdict(bigint, bigint, bytea, bigint, bigint, bytea, boolean),
    fencegate.make_durable(), fencegate.is_fence_name(text), fencegate.read_token(text),
    fencegate.guard_row(), fencegate.guard_statement()
to public;
select fencegate.grant_rights();
