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
BEGIN
    _now := coalesce(_now, date_part('epoch', clock_timestamp()));
    IF _client IS NULL THEN
        PERFORM allocator.check_version(_schema);
        -- The figures of callers' transactions are kept by session of the server: no two wait for each other.
        _client := 'session-' || _queue || '-' || pg_backend_pid();
        INSERT INTO allocator.clients (id, queue_id, version, call, now_at) VALUES (_client, _queue, _schema, 0, _now)
            ON CONFLICT (id) DO UPDATE SET called_at = clock_timestamp(), reply = NULL;
    ELSIF NOT allocator.begin(_schema, _queue, _client, _call, _now) THEN
        RETURN QUERY SELECT 0, NULL::bytea, 0, c.now_at FROM allocator.clients c WHERE c.id = _client;
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
    RETURN QUERY SELECT * FROM allocator.accept(
        _queue, _client, _now, _ids, _priorities, _max_retries, _delays, _failed, _records);
END $$;

-- The same for one job, which most calls are about: without arrays it costs the server half as much.
-- Returns the stored record, null when the job is new; the failed attempts; the instant of acceptance.
CREATE OR REPLACE FUNCTION allocator.enqueue_one(
    _schema integer, _queue integer, _client text, _call bigint, _now double precision, _notify boolean,
    _id text, _priority smallint, _max_retries integer, _delay double precision, _failed integer, _record bytea,
    OUT record bytea, OUT failed_count integer, OUT enqueued_at double precision
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _sequence bigint;
    _any_cancelled boolean;
BEGIN
    _now := coalesce(_now, date_part('epoch', clock_timestamp()));
    enqueued_at := _now;
    -- As allocator.begin() does it; whatever is not the usual case is left to the functions for lists.
    UPDATE allocator.clients
        SET call = _call, now_at = _now, called_at = clock_timestamp(), reply = NULL, accepted = accepted + 1
        WHERE id = _client AND call < _call AND version <= _schema
        RETURNING EXISTS (SELECT FROM allocator.cancelled WHERE queue_id = _queue) INTO _any_cancelled;
    IF NOT FOUND THEN
        SELECT e.record, e.failed_count, e.enqueued_at INTO record, failed_count, enqueued_at
            FROM allocator.enqueue(_schema, _queue, _client, _call, _now, _notify, ARRAY[_id], ARRAY[_priority],
                ARRAY[_max_retries], ARRAY[_delay], ARRAY[_failed], ARRAY[_record]) AS e
            ORDER BY e.index DESC LIMIT 1;
        RETURN;
    END IF;
    IF _notify THEN
        PERFORM pg_notify('allocator_' || _queue, '');
    END IF;
    INSERT INTO allocator.jobs (queue_id, id, sequence, priority, max_retries, format, enqueued_at, record)
        VALUES (_queue, _id, nextval('allocator.blocks') << 10, _priority, _max_retries, 1, _now, _record)
        ON CONFLICT (queue_id, id) DO NOTHING RETURNING sequence INTO _sequence;
    IF NOT FOUND THEN
        UPDATE allocator.clients SET accepted = accepted - 1 WHERE id = _client;
        SELECT a.record, a.failed_count, coalesce(a.enqueued_at, _now) INTO record, failed_count, enqueued_at
            FROM (VALUES (1)) AS one LEFT JOIN allocator.accept(_queue, _client, _now, ARRAY[_id], ARRAY[_priority],
                ARRAY[_max_retries], ARRAY[_delay], ARRAY[_failed], ARRAY[_record]) AS a ON true;
    ELSIF _delay > 0 THEN
        INSERT INTO allocator.scheduled (queue_id, rank, sequence, id, due_at, failed_count)
            VALUES (_queue, -_priority, _sequence, _id, _now + _delay, _failed);
    ELSE
        INSERT INTO allocator.ready (queue_id, rank, sequence, id, due_at, failed_count)
            VALUES (_queue, -_priority, _sequence, _id, _now, _failed);
    END IF;
    IF _any_cancelled THEN
        DELETE FROM allocator.cancelled WHERE queue_id = _queue AND id = _id;
    END IF;
END $$;

-- Put jobs in their places. Returns the known ones, as enqueue does.
CREATE OR REPLACE FUNCTION allocator.accept(
    _queue integer, _client text, _now double precision, _ids text[], _priorities smallint[], _max_retries integer[],
    _delays double precision[], _failed integer[], _records bytea[]
) RETURNS TABLE (index integer, record bytea, failed_count integer, enqueued_at double precision) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _count integer := cardinality(_ids);
    _blocks bigint[];
    _inserted integer;
    _stored record;
    _is_new boolean[];
    _first integer;
    _id text;
BEGIN
    _blocks := ARRAY(SELECT nextval('allocator.blocks') << 10 FROM generate_series(0, (_count - 1) >> 10));
    BEGIN
        -- That an id is known is rare, and looking out for it costs a third of the time.
        INSERT INTO allocator.jobs (queue_id, id, sequence, priority, max_retries, format, enqueued_at, record)
            SELECT _queue, id, _blocks[1 + (i - 1 >> 10)] + (i - 1 & 1023), priority, max_retries, 1, _now, record
            FROM (SELECT generate_subscripts(_ids, 1) AS i, unnest(_ids) AS id, unnest(_priorities) AS priority,
                unnest(_max_retries) AS max_retries, unnest(_records) AS record) AS given;
        _inserted := _count;
    EXCEPTION WHEN unique_violation THEN
        INSERT INTO allocator.jobs (queue_id, id, sequence, priority, max_retries, format, enqueued_at, record)
            SELECT _queue, id, _blocks[1 + (i - 1 >> 10)] + (i - 1 & 1023), priority, max_retries, 1, _now, record
            FROM (SELECT generate_subscripts(_ids, 1) AS i, unnest(_ids) AS id, unnest(_priorities) AS priority,
                unnest(_max_retries) AS max_retries, unnest(_records) AS record) AS given
            ON CONFLICT (queue_id, id) DO NOTHING;
        GET DIAGNOSTICS _inserted = ROW_COUNT;
    END;

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
                _first := CASE WHEN _stored.sequence >= _blocks[1] THEN array_position(_ids, _ids[i]) ELSE i END;
                IF _first < i AND _is_new[_first] THEN
                    -- It came before in this very list, and has no place yet.
                    _stored.failed_count := coalesce(_failed[_first], 0);
                END IF;
                RETURN QUERY SELECT i, _stored.record, _stored.failed_count, _stored.enqueued_at;
            END IF;
        END LOOP;
        UPDATE allocator.clients SET reply = ARRAY(SELECT i FROM generate_series(1, _count) AS i WHERE NOT _is_new[i])
            WHERE id = _client;
    END IF;
    UPDATE allocator.clients SET accepted = accepted + _count - coalesce(cardinality(reply), 0) WHERE id = _client;

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
        FOREACH _id IN ARRAY _ids LOOP
            DELETE FROM allocator.cancelled WHERE queue_id = _queue AND id = _id;
        END LOOP;
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
