-- Pays an invoice under a lease that somebody holds, with psql:
--
--     PGOPTIONS="-c fencegate.token=$FENCEGATE_TOKEN" \
--         psql -v ON_ERROR_STOP=1 -v fence=invoices:2026-11 -v invoice=7 -f pay.sql
--
-- psql cannot send parameters (before version 16). So the token goes with the connection, where nothing logs it.
begin;
select fencegate.enter(:'fence', current_setting('fencegate.token'));
update invoice set paid_by = 'psql' where id = :invoice;
commit;
