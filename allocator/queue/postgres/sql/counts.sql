-- counts.sql: jobs now ready, scheduled, leased and dead; done, cancelled and purged since the queue began.
-- A due job counts as ready although nobody has promoted it yet, an expired lease as leased until it is reaped.
CREATE OR REPLACE FUNCTION allocator.counts(_schema integer, _queue integer, _now double precision)
RETURNS TABLE (
    ready bigint, scheduled bigint, leased bigint, dead bigint, done bigint, cancelled bigint, purged bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM allocator.check_version(_schema);
    _now := coalesce(_now, date_part('epoch', clock_timestamp()));
    -- One statement, one snapshot: the figures of all clients and the rows are of the same instant.
    RETURN QUERY
        SELECT (w.waiting - s.later)::bigint, s.later, l.leased, d.dead, w.done::bigint, w.cancelled::bigint,
            w.purged::bigint
        FROM (SELECT count(*) AS later FROM allocator.scheduled WHERE -queue_id = -_queue AND due_at > _now) AS s,
            (SELECT count(*) AS leased FROM allocator.leases WHERE queue_id = _queue) AS l,
            (SELECT count(*) AS dead FROM allocator.dead WHERE queue_id = _queue) AS d,
            LATERAL (SELECT sum(accepted) - sum(done) - sum(cancelled) - sum(purged) - l.leased - d.dead AS waiting,
                    sum(done) AS done, sum(cancelled) AS cancelled, sum(purged) AS purged
                FROM (SELECT accepted, done, cancelled, purged FROM allocator.queues WHERE id = _queue
                    UNION ALL
                    SELECT accepted, done, cancelled, purged FROM allocator.clients WHERE queue_id = _queue) AS figures
            ) AS w;
END $$;
