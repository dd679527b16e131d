-- Whoever ends the sessions in the way of a seal lets short transactions end by themselves. It only replaces a function: no table
-- is locked.
--
-- The lock is let go once, when its wait has run out and before it is looked who holds it. Writers get in between, among
-- them a gateway's batch, with writes of other fences: its session was ended, and those writes' outcome was unknown.

-- As before: takes a fence's advisory lock for this transaction, once everybody who entered the fence before has ended or was
-- disconnected; false, without the lock, when the mark is not below. Those who are disconnected have had it for 100 ms more.
create or replace function fencegate.close_fence(
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

    -- A batch of writes that came in between has others' writes in it, and is over in a moment.
    perform pg_sleep(0.1);

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
