-- Many fenced writes in one statement and one commit. It only creates a function: no table is locked.

-- Writes records, each under its own token, and answers for each on its own.
--
-- `fences`, `epochs`, `sequences`, `holders`: the tokens, each once.
-- `tokens` (an index into these), `keys`, `puts` (false: delete), `contents`, `content_types`: the records, each once,
-- in byte order of fence and key, so that two batches lock rows in the same order.
-- `conditions`: 0 none, 1 absent, 2 present, 3 in the version of `versions`. `plain` says that all are puts without
-- a condition. `extra`: how many versions to draw besides, for writes that were overtaken in their batch.
--
-- Answers, in `outcome`:
-- `written`: the record `item`, or that of `fence` and `key`, with its `version` (null after a delete) and whether it
--   `existed`;
-- `condition`: the record `item` is in `version`, or absent if that is null, and was not changed;
-- `again`: the record `item` was made by another transaction meanwhile, so try again;
-- `drawn`: one of the extra versions;
-- `busy`: somebody waits to seal the fence of token `item`, so try again;
-- `stale`, `holder-mismatch`, `unsealed`: token `item` is refused, with the mark.
--
-- Nobody is waited for but other batches. Joins are by index, however small the tables were when the plan was made.
create function fencegate.write_records(
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
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'fencegate.write_records needs a read committed transaction'
            using errcode = 'invalid_transaction_state', hint = 'begin isolation level read committed';
    end if;
    perform fencegate.make_durable();

    -- Shared with all who write, and never waited for: behind a seal that waits, the fence is passed over.
    free := array(
        select pg_try_advisory_xact_lock_shared(fencegate.lock_key(t.fence))
          from unnest(fences) with ordinality t(fence, n) order by t.n);

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

revoke execute on function fencegate.write_records(
    text[], bigint[], bigint[], bytea[], int[], text[], boolean[], bytea[], text[], smallint[], bigint[], boolean, int
) from public;
