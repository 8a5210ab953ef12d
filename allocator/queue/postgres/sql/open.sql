-- open.sql: the id of a queue, which is made when it is new; and clear away clients that have been silent for long.
-- _schema: the client's schema version, here and in every function; AL001 is raised when the tables are newer.
-- Returns the id.
-- Invariant: the sums over queues and clients stay as they are; a client that still counts on its row is not touched.
CREATE OR REPLACE FUNCTION allocator.open(_schema integer, _name text) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    _queue integer;
    _accepted bigint;
    _done bigint;
    _cancelled bigint;
    _purged bigint;
BEGIN
    PERFORM allocator.check_version(_schema);
    SELECT id INTO _queue FROM allocator.queues WHERE name = _name;
    IF NOT FOUND THEN
        INSERT INTO allocator.queues (name) VALUES (_name) ON CONFLICT DO NOTHING;
        SELECT id INTO STRICT _queue FROM allocator.queues WHERE name = _name;
    END IF;
    IF (SELECT count(*) FROM allocator.clients WHERE queue_id = _queue) > 100 THEN
        WITH gone AS (
            DELETE FROM allocator.clients WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM allocator.clients
                WHERE queue_id = _queue AND called_at < clock_timestamp() - interval '10 minutes'
                LIMIT 1000 FOR UPDATE SKIP LOCKED))
            RETURNING accepted, done, cancelled, purged
        )
        SELECT sum(accepted), sum(done), sum(cancelled), sum(purged)
            INTO _accepted, _done, _cancelled, _purged FROM gone;
        IF _done IS NOT NULL THEN
            UPDATE allocator.queues
                SET accepted = accepted + _accepted, done = done + _done, cancelled = cancelled + _cancelled,
                    purged = purged + _purged
                WHERE id = _queue;
        END IF;
    END IF;
    RETURN _queue;
END $$;
