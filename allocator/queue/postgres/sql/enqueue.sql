-- enqueue.sql: accept all of the jobs, in this order; a job whose id is known is left as it is.
-- _client, _call  the session and the number of its call; without a client: within the caller's own transaction
-- _now            the instant on the queue's clock; null for the server's
-- _notify         wake the clients that wait
-- _ids .. _records  one element for each job; _delays in seconds
-- Returns a row with index 0 and the instant of acceptance; then for each known job its index (from 1), the stored
-- record, the failed attempts and the instant of its own acceptance.
-- Invariant: each new id is in jobs, and in ready or scheduled with the same place; all of them or none.
CREATE OR REPLACE FUNCTION allocator.enqueue(
    _schema integer, _queue integer, _client text, _call bigint, _now double precision, _notify boolean,
    _ids text[], _priorities smallint[], _max_retries integer[], _delays double precision[], _failed integer[],
    _records bytea[]
) RETURNS TABLE (index integer, record bytea, failed_count integer, enqueued_at double precision) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _count integer := cardinality(_ids);
    _blocks bigint[];
    _inserted integer;
    _stored record;
    _is_new boolean[];
BEGIN
    _now := coalesce(_now, extract(epoch FROM clock_timestamp()));
    IF _client IS NULL THEN
        PERFORM allocator.check_version(_schema);
    ELSIF NOT allocator.begin(_schema, _queue, _client, _call, _now) THEN
        RETURN QUERY SELECT 0, NULL::bytea, 0, now_at FROM allocator.clients WHERE id = _client;
        RETURN QUERY
            SELECT i::integer, s.record, s.failed_count, s.enqueued_at
            FROM allocator.clients c, unnest(c.reply) AS i, allocator.stored(_queue, _ids[i::integer]) AS s
            WHERE c.id = _client;
        RETURN;
    END IF;
    IF _notify THEN
        PERFORM pg_notify('allocator_' || _queue, '');
    END IF;
    RETURN QUERY SELECT 0, NULL::bytea, 0, _now;

    _blocks := ARRAY(SELECT nextval('allocator.blocks') << 10 FROM generate_series(0, (_count - 1) >> 10));
    INSERT INTO allocator.jobs (queue_id, id, sequence, priority, max_retries, format, enqueued_at, record)
        SELECT _queue, id, _blocks[1 + (i - 1 >> 10)] + (i - 1 & 1023), priority, max_retries, 1, _now, record
        FROM (SELECT generate_subscripts(_ids, 1) AS i, unnest(_ids) AS id, unnest(_priorities) AS priority,
            unnest(_max_retries) AS max_retries, unnest(_records) AS record) AS given
        ON CONFLICT (queue_id, id) DO NOTHING;
    GET DIAGNOSTICS _inserted = ROW_COUNT;

    IF _inserted < _count THEN
        -- Some are known. One that was known a moment ago may be done by now, and then it is new after all.
        FOR i IN 1 .. _count LOOP
            LOOP
                SELECT * INTO _stored FROM allocator.stored(_queue, _ids[i]);
                EXIT WHEN FOUND;
                INSERT INTO allocator.jobs (queue_id, id, sequence, priority, max_retries, format, enqueued_at, record)
                    VALUES (_queue, _ids[i], _blocks[1 + (i - 1 >> 10)] + (i - 1 & 1023), _priorities[i],
                        _max_retries[i], 1, _now, _records[i])
                    ON CONFLICT (queue_id, id) DO NOTHING;
            END LOOP;
            _is_new[i] := _stored.sequence = _blocks[1 + (i - 1 >> 10)] + (i - 1 & 1023);
            IF NOT _is_new[i] THEN
                RETURN QUERY SELECT i, _stored.record, _stored.failed_count, _stored.enqueued_at;
            END IF;
        END LOOP;
        UPDATE allocator.clients SET reply = ARRAY(SELECT i FROM generate_series(1, _count) AS i WHERE NOT _is_new[i])
            WHERE id = _client;
    END IF;

    IF _inserted = _count AND _delays IS NULL THEN
        INSERT INTO allocator.ready (queue_id, rank, sequence, id, due_at)
            SELECT _queue, -priority, _blocks[1 + (i - 1 >> 10)] + (i - 1 & 1023), id, _now
            FROM (SELECT generate_subscripts(_ids, 1) AS i, unnest(_ids) AS id,
                unnest(_priorities) AS priority) AS given;
    ELSE
        INSERT INTO allocator.ready (queue_id, rank, sequence, id, due_at, failed_count)
            SELECT _queue, -_priorities[i], _blocks[1 + (i - 1 >> 10)] + (i - 1 & 1023), _ids[i], _now,
                coalesce(_failed[i], 0)
            FROM generate_series(1, _count) AS i
            WHERE coalesce(_is_new[i], true) AND coalesce(_delays[i], 0) = 0;
        INSERT INTO allocator.scheduled (queue_id, rank, sequence, id, due_at, failed_count)
            SELECT _queue, -_priorities[i], _blocks[1 + (i - 1 >> 10)] + (i - 1 & 1023), _ids[i], _now + _delays[i],
                coalesce(_failed[i], 0)
            FROM generate_series(1, _count) AS i
            WHERE coalesce(_is_new[i], true) AND _delays[i] > 0;
    END IF;
    IF EXISTS (SELECT FROM allocator.cancelled WHERE queue_id = _queue) THEN
        DELETE FROM allocator.cancelled WHERE queue_id = _queue AND id = ANY (_ids);
    END IF;
END $$;

-- A known job as it stands.
CREATE OR REPLACE FUNCTION allocator.stored(_queue integer, _id text)
RETURNS TABLE (sequence bigint, record bytea, failed_count integer, enqueued_at double precision)
LANGUAGE sql STABLE AS $$
    SELECT j.sequence, j.record, coalesce(
            (SELECT r.failed_count FROM allocator.ready r
                WHERE r.queue_id = _queue AND r.rank = -j.priority AND r.sequence = j.sequence),
            (SELECT l.failed_count FROM allocator.leases l WHERE l.queue_id = _queue AND l.id = _id),
            (SELECT s.failed_count FROM allocator.scheduled s WHERE s.queue_id = _queue AND s.id = _id),
            (SELECT d.failed_count FROM allocator.dead d WHERE d.queue_id = _queue AND d.id = _id),
            0), j.enqueued_at
    FROM allocator.jobs j WHERE j.queue_id = _queue AND j.id = _id
$$;
