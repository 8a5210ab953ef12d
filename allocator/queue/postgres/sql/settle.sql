-- settle.sql: ack, nack and release; each job as a whole or not at all.
-- _ids, _tokens   of the leases to ack, which come first, and then of the others
-- _verbs .. _tracebacks   one element for each of the others: retry, dead or release; the delay in seconds; the error
-- Returns the indexes, from 1 over acks and others together, of those whose lease is lost; nothing changed for them.
-- Invariant: a lease is deleted only by its own token and before it expires; with it goes the job (ack), or the job
-- gets a new place.
CREATE OR REPLACE FUNCTION allocator.settle(
    _schema integer, _queue integer, _client text, _call bigint, _now double precision, _notify boolean,
    _age double precision, _keep integer, _acks integer, _ids text[], _tokens text[],
    _verbs text[], _delays double precision[], _errors text[], _tracebacks text[]
) RETURNS SETOF integer LANGUAGE plpgsql AS $$
DECLARE
    _held integer[];
    _places tid[];
    _done text[];
    _tried text[];
    _lost integer[] := '{}';
    _lease allocator.leases;
    _id text;
    _index integer;
    _at integer;
BEGIN
    _now := coalesce(_now, date_part('epoch', clock_timestamp()));
    -- As allocator.begin() does it, and counts the acks, as if none were lost; that is the usual case.
    UPDATE allocator.clients
        SET call = _call, now_at = _now, called_at = clock_timestamp(), reply = NULL, done = done + _acks
        WHERE id = _client AND call < _call AND version <= _schema;
    IF FOUND THEN
        NULL;
    ELSIF allocator.begin(_schema, _queue, _client, _call, _now) THEN
        UPDATE allocator.clients SET done = done + _acks WHERE id = _client;
    ELSE
        RETURN QUERY SELECT unnest(reply)::integer FROM allocator.clients WHERE id = _client;
        RETURN;
    END IF;
    IF _notify THEN
        PERFORM pg_notify('allocator_' || _queue, '');
    END IF;

    -- First lock all leases, then change anything: see make_dead. By id, as extend does, so that the two never wait for
    -- each other. An extension under way is waited for.
    SELECT coalesce(array_agg(i ORDER BY i), '{}'), array_agg(place ORDER BY i) INTO _held, _places
        FROM (SELECT * FROM (
                SELECT generate_subscripts(_ids, 1) AS i, unnest(_ids) AS id, unnest(_tokens) AS token) AS unsorted
            ORDER BY id COLLATE "C") AS given,
        LATERAL (SELECT ctid AS place FROM allocator.leases l
            WHERE l.queue_id = _queue AND l.id = given.id AND l.token = given.token AND l.expires_at > _now
            OFFSET 0 FOR UPDATE) AS l;
    IF cardinality(_held) < cardinality(_ids) THEN
        _lost := ARRAY(SELECT generate_subscripts(_ids, 1) EXCEPT SELECT unnest(_held));
        UPDATE allocator.clients SET done = done - (SELECT count(*) FROM unnest(_lost) AS i WHERE i <= _acks)
            WHERE id = _client;
    END IF;

    IF _held[1] <= _acks THEN
        WITH gone AS (
            DELETE FROM allocator.leases WHERE ctid = ANY (ARRAY(
                SELECT place FROM (SELECT unnest(_held) AS i, unnest(_places) AS place) AS held WHERE i <= _acks))
            RETURNING id, attempt_count
        )
        SELECT array_agg(id), array_agg(id) FILTER (WHERE attempt_count > 0) INTO _done, _tried FROM gone;
        -- Nobody moves the row of a leased job, so its place may be looked up first.
        DELETE FROM allocator.jobs WHERE ctid = ANY (ARRAY(
            SELECT j.place FROM unnest(_done) AS done (id),
            LATERAL (SELECT ctid AS place FROM allocator.jobs WHERE queue_id = _queue AND id = done.id OFFSET 0) AS j));
        IF _tried IS NOT NULL THEN
            FOREACH _id IN ARRAY _tried LOOP
                DELETE FROM allocator.attempts WHERE queue_id = _queue AND id = _id;
            END LOOP;
        END IF;
    END IF;

    IF cardinality(_ids) > _acks THEN
        FOR _at IN 1 .. cardinality(_held) LOOP
            _index := _held[_at] - _acks;
            CONTINUE WHEN _index <= 0;
            DELETE FROM allocator.leases WHERE ctid = _places[_at] RETURNING * INTO _lease;
            PERFORM allocator.give_back(_lease, _client, _verbs[_index], _delays[_index], _errors[_index],
                _tracebacks[_index], _now, _age, _keep);
        END LOOP;
    END IF;

    IF cardinality(_lost) > 0 THEN
        UPDATE allocator.clients SET reply = _lost WHERE id = _client;
        RETURN QUERY SELECT unnest(_lost);
    END IF;
END $$;
