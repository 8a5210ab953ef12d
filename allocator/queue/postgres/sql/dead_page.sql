-- dead_page.sql: at most _limit dead letters after a position, oldest first.
-- Returns id, position, dead_at, error, failed_count, attempt_count, record and enqueued_at (null when it is missing),
-- and the attempts as JSON: [[number, error, traceback, worker, leased_at, failed_at], ...].
CREATE OR REPLACE FUNCTION allocator.dead_page(_schema integer, _queue integer, _position bigint, _limit integer)
RETURNS TABLE (
    id text, "position" bigint, dead_at double precision, error text, failed_count integer, attempt_count integer,
    record bytea, enqueued_at double precision, attempts text
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM allocator.check_version(_schema);
    RETURN QUERY
        SELECT d.id, d.position, d.dead_at, d.error, d.failed_count, d.attempt_count, j.record, j.enqueued_at,
            (SELECT json_agg(json_build_array(a.number, a.error, a.traceback, a.worker, a.leased_at, a.failed_at)
                    ORDER BY a.ordinal)::text
                FROM allocator.attempts a WHERE a.queue_id = _queue AND a.id = d.id)
        FROM allocator.dead d LEFT JOIN LATERAL (
            SELECT * FROM allocator.jobs WHERE queue_id = _queue AND id = d.id OFFSET 0) AS j ON true
        WHERE -d.queue_id = -_queue AND d.position > _position
        ORDER BY d.position LIMIT _limit;
END $$;

-- The position of one of them; null when the job is not a dead letter.
CREATE OR REPLACE FUNCTION allocator.dead_position(_schema integer, _queue integer, _id text)
RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM allocator.check_version(_schema);
    RETURN (SELECT position FROM allocator.dead WHERE queue_id = _queue AND id = _id);
END $$;
