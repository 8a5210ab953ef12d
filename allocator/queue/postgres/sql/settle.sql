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
    _settled text[];
    _tried text[];
    _lost integer[] := '{}';
    _lease allocator.leases;
BEGIN
    _now := coalesce(_now, extract(epoch FROM clock_timestamp()));
    IF NOT allocator.begin(_schema, _queue, _client, _call, _now) THEN
        RETURN QUERY SELECT unnest(reply)::integer FROM allocator.clients WHERE id = _client;
        RETURN;
    END IF;
    IF _notify THEN
        PERFORM pg_notify('allocator_' || _queue, '');
    END IF;

    IF _acks > 0 THEN
        WITH gone AS (
            DELETE FROM allocator.leases l
                USING (SELECT unnest(_ids[1 : _acks]) AS id, unnest(_tokens[1 : _acks]) AS token) AS given
                WHERE l.queue_id = _queue AND l.id = given.id AND l.token = given.token AND l.expires_at > _now
                RETURNING l.id, l.token, l.attempt_count
        ), done AS (
            DELETE FROM allocator.jobs j USING gone WHERE j.queue_id = _queue AND j.id = gone.id
        )
        SELECT array_agg(token), array_agg(id) FILTER (WHERE attempt_count > 0) INTO _settled, _tried FROM gone;
        IF _tried IS NOT NULL THEN
            DELETE FROM allocator.attempts WHERE queue_id = _queue AND id = ANY (_tried);
        END IF;
        IF _settled IS NULL OR cardinality(_settled) < _acks THEN
            _lost := ARRAY(SELECT i FROM generate_series(1, _acks) AS i
                WHERE _settled IS NULL OR NOT _tokens[i] = ANY (_settled));
        END IF;
        UPDATE allocator.clients SET done = done + _acks - cardinality(_lost) WHERE id = _client;
    END IF;

    FOR i IN _acks + 1 .. cardinality(_ids) LOOP
        DELETE FROM allocator.leases
            WHERE queue_id = _queue AND id = _ids[i] AND token = _tokens[i] AND expires_at > _now
            RETURNING * INTO _lease;
        IF FOUND THEN
            PERFORM allocator.give_back(_lease, _client, _verbs[i - _acks], _delays[i - _acks], _errors[i - _acks],
                _tracebacks[i - _acks], _now, _age, _keep);
        ELSE
            _lost := _lost || i;
        END IF;
    END LOOP;

    IF cardinality(_lost) > 0 THEN
        UPDATE allocator.clients SET reply = _lost WHERE id = _client;
        RETURN QUERY SELECT unnest(_lost);
    END IF;
END $$;
