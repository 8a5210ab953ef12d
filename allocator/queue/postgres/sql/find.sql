-- find.sql: where jobs are.
-- Returns id and state of those that are known. A due job counts as ready although nobody has promoted it yet.
CREATE OR REPLACE FUNCTION allocator.find(
    _schema integer, _queue integer, _now double precision, _ids text[]
) RETURNS TABLE (id text, state text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM allocator.check_version(_schema);
    _now := coalesce(_now, date_part('epoch', clock_timestamp()));
    -- One statement, one snapshot: a job that moves meanwhile is seen in one place.
    RETURN QUERY
        SELECT known.id, known.state FROM (
            SELECT g.id, CASE
                WHEN EXISTS (SELECT FROM allocator.leases WHERE queue_id = _queue AND id = g.id OFFSET 0) THEN 'leased'
                WHEN EXISTS (SELECT FROM allocator.dead WHERE queue_id = _queue AND id = g.id OFFSET 0) THEN 'dead'
                WHEN EXISTS (SELECT FROM allocator.scheduled
                    WHERE queue_id = _queue AND id = g.id AND due_at > _now OFFSET 0) THEN 'scheduled'
                WHEN EXISTS (SELECT FROM allocator.jobs WHERE queue_id = _queue AND id = g.id OFFSET 0) THEN 'ready'
                WHEN EXISTS (SELECT FROM allocator.cancelled
                    WHERE queue_id = _queue AND id = g.id AND cancelled_at > _now - 86400 OFFSET 0) THEN 'cancelled'
                END AS state
            FROM unnest(_ids) AS g (id)
        ) AS known WHERE known.state IS NOT NULL;
END $$;
