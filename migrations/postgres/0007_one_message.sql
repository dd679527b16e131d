-- `begin; select fencegate.enter(...); update ...; commit` sent as one message, as psql -c and libpq's PQexec send it. It
-- only creates and replaces functions: no table is locked.
--
-- A message's statements have one statement_timestamp(), and a transaction that the message begins has it as well. So
-- does a statement that is a transaction of its own, in which entering holds nothing. Only the message's text tells them apart.

-- Whether a message is one in which every statement but its first and last is inside the block that its first begins.
--
-- Only as far as that is certain without reading SQL. A message whose first word is begin begins a block: nothing else begins
-- so. From there on the block, and the fence with it, ends before the message does only by a statement that begins with one of
-- the words below, after a semicolon and white space, as there are no comments. Such words inside of literals, and anything
-- else that is meant differently, have it answer false: then the fence is not entered.
create function fencegate.begins_a_block(message text) returns boolean
    language sql immutable parallel safe
    return message collate "C" ~* '^\s*(begin|start\s+transaction)\M[^;]*;'
        and strpos(message, '--') = 0 and strpos(message, '/*') = 0
        and regexp_replace(message collate "C", ';\s*(commit|end)(\s+(work|transaction))?[\s;]*$', ';', 'i') collate "C"
            !~* ';\s*(commit|end|rollback|abort|savepoint|release|begin|start|prepare\s+transaction)\M';

-- As in 0002, and it sees where a message begins its own transaction. Lets this transaction write under a fence until it
-- ends, or raises. Give the token as a bind parameter: a literal ends up in logs.
create or replace function fencegate.enter(fence text, token text) returns void
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
        if strpos(context, E'\n') = 0 and not coalesce(fencegate.begins_a_block(current_query()), false) then
            if current_query() collate "C" ~* '^\s*(begin|start)\M' then
                raise exception 'fence "%" cannot be entered in this message, which may end the transaction half way', fence
                    using errcode = 'ZF006',
                          hint = 'Send begin by itself. What goes with it has no comment, no savepoint, and at most one commit, at its end.';
            end if;
            raise exception 'fence "%" cannot be entered outside a transaction: nothing would be held', fence
                using errcode = 'ZF006', hint = 'Send begin first, by itself or in front of this, or switch autocommit off.';
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

revoke execute on function fencegate.begins_a_block(text) from public;
