-- extend.sql: move the expiry of leases to now plus _seconds, never backwards.
-- Goes in the order of the ids, as settle does, so that the two never wait for each other.
-- Returns a row for each lease that is still held: its index (from 1), expires_at, and whether the job was cancelled.
-- Invariant: a lease that has expired is not revived, whether it was reaped or not.
CREATE OR REPLACE FUNCTION allocator.extend(
    _schema integer, _queue integer, _client text, _call bigint, _now double precision,
    _seconds double precision, _ids text[], _tokens text[]
) RETURNS TABLE (index integer, expires_at double precision, cancelled boolean) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _is_new boolean;
    i integer;
BEGIN
    _now := coalesce(_now, date_part('epoch', clock_timestamp()));
    _is_new := allocator.begin(_schema, _queue, _client, _call, _now);
    FOR i IN SELECT s FROM generate_subscripts(_ids, 1) AS s ORDER BY _ids[s] COLLATE "C" LOOP
        IF _is_new THEN
            UPDATE allocator.leases l
                SET expires_at = greatest(l.expires_at, _now + _seconds),
                    expires_second = floor(greatest(l.expires_at, _now + _seconds))::bigint
                WHERE l.queue_id = _queue AND l.id = _ids[i] AND l.token = _tokens[i] AND l.expires_at > _now
                RETURNING l.expires_at, l.cancelled INTO expires_at, cancelled;
        ELSE
            -- What the first try left behind is its reply.
            SELECT l.expires_at, l.cancelled INTO expires_at, cancelled FROM allocator.leases l
                WHERE l.queue_id = _queue AND l.id = _ids[i] AND l.token = _tokens[i] AND l.expires_at > _now;
        END IF;
        IF FOUND THEN
            index := i;
            RETURN NEXT;
        END IF;
    END LOOP;
END $$;
