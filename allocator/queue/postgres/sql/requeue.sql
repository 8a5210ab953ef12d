-- requeue.sql: put dead letters back, with a new place and a fresh retry budget; the attempts stay with the job.
-- Returns how many.
-- Invariant: an id leaves dead and comes to ready in one transaction, under the place that jobs now has too.
CREATE OR REPLACE FUNCTION allocator.requeue(
    _schema integer, _queue integer, _client text, _call bigint, _now double precision, _notify boolean, _ids text[]
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    _letter allocator.dead;
    _id text;
    _rank smallint;
    _sequence bigint;
    _count integer := 0;
BEGIN
    _now := coalesce(_now, date_part('epoch', clock_timestamp()));
    IF NOT allocator.begin(_schema, _queue, _client, _call, _now) THEN
        RETURN (SELECT coalesce(reply[1], '0')::integer FROM allocator.clients WHERE id = _client);
    END IF;
    FOREACH _id IN ARRAY _ids LOOP
        DELETE FROM allocator.dead WHERE queue_id = _queue AND id = _id RETURNING * INTO _letter;
        CONTINUE WHEN NOT FOUND;
        _count := _count + 1;
        _sequence := nextval('allocator.blocks') << 10;
        UPDATE allocator.jobs SET sequence = _sequence WHERE queue_id = _queue AND id = _id
            RETURNING -priority INTO _rank;
        -- One without its record stays damaged; the next dequeue says so again.
        INSERT INTO allocator.ready (queue_id, rank, sequence, id, due_at, attempt_count, lost_lease)
            VALUES (_queue, coalesce(_rank, 0), _sequence, _id, _now, _letter.attempt_count, _letter.lost_lease);
    END LOOP;
    IF _count > 0 THEN
        UPDATE allocator.clients SET reply = ARRAY[_count] WHERE id = _client;
        IF _notify THEN
            PERFORM pg_notify('allocator_' || _queue, '');
        END IF;
    END IF;
    RETURN _count;
END $$;
