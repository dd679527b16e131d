#!/bin/sh
# Bills what is to be billed today. Started by `fencegate run`, which holds the fence meanwhile:
#
#     DATABASE_URL=postgres://... fencegate run --fence nightly-billing --wait 0s -- ./bill.sh
#
# It needs a table:  create table bill (day date primary key, host text not null);
set -eu

# The token goes with the connection, where nothing logs it: psql has no parameters before version 16.
export PGOPTIONS="-c fencegate.token=$FENCEGATE_TOKEN"
psql -X -q -o /dev/null -v ON_ERROR_STOP=1 \
    -v fence="$FENCEGATE_HELD_FENCE" -v host="$(uname -n)" "$DATABASE_URL" <<'SQL'
begin;
-- Refuses, and ends the script, if the lease was lost and another machine has the fence.
select fencegate.enter(:'fence', current_setting('fencegate.token'));
-- Once a day, also when two machines' clocks differ and one comes after the other has finished.
insert into bill (day, host) values (current_date, :'host') on conflict (day) do nothing;
commit;
SQL
