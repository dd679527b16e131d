-- What the guard runs, reads and protects. It only replaces functions: no table is locked.

-- As in 0002, but it reads the one column that names the fence, and no other: the trigger of a protected table for rows, after
-- the row is written, when no other trigger can change it any more.
create or replace function fencegate.guard_row() returns trigger
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    is_report boolean := tg_argv[2] = 'report';
    can_name boolean;
    before text;
    after text;
begin
    if tg_argv[0] = 'fence' then
        perform fencegate.verify(tg_argv[1], tg_relid, is_report);
        return null;
    end if;
    -- A column of another type is not read, nor is the row as a whole: casts that others wrote would run, with the rights of
    -- fencegate's owner.
    can_name := exists (
        select from pg_attribute a
         where a.attrelid = tg_relid and a.attname = tg_argv[1] and a.attnum > 0 and not a.attisdropped
           and a.atttypid in ('text'::regtype, 'varchar'::regtype, 'uuid'::regtype, 'int2'::regtype,
                              'int4'::regtype, 'int8'::regtype));
    if tg_op = 'INSERT' then
        if can_name then
            execute format('select ($1).%I::text', tg_argv[1]) into after using new;
        end if;
        perform fencegate.verify(after, tg_relid, is_report);
    elsif tg_op = 'DELETE' then
        if can_name then
            execute format('select ($1).%I::text', tg_argv[1]) into before using old;
        end if;
        perform fencegate.verify(before, tg_relid, is_report);
    else
        if can_name then
            execute format('select ($1).%1$I::text, ($2).%1$I::text', tg_argv[1]) into before, after using old, new;
        end if;
        perform fencegate.verify(before, tg_relid, is_report);
        if after is distinct from before then
            perform fencegate.verify(after, tg_relid, is_report);
        end if;
    end if;
    return null;
end;
$$;

-- As in 0002, but it writes down a bounded number for each transaction: a rejection of a table in report mode, a row for each
-- fence, token and table, at most once a second. Waits for nobody.
create or replace function fencegate.report(
    reason text, fence text, presented text, mark text, sealed_at timestamptz, what text
) returns void
    language plpgsql volatile
as $$
declare
    -- What is no name of a fence can be long.
    shown text := left(coalesce(fence, ''), 200);
    key text := concat_ws(E'\t', reason, shown, presented, what);
    reported text := coalesce(current_setting('fencegate.reported', true), '');
begin
    -- Each of them takes a lock until the end of the transaction, of which a server has some thousands for all: a transaction
    -- that would be refused for very many fences is known by the first hundred or so.
    if length(reported) > 10000 or strpos(reported, E'\n' || key || E'\n') > 0
       or current_setting('transaction_read_only')::boolean then
        return;
    end if;
    perform set_config('fencegate.reported', reported || E'\n' || key || E'\n', true);
    if not pg_try_advisory_xact_lock(hashtextextended(key collate "C", 7412))
       or exists (select from fencegate.rejection r
                   where r.fence = shown and r.at > clock_timestamp() - interval '1 second'
                     and r.reason = report.reason and r.relation = report.what
                     and r.presented is not distinct from report.presented) then
        return;
    end if;
    insert into fencegate.rejection (fence, reason, presented, mark, late, source, who, relation)
    values (shown, reason, presented, mark, clock_timestamp() - sealed_at, 'report', session_user, what);
    if (select max(r.id) % 256 = 0 from fencegate.rejection r) then
        perform fencegate.prune_rejections();
    end if;
end;
$$;

-- As in 0006, but for holders alone.
create or replace function fencegate.try_enter(fence text, epoch bigint, sequence bigint, holder bytea) returns boolean
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    entered text;
    entry text;
begin
    -- Whoever has fewer bytes, or more, has not the secret of a lease: what stands for a client in the mark of a foreign token is
    -- the hash of a longer text, which everybody can make.
    if octet_length(holder) is distinct from 16 then
        raise exception 'the holder of a token has 16 bytes' using errcode = 'ZF005',
            hint = 'A token is epoch-sequence-holder, as 1-1042-<32 lower-case hex digits>.';
    end if;
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

-- As in 0002, but a table that inherits from another one is looked at by rows, since a statement about that one reaches them and
-- fires none of its triggers; and fencegate's own tables are none to protect.
create or replace function fencegate.protect(
    target regclass, fence text default null, fence_column name default null, mode text default 'enforce'
) returns void
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    kind "char";
    is_partition boolean;
    is_child boolean;
    owner oid;
    home oid;
    arguments text;
    part record;
begin
    select c.relkind, c.relispartition, c.relowner, c.relnamespace,
           exists (select from pg_inherits i where i.inhrelid = c.oid)
      into kind, is_partition, owner, home, is_child
      from pg_class c where c.oid = target;
    if kind is null or kind not in ('r', 'p') then
        raise exception '% cannot be protected: it is not a table', coalesce(target::text, 'null')
            using errcode = 'wrong_object_type', hint = 'For a view, protect the tables under it.';
    elsif home = 'fencegate'::regnamespace then
        raise exception '% is one of fencegate''s own tables', target
            using errcode = 'wrong_object_type', hint = 'They are guarded as they are. Protect tables of your own.';
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
    -- looked at once for each statement, and by rows only where there are no statements of its own: logical replication, and
    -- statements about a table that it inherits from.
    execute format(
        'create or replace trigger fencegate_row after insert or update or delete on %s
           for each row execute function fencegate.guard_row(%s)', target, arguments);
    execute format(
        'alter table only %s enable %s trigger fencegate_row', target,
        case when fence is not null and kind = 'r' and not is_child then 'replica' else 'always' end);
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

-- As in 0002, but not for a partition, whose rows would go on being guarded.
create or replace function fencegate.unprotect(target regclass) returns void
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    part record;
begin
    if exists (select from pg_class c where c.oid = target and c.relispartition) then
        raise exception '% is a partition', target
            using errcode = 'wrong_object_type', hint = 'Unprotect the partitioned table, and with it all partitions.';
    end if;
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
