-- Which tables are protected, and how. It only replaces functions: no table is locked.

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
