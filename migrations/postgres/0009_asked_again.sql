-- Seals and retirements that are asked again, and seals behind many. It only replaces functions: no table is locked.

-- Takes a fence's advisory lock for this transaction, as before: everybody who entered the fence before has then ended. Whoever
-- is in the way after the grace period, and still is 100 ms later, is disconnected, if the fence's mark is still below
-- (below_epoch, below_sequence), or at it with or_equal: then its lease is known to be dead. Answers false, without the lock,
-- when the mark is not below.
--
-- Between two rounds the lock is let go for a moment, and others get in: a gateway's batch, with writes of other fences, which
-- 100 ms let pass, or another transaction of the dead, whose turn is the next round.
create or replace function fencegate.close_fence(
    fence text, below_epoch bigint, below_sequence bigint, or_equal boolean, grace interval
) returns boolean
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    key bigint := fencegate.lock_key(fence);
    give_up timestamptz := clock_timestamp() + grace + interval '10 s';
    patience interval := grace;
    blockers text[];
    blocker int;
begin
    loop
        begin
            perform set_config('lock_timeout', (extract(epoch from patience) * 1000)::bigint::text, true);
            perform pg_advisory_xact_lock(key);
            perform set_config('lock_timeout', '0', true);
            return true;
        exception when lock_not_available then
            if clock_timestamp() > give_up then
                raise;
            end if;
        end;

        -- They were listed before this look at the mark: whoever blocked while the mark was below has a dead lease.
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

        select array_agg(l.pid || ' ' || l.virtualtransaction) into blockers
          from pg_locks l
         where l.locktype = 'advisory' and l.granted and l.pid <> pg_backend_pid()
           and l.database = (select oid from pg_database where datname = current_database())
           and (l.classid::bigint << 32 | l.objid::bigint) = key and l.objsubid = 1;
        patience := interval '100 ms';
    end loop;
end;
$$;

-- Makes the commit of this transaction wait, though it changes nothing, for the disk and the standbys: what it found may be
-- the work of another one, whose own wait for them was cut short.
create function fencegate.commit_after_what_was_seen() returns void
    language sql volatile
begin atomic
    select pg_logical_emit_message(true, 'fencegate', ''::text);
end;

-- As before, but "sealed already" is as durable as "sealed", and known too if it was sealed meanwhile.
create or replace function fencegate.seal(
    fence text, token_epoch bigint, token_sequence bigint, token_holder bytea, grace interval default '500 ms',
    out sealed boolean, out mark_epoch bigint, out mark_sequence bigint, out current_epoch bigint
)
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    mark_holder bytea;
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
    sealed := false;
    if not found and fencegate.close_fence(fence, token_epoch, token_sequence, false, grace) then
        -- Held until the commit, so that no fence is made under an epoch that has just been left.
        select e.number into current_epoch from fencegate.epoch e for share;
        if current_epoch = token_epoch then
            insert into fencegate.fence as f (name, epoch, sequence, holder)
            values (fence, token_epoch, token_sequence, token_holder)
            on conflict (name) do update
                set epoch = excluded.epoch, sequence = excluded.sequence, holder = excluded.holder,
                    sealed_at = clock_timestamp()
                where (f.epoch, f.sequence) < (excluded.epoch, excluded.sequence);
            sealed := found;
        end if;
    end if;

    select f.epoch, f.sequence, f.holder into mark_epoch, mark_sequence, mark_holder
      from fencegate.fence f where f.name = fence;
    if not sealed and (mark_epoch, mark_sequence, mark_holder) = (token_epoch, token_sequence, token_holder) then
        sealed := true;
        perform fencegate.commit_after_what_was_seen();
    end if;
    if current_epoch is null then
        select e.number into current_epoch from fencegate.epoch e;
    end if;
end;
$$;

-- As before, but "dead already" is as durable as "dead".
create or replace function fencegate.retire(
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
    if found and fencegate.close_fence(fence, token_epoch, token_sequence, true, grace) then
        update fencegate.fence f
           set holder = sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
         where f.name = fence
           and (f.epoch, f.sequence, f.holder) = (token_epoch, token_sequence, token_holder);
        if found then
            return true;
        end if;
    end if;
    perform fencegate.commit_after_what_was_seen();
    return false;
end;
$$;

revoke execute on function fencegate.commit_after_what_was_seen() from public;
