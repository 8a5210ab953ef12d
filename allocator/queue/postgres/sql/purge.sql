-- purge.sql: delete dead letters for good.
-- Returns how many.
-- Invariant: with a dead letter go its record and its attempts; each is counted.
CREATE OR REPLACE FUNCTION allocator.purge(
    _schema integer, _queue integer, _client text, _call bigint, _now double precision, _ids text[]
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    _id text;
    _count integer := 0;
BEGIN
    _now := coalesce(_now, date_part('epoch', clock_timestamp()));
    IF NOT allocator.begin(_schema, _queue, _client, _call, _now) THEN
        RETURN (SELECT coalesce(reply[1], '0')::integer FROM allocator.clients WHERE id = _client);
    END IF;
    FOREACH _id IN ARRAY _ids LOOP
        DELETE FROM allocator.dead WHERE queue_id = _queue AND id = _id;
        IF FOUND THEN
            PERFORM allocator.forget(_queue, _id);
            _count := _count + 1;
        END IF;
    END LOOP;
    UPDATE allocator.clients SET purged = purged + _count, reply = ARRAY[_count] WHERE id = _client;
    RETURN _count;
END $$;
