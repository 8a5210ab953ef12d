-- counts.sql: jobs now ready, scheduled, leased and dead; done, cancelled and purged since the queue began.
-- A due job counts as ready although nobody has promoted it yet, an expired lease as leased until it is reaped.
-- There is no counter that every transaction would have to wait for; the rows are counted.
CREATE OR REPLACE FUNCTION allocator.counts(_schema integer, _queue integer, _now double precision)
RETURNS TABLE (
    ready bigint, scheduled bigint, leased bigint, dead bigint, done bigint, cancelled bigint, purged bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM allocator.check_version(_schema);
    _now := coalesce(_now, extract(epoch FROM clock_timestamp()));
    RETURN QUERY
        SELECT (SELECT count(*) FROM allocator.ready r WHERE r.queue_id = _queue) + s.due, s.later,
            (SELECT count(*) FROM allocator.leases l WHERE l.queue_id = _queue),
            (SELECT count(*) FROM allocator.dead d WHERE d.queue_id = _queue),
            (q.done + c.done)::bigint, (q.cancelled + c.cancelled)::bigint, (q.purged + c.purged)::bigint
        FROM allocator.queues q,
            (SELECT count(*) FILTER (WHERE due_at <= _now) AS due, count(*) FILTER (WHERE due_at > _now) AS later
                FROM allocator.scheduled WHERE queue_id = _queue) AS s,
            (SELECT coalesce(sum(done), 0) AS done, coalesce(sum(cancelled), 0) AS cancelled,
                    coalesce(sum(purged), 0) AS purged
                FROM allocator.clients WHERE queue_id = _queue) AS c
        WHERE q.id = _queue;
END $$;
