-- extend.sql: move the expiry of leases to now plus _seconds, never backwards.
-- Returns a row for each lease that is still held: its index (from 1), expires_at, and whether the job was cancelled.
-- Invariant: a lease that has expired is not revived, whether it was reaped or not.
CREATE OR REPLACE FUNCTION allocator.extend(
    _schema integer, _queue integer, _client text, _call bigint, _now double precision,
    _seconds double precision, _ids text[], _tokens text[]
) RETURNS TABLE (index integer, expires_at double precision, cancelled boolean) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    _now := coalesce(_now, extract(epoch FROM clock_timestamp()));
    IF NOT allocator.begin(_schema, _queue, _client, _call, _now) THEN
        -- What the first try left behind is its reply.
        RETURN QUERY
            SELECT given.i, l.expires_at, l.cancelled
            FROM (SELECT generate_subscripts(_ids, 1) AS i, unnest(_ids) AS id, unnest(_tokens) AS token) AS given
            JOIN allocator.leases l ON l.queue_id = _queue AND l.id = given.id AND l.token = given.token
            WHERE l.expires_at > _now;
        RETURN;
    END IF;
    RETURN QUERY
        UPDATE allocator.leases l
            SET expires_at = greatest(l.expires_at, _now + _seconds),
                expires_second = floor(greatest(l.expires_at, _now + _seconds))::bigint
            FROM (SELECT generate_subscripts(_ids, 1) AS i, unnest(_ids) AS id, unnest(_tokens) AS token) AS given
            WHERE l.queue_id = _queue AND l.id = given.id AND l.token = given.token AND l.expires_at > _now
            RETURNING given.i, l.expires_at, l.cancelled;
END $$;
