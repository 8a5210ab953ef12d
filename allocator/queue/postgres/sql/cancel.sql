-- cancel.sql: a job that waits is forgotten at once, a leased one is marked.
-- Returns whether there was such a job.
-- Invariant: a cancelled id leaves jobs and its place together, and is remembered.
CREATE OR REPLACE FUNCTION allocator.cancel(
    _schema integer, _queue integer, _client text, _call bigint, _now double precision, _id text
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    _rank smallint;
    _sequence bigint;
    _found boolean := false;
BEGIN
    _now := coalesce(_now, date_part('epoch', clock_timestamp()));
    IF NOT allocator.begin(_schema, _queue, _client, _call, _now) THEN
        RETURN (SELECT reply IS NOT NULL FROM allocator.clients WHERE id = _client);
    END IF;
    -- Between two looks the job may have moved from one place to another, so look again as long as it is somewhere.
    FOR _try IN 1 .. 10 LOOP
        SELECT -priority, sequence INTO _rank, _sequence FROM allocator.jobs WHERE queue_id = _queue AND id = _id;
        EXIT WHEN NOT FOUND;
        DELETE FROM allocator.ready WHERE queue_id = _queue AND rank = _rank AND sequence = _sequence;
        IF NOT FOUND THEN
            DELETE FROM allocator.scheduled WHERE queue_id = _queue AND id = _id;
        END IF;
        _found := FOUND;
        IF _found THEN
            PERFORM allocator.make_cancelled(_queue, _client, _id, _now);
            EXIT;
        END IF;
        UPDATE allocator.leases SET cancelled = true WHERE queue_id = _queue AND id = _id;
        _found := FOUND;
        EXIT WHEN _found OR EXISTS (SELECT FROM allocator.dead WHERE queue_id = _queue AND id = _id);
    END LOOP;
    IF _found THEN
        UPDATE allocator.clients SET reply = '{found}' WHERE id = _client;
    END IF;
    RETURN _found;
END $$;
