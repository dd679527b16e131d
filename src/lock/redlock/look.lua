-- Who the instance is, and whom it knows to be in the set.
-- KEYS: instance, members. Returns {instance or '', members or ''}.
return {redis.call('get', KEYS[1]) or '', redis.call('get', KEYS[2]) or ''}
