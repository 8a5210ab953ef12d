-- dequeue.sql: promote what is due, reap what has expired, then lease up to _limit jobs in queue order.
-- _format   newest format of a record that the client can read
-- _age, _keep   of dead letters: seconds, and how many
-- Returns a row for each lease, in queue order: id, record (null when it is missing), enqueued_at, failed_count, token,
-- due_at, leased_at, expires_at, lost_before. Without leases one row with id null, whose expires_at is the number of
-- seconds until the next due time or expiry (may be negative), null when there is none.
-- A job that has lost a lease before comes alone. Raises AL002, and takes nothing, when the next record is too new.
-- Invariant: rows move between ready, scheduled and leases within this one transaction; jobs stays as it is.
-- Version 1 gave no lost_before, and what a function returns cannot be replaced.
DROP FUNCTION IF EXISTS allocator.dequeue(
    integer, integer, text, bigint, double precision, integer, integer, double precision, text, double precision, integer);
CREATE FUNCTION allocator.dequeue(
    _schema integer, _queue integer, _client text, _call bigint, _now double precision, _format integer,
    _limit integer, _lease_s double precision, _worker text, _age double precision, _keep integer
) RETURNS TABLE (
    id text, record bytea, enqueued_at double precision, failed_count integer, token text, due_at double precision,
    leased_at double precision, expires_at double precision, lost_before boolean
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _prefix text := _client || '-' || _call || '-';
    _swept integer := 0;
    _reaped integer := 0;
    -- Another client is just sweeping what this one has seen: what it makes ready cannot be seen yet.
    _contended boolean := false;
    _taken integer := 0;
    _newer_id text;
    _newer_format smallint;
    _many integer := _limit;
    _rank smallint;
    _sequence bigint;
    _alone boolean;
    -- Beyond every place.
    _end_rank smallint := 32767;
    _end_sequence bigint := 9223372036854775807;
BEGIN
    _now := coalesce(_now, date_part('epoch', clock_timestamp()));
    IF NOT allocator.begin(_schema, _queue, _client, _call, _now) THEN
        -- The leases of the first try, as far as they still stand.
        RETURN QUERY
            SELECT l.id, j.record, j.enqueued_at, l.failed_count, l.token, l.due_at, l.leased_at, l.expires_at,
                l.lost_lease
            FROM allocator.leases l LEFT JOIN LATERAL (
                SELECT * FROM allocator.jobs WHERE queue_id = _queue AND id = l.id OFFSET 0) AS j ON true
            WHERE l.queue_id = _queue AND starts_with(l.token, _prefix)
            ORDER BY l.rank, l.sequence;
        IF NOT FOUND THEN
            RETURN QUERY SELECT NULL::text, NULL::bytea, NULL::float8, 0, NULL::text, NULL::float8, NULL::float8,
                0::float8, false;
        END IF;
        RETURN;
    END IF;

    IF EXISTS (SELECT FROM allocator.scheduled WHERE -queue_id = -_queue AND due_at <= _now) THEN
        WITH due AS (
            DELETE FROM allocator.scheduled WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM allocator.scheduled WHERE -queue_id = -_queue AND due_at <= _now
                ORDER BY due_at, rank, sequence LIMIT 100 FOR UPDATE SKIP LOCKED))
            RETURNING *
        )
        INSERT INTO allocator.ready (queue_id, rank, sequence, id, due_at, failed_count, attempt_count, lost_lease)
            SELECT queue_id, rank, sequence, id, due_at, failed_count, attempt_count, lost_lease FROM due;
        GET DIAGNOSTICS _swept = ROW_COUNT;
        _contended := _swept = 0;
    END IF;
    IF EXISTS (SELECT FROM allocator.leases
            WHERE -queue_id = -_queue AND expires_second <= floor(_now)::bigint AND expires_at <= _now) THEN
        _reaped := cardinality(allocator.take_back(_queue, _client, 100, _now, _age, _keep));
        _swept := _swept + _reaped;
        _contended := _contended OR _reaped = 0;
    END IF;

    IF NOT (SELECT paused FROM allocator.queues WHERE id = _queue) THEN
        -- What is locked here and not taken would be passed over by others: with a job that comes alone nothing else is
        -- locked, and of what stands before one nothing behind it.
        IF EXISTS (SELECT FROM allocator.ready WHERE queue_id = _queue AND lost_lease) THEN
            SELECT r.rank, r.sequence, r.lost_lease INTO _rank, _sequence, _alone FROM allocator.ready r
                WHERE r.queue_id = _queue ORDER BY r.rank, r.sequence LIMIT 1 FOR UPDATE SKIP LOCKED;
            IF _alone THEN
                _many := 1;
            ELSE
                SELECT r.rank, r.sequence INTO _rank, _sequence FROM allocator.ready r
                    WHERE r.queue_id = _queue AND r.lost_lease AND (r.rank, r.sequence) > (_rank, _sequence)
                    ORDER BY r.rank, r.sequence LIMIT 1;
                _end_rank := coalesce(_rank, _end_rank);
                _end_sequence := coalesce(_sequence, _end_sequence);
            END IF;
        END IF;
        RETURN QUERY
            WITH heads AS MATERIALIZED (
                SELECT r.ctid AS place, r.* FROM allocator.ready r
                WHERE r.queue_id = _queue AND (r.rank, r.sequence) < (_end_rank, _end_sequence)
                ORDER BY r.rank, r.sequence LIMIT _many FOR UPDATE SKIP LOCKED
            ), numbered AS (
                -- A job that came after this call had begun is due later than that: no lease is older than its job.
                SELECT h.*, j.record, j.enqueued_at, greatest(_now, h.due_at) AS leased_at, row_number() OVER w AS number,
                    count(*) FILTER (WHERE h.lost_lease) OVER w AS alone_count,
                    count(*) FILTER (WHERE j.format > _format) OVER w AS newer_count,
                    sum(octet_length(j.record)) OVER w - octet_length(j.record) AS bytes_before
                FROM heads h LEFT JOIN LATERAL (
                    SELECT * FROM allocator.jobs WHERE queue_id = _queue AND id = h.id OFFSET 0) AS j ON true
                WINDOW w AS (ORDER BY h.rank, h.sequence ROWS UNBOUNDED PRECEDING)
            ), chosen AS MATERIALIZED (
                -- Up to the first that must come alone, unless that is the very first; up to the first that is too new;
                -- up to 8 MiB of records.
                SELECT * FROM numbered
                WHERE newer_count = 0 AND (number = 1 OR alone_count = 0 AND coalesce(bytes_before, 0) < 8388608)
            ), gone AS (
                DELETE FROM allocator.ready WHERE ctid = ANY (ARRAY(SELECT place FROM chosen))
            ), leased AS (
                INSERT INTO allocator.leases (queue_id, id, token, rank, sequence, due_at, leased_at, expires_at,
                        expires_second, failed_count, attempt_count, lost_lease, worker)
                    SELECT _queue, c.id, _prefix || c.sequence, c.rank, c.sequence, c.due_at, c.leased_at,
                        c.leased_at + _lease_s, floor(c.leased_at + _lease_s)::bigint, c.failed_count, c.attempt_count, c.lost_lease, _worker
                    FROM chosen c
            )
            SELECT c.id, c.record, c.enqueued_at, c.failed_count, _prefix || c.sequence, c.due_at, c.leased_at,
                c.leased_at + _lease_s, c.lost_lease
            FROM chosen c ORDER BY c.number;
        GET DIAGNOSTICS _taken = ROW_COUNT;
        IF _taken = 0 THEN
            SELECT j.format, j.id INTO _newer_format, _newer_id
                FROM allocator.jobs j WHERE j.queue_id = _queue AND j.format > _format AND j.id = (
                    SELECT r.id FROM allocator.ready r WHERE r.queue_id = _queue ORDER BY r.rank, r.sequence LIMIT 1);
            IF FOUND THEN
                RAISE EXCEPTION '% %', _newer_format, _newer_id USING ERRCODE = 'AL002';
            END IF;
        END IF;
    END IF;

    IF _taken = 0 THEN
        IF _swept = 0 THEN
            -- Nothing but the call's number is written, and a server that crashed will not see a late repeat of it: the
            -- connection that it would come through is gone as well.
            PERFORM set_config('synchronous_commit', 'off', true);
        END IF;
        RETURN QUERY SELECT NULL::text, NULL::bytea, NULL::float8, 0, NULL::text, NULL::float8, NULL::float8,
            CASE WHEN _contended THEN 0.005 ELSE least(
                (SELECT s.due_at FROM allocator.scheduled s WHERE -s.queue_id = -_queue ORDER BY s.due_at LIMIT 1),
                (SELECT min(l.expires_at) FROM allocator.leases l WHERE -l.queue_id = -_queue AND l.expires_second = (
                    SELECT f.expires_second FROM allocator.leases f WHERE -f.queue_id = -_queue
                    ORDER BY f.expires_second LIMIT 1))) - _now END, false;
    END IF;
END $$;
