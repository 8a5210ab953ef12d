-- pause.sql: hold back jobs from every client, or end that.
-- Invariant: nothing but the mark on the queue changes.
CREATE OR REPLACE FUNCTION allocator.pause(
    _schema integer, _queue integer, _client text, _call bigint, _now double precision, _notify boolean, _paused boolean
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    _now := coalesce(_now, date_part('epoch', clock_timestamp()));
    IF allocator.begin(_schema, _queue, _client, _call, _now) THEN
        UPDATE allocator.queues SET paused = _paused WHERE id = _queue;
        IF _notify THEN
            PERFORM pg_notify('allocator_' || _queue, '');
        END IF;
    END IF;
END $$;
