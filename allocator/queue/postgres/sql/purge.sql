-- purge.sql: delete dead letters for good.
-- Returns how many.
-- Invariant: with a dead letter go its record and its attempts; each is counted.
CREATE OR REPLACE FUNCTION allocator.purge(
    _schema integer, _queue integer, _client text, _call bigint, _now double precision, _ids text[]
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    _gone text[];
    _count integer;
BEGIN
    _now := coalesce(_now, extract(epoch FROM clock_timestamp()));
    IF NOT allocator.begin(_schema, _queue, _client, _call, _now) THEN
        RETURN (SELECT coalesce(reply[1], '0')::integer FROM allocator.clients WHERE id = _client);
    END IF;
    WITH gone AS (
        DELETE FROM allocator.dead WHERE queue_id = _queue AND id = ANY (_ids) RETURNING id
    )
    SELECT coalesce(array_agg(id), '{}') INTO _gone FROM gone;
    _count := cardinality(_gone);
    DELETE FROM allocator.jobs WHERE queue_id = _queue AND id = ANY (_gone);
    DELETE FROM allocator.attempts WHERE queue_id = _queue AND id = ANY (_gone);
    UPDATE allocator.clients SET purged = purged + _count, reply = ARRAY[_count] WHERE id = _client;
    RETURN _count;
END $$;
