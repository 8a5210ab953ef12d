-- reap.sql: take back at most _limit expired leases; each is a failed attempt.
-- Returns the ids.
-- Invariant: a lease that has not expired stays; each one taken back gives its job a new place.
CREATE OR REPLACE FUNCTION allocator.reap(
    _schema integer, _queue integer, _client text, _call bigint, _now double precision, _notify boolean,
    _limit integer, _age double precision, _keep integer
) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    _ids text[];
BEGIN
    _now := coalesce(_now, date_part('epoch', clock_timestamp()));
    IF NOT allocator.begin(_schema, _queue, _client, _call, _now) THEN
        RETURN QUERY SELECT unnest(reply) FROM allocator.clients WHERE id = _client;
        RETURN;
    END IF;
    _ids := allocator.take_back(_queue, _client, _limit, _now, _age, _keep);
    IF cardinality(_ids) > 0 THEN
        UPDATE allocator.clients SET reply = _ids WHERE id = _client;
        IF _notify THEN
            PERFORM pg_notify('allocator_' || _queue, '');
        END IF;
    END IF;
    RETURN QUERY SELECT unnest(_ids);
END $$;
