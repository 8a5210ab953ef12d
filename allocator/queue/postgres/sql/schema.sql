-- schema.sql: the tables that all queues of a database share, and what more than one operation needs.
--
-- Where a job is:
--   jobs       every known job, cold: its record, inserted once, deleted when it is done, cancelled or purged
--   ready      may be leased now; in queue order by its key. Hot and narrow: rows only come and go
--   scheduled  waits for due_at
--   leased     has a row in leases: who may try it, until when
--   dead       was given up; position grows as jobs die
-- Beside them:
--   attempts   failed attempts of known jobs, the first and the last 20
--   cancelled  ids remembered for a day, so that find() can tell
--   clients    each session's last call and reply, and what it has counted; queues holds the sums of those long gone
--
-- How many jobs wait is what was accepted less what was done, cancelled, purged, is leased or dead: no million rows are
-- counted, and no row is changed by everybody.
--
-- Invariant of every function: before and after, each row of jobs has its id in exactly one of ready, scheduled, leases
-- and dead. A row of jobs keeps the place (priority, sequence) that the job has in ready or returns to.
--
-- Instants are seconds since the epoch. A function that is given no _now reads the server's clock. sequence is a block
-- from allocator.blocks times 1024 plus a place in the block, so that a list of a thousand draws one number. rank is
-- minus the priority. Keys are bytes, not words: "C" compares them fastest.
--
-- The planner knows these tables from moments when they were empty or full, and plans are kept. So that every plan goes
-- by the whole key at any time, nothing is joined in an order that the planner may choose (LATERAL ... OFFSET 0 looks up
-- one row for each), and a second index does not begin with queue_id as the primary key does, but with -queue_id.
CREATE SCHEMA IF NOT EXISTS allocator;

CREATE TABLE IF NOT EXISTS allocator.version (version integer NOT NULL);

CREATE TABLE IF NOT EXISTS allocator.queues (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    paused boolean NOT NULL DEFAULT false,
    position bigint NOT NULL DEFAULT 0,
    accepted bigint NOT NULL DEFAULT 0,
    done bigint NOT NULL DEFAULT 0,
    cancelled bigint NOT NULL DEFAULT 0,
    purged bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE SEQUENCE IF NOT EXISTS allocator.blocks;

CREATE TABLE IF NOT EXISTS allocator.jobs (
    sequence bigint NOT NULL,
    enqueued_at double precision NOT NULL,
    queue_id integer NOT NULL,
    max_retries integer NOT NULL,
    priority smallint NOT NULL,
    format smallint NOT NULL,
    id text COLLATE "C" NOT NULL,
    record bytea NOT NULL,
    PRIMARY KEY (queue_id, id)
);

CREATE TABLE IF NOT EXISTS allocator.ready (
    sequence bigint NOT NULL,
    due_at double precision NOT NULL,
    queue_id integer NOT NULL,
    failed_count integer NOT NULL DEFAULT 0,
    attempt_count integer NOT NULL DEFAULT 0,
    rank smallint NOT NULL,
    lost_lease boolean NOT NULL DEFAULT false,
    id text COLLATE "C" NOT NULL,
    PRIMARY KEY (queue_id, rank, sequence)
);

-- Those that come alone: few, and mostly none.
CREATE INDEX IF NOT EXISTS ready_alone ON allocator.ready (queue_id, rank, sequence) WHERE lost_lease;

CREATE TABLE IF NOT EXISTS allocator.scheduled (
    sequence bigint NOT NULL,
    due_at double precision NOT NULL,
    queue_id integer NOT NULL,
    failed_count integer NOT NULL DEFAULT 0,
    attempt_count integer NOT NULL DEFAULT 0,
    rank smallint NOT NULL,
    lost_lease boolean NOT NULL DEFAULT false,
    id text COLLATE "C" NOT NULL,
    PRIMARY KEY (queue_id, id)
);
-- With the place of each: of many that become due at one instant, those whose turn it is are found first.
CREATE INDEX IF NOT EXISTS scheduled_in_order ON allocator.scheduled ((-queue_id), due_at, rank, sequence);
-- Of version 1.
DROP INDEX IF EXISTS allocator.scheduled_due;

CREATE TABLE IF NOT EXISTS allocator.leases (
    sequence bigint NOT NULL,
    due_at double precision NOT NULL,
    leased_at double precision NOT NULL,
    expires_at double precision NOT NULL,
    -- expires_at in whole seconds, for the index: many equal keys pack well.
    expires_second bigint NOT NULL,
    queue_id integer NOT NULL,
    failed_count integer NOT NULL,
    attempt_count integer NOT NULL,
    rank smallint NOT NULL,
    lost_lease boolean NOT NULL,
    cancelled boolean NOT NULL DEFAULT false,
    id text COLLATE "C" NOT NULL,
    token text COLLATE "C" NOT NULL,
    worker text NOT NULL,
    PRIMARY KEY (queue_id, id)
);
CREATE INDEX IF NOT EXISTS leases_expire ON allocator.leases ((-queue_id), expires_second);

CREATE TABLE IF NOT EXISTS allocator.attempts (
    queue_id integer NOT NULL,
    ordinal integer NOT NULL,
    number integer NOT NULL,
    leased_at double precision NOT NULL,
    failed_at double precision NOT NULL,
    id text COLLATE "C" NOT NULL,
    worker text NOT NULL,
    error text NOT NULL,
    traceback text,
    PRIMARY KEY (queue_id, id, ordinal)
);

CREATE TABLE IF NOT EXISTS allocator.dead (
    position bigint NOT NULL,
    dead_at double precision NOT NULL,
    queue_id integer NOT NULL,
    failed_count integer NOT NULL,
    attempt_count integer NOT NULL,
    lost_lease boolean NOT NULL,
    id text COLLATE "C" NOT NULL,
    error text NOT NULL,
    PRIMARY KEY (queue_id, id)
);
CREATE UNIQUE INDEX IF NOT EXISTS dead_position ON allocator.dead ((-queue_id), position);

CREATE TABLE IF NOT EXISTS allocator.cancelled (
    queue_id integer NOT NULL,
    cancelled_at double precision NOT NULL,
    id text COLLATE "C" NOT NULL,
    PRIMARY KEY (queue_id, id)
);
CREATE INDEX IF NOT EXISTS cancelled_at ON allocator.cancelled ((-queue_id), cancelled_at);

CREATE TABLE IF NOT EXISTS allocator.clients (
    call bigint NOT NULL,
    -- When that call was made: on the queue's clock, and on the server's, by which rows are cleared away.
    now_at double precision NOT NULL,
    called_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    accepted bigint NOT NULL DEFAULT 0,
    done bigint NOT NULL DEFAULT 0,
    cancelled bigint NOT NULL DEFAULT 0,
    purged bigint NOT NULL DEFAULT 0,
    queue_id integer NOT NULL,
    -- A copy of allocator.version, so that a call finds in its own row that the tables have become newer.
    version integer NOT NULL,
    id text COLLATE "C" PRIMARY KEY,
    reply text[]
) WITH (fillfactor = 20);

CREATE OR REPLACE FUNCTION allocator.tell_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE allocator.clients SET version = NEW.version;
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS tell_version ON allocator.version;
CREATE TRIGGER tell_version AFTER INSERT OR UPDATE ON allocator.version
    FOR EACH ROW EXECUTE FUNCTION allocator.tell_version();

-- Vacuum early and at full speed what changes all the time, and never take the lock that gives pages back: they are
-- needed again at once.
DO $$
DECLARE
    _table text;
BEGIN
    FOREACH _table IN ARRAY ARRAY['ready', 'scheduled', 'leases', 'jobs', 'attempts', 'clients'] LOOP
        EXECUTE format('ALTER TABLE allocator.%I SET (autovacuum_vacuum_scale_factor = 0.01,
            autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.1,
            vacuum_truncate = false)', _table);
    END LOOP;
END $$;
ALTER TABLE allocator.leases SET (fillfactor = 85);
-- An ack inserts nothing and deletes from the left; what was inserted last is what is read next.
ALTER TABLE allocator.jobs SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.2);

-- Raises AL001 when a newer release has changed the tables.
CREATE OR REPLACE FUNCTION allocator.check_version(_schema integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    _version integer;
BEGIN
    SELECT version INTO STRICT _version FROM allocator.version;
    IF _version > _schema THEN
        RAISE EXCEPTION 'schema %', _version USING ERRCODE = 'AL001';
    END IF;
END $$;

-- Begin a changing call: true when it is new, and is noted as the client's last; false when it is the last one again.
-- Locks the client's row, so that a repeated call waits for the first. Raises AL003 for one that was overtaken.
CREATE OR REPLACE FUNCTION allocator.begin(
    _schema integer, _queue integer, _client text, _call bigint, _now double precision
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    _version integer;
    _last bigint;
BEGIN
    UPDATE allocator.clients SET call = _call, now_at = _now, called_at = clock_timestamp(), reply = NULL
        WHERE id = _client AND call < _call AND version <= _schema;
    IF FOUND THEN
        RETURN true;
    END IF;
    -- Locked, lest the version changes between here and the commit and passes this client's new row by.
    SELECT version INTO STRICT _version FROM allocator.version FOR SHARE;
    IF _version > _schema THEN
        RAISE EXCEPTION 'schema %', _version USING ERRCODE = 'AL001';
    END IF;
    INSERT INTO allocator.clients (id, queue_id, version, call, now_at) VALUES (_client, _queue, _version, _call, _now)
        ON CONFLICT (id) DO NOTHING;
    IF FOUND THEN
        RETURN true;
    END IF;
    SELECT call INTO STRICT _last FROM allocator.clients WHERE id = _client;
    IF _last > _call THEN
        RAISE EXCEPTION 'call % came after call % of client %', _call, _last, _client USING ERRCODE = 'AL003';
    END IF;
    RETURN false;
END $$;

CREATE OR REPLACE FUNCTION allocator.forget(_queue integer, _id text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM allocator.jobs WHERE queue_id = _queue AND id = _id;
    DELETE FROM allocator.attempts WHERE queue_id = _queue AND id = _id;
END $$;

-- The job is out of its place already: forget it, remember the id, count it.
CREATE OR REPLACE FUNCTION allocator.make_cancelled(
    _queue integer, _client text, _id text, _now double precision
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM allocator.forget(_queue, _id);
    UPDATE allocator.clients SET cancelled = cancelled + 1 WHERE id = _client;
    INSERT INTO allocator.cancelled (queue_id, id, cancelled_at) VALUES (_queue, _id, _now)
        ON CONFLICT (queue_id, id) DO UPDATE SET cancelled_at = _now;
    DELETE FROM allocator.cancelled WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM allocator.cancelled WHERE -queue_id = -_queue AND cancelled_at <= _now - 86400
        ORDER BY cancelled_at LIMIT 100 FOR UPDATE SKIP LOCKED));
    -- Counting to ten thousand is not worth it each time.
    IF random() < 0.01 THEN
        DELETE FROM allocator.cancelled WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM allocator.cancelled WHERE -queue_id = -_queue AND cancelled_at < (
                SELECT cancelled_at FROM allocator.cancelled WHERE -queue_id = -_queue
                ORDER BY cancelled_at DESC OFFSET 9999 LIMIT 1)
            LIMIT 1000 FOR UPDATE SKIP LOCKED));
    END IF;
END $$;

-- The job is out of its place already: to the dead letters, of which the oldest are trimmed when they are over _age
-- seconds old or more than _keep. Above a thousand they are counted now and then only, at most 1 % late.
CREATE OR REPLACE FUNCTION allocator.make_dead(
    _queue integer, _client text, _id text, _error text, _failed integer, _attempts integer, _lost boolean,
    _now double precision, _age double precision, _keep integer
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    _position bigint;
    _last bigint := 0;
    _oldest text;
    _trimmed integer := 0;
BEGIN
    -- Held until the commit, so that letters appear in the order of their positions and a page never misses one.
    -- Whoever comes here has locked all its leases before: nobody waits for one while holding this row.
    UPDATE allocator.queues SET position = position + 1 WHERE id = _queue RETURNING position INTO _position;
    INSERT INTO allocator.dead (queue_id, position, id, dead_at, error, failed_count, attempt_count, lost_lease)
        VALUES (_queue, _position, _id, _now, _error, _failed, _attempts, _lost);
    IF _position % greatest(1, _keep / 1000) = 0 THEN
        SELECT position INTO _last FROM allocator.dead WHERE -queue_id = -_queue
            ORDER BY position DESC OFFSET _keep LIMIT 1;
    END IF;
    FOR _oldest IN
        DELETE FROM allocator.dead WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM (
                SELECT ctid, position, dead_at FROM allocator.dead WHERE -queue_id = -_queue
                ORDER BY position LIMIT greatest(100, _keep / 1000)
            ) AS first WHERE position <= _last OR dead_at <= _now - _age))
        RETURNING id
    LOOP
        PERFORM allocator.forget(_queue, _oldest);
        _trimmed := _trimmed + 1;
    END LOOP;
    IF _trimmed > 0 THEN
        UPDATE allocator.clients SET purged = purged + _trimmed WHERE id = _client;
    END IF;
END $$;

-- What becomes of a job whose lease, already deleted, ends without an ack.
-- _verb: retry, dead, expired (all three charge the attempt) or release (does not).
CREATE OR REPLACE FUNCTION allocator.give_back(
    _lease allocator.leases, _client text, _verb text, _delay double precision, _error text, _traceback text,
    _now double precision, _age double precision, _keep integer
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    _queue integer := _lease.queue_id;
    _id text := _lease.id;
    _failed integer := _lease.failed_count;
    _attempts integer := _lease.attempt_count;
    _lost boolean := _lease.lost_lease OR _verb = 'expired';
    _max_retries integer;
BEGIN
    IF _verb <> 'release' THEN
        _failed := _failed + 1;
        _attempts := _attempts + 1;
        INSERT INTO allocator.attempts (queue_id, id, ordinal, number, error, traceback, worker, leased_at, failed_at)
            VALUES (_queue, _id, _attempts, _failed, _error, _traceback, _lease.worker, _lease.leased_at, _now);
        IF _attempts > 40 THEN
            DELETE FROM allocator.attempts WHERE queue_id = _queue AND id = _id AND ordinal = _attempts - 20;
        END IF;
    END IF;
    IF _lease.cancelled THEN
        PERFORM allocator.make_cancelled(_queue, _client, _id, _now);
        RETURN;
    END IF;
    IF _verb = 'expired' THEN
        SELECT max_retries INTO _max_retries FROM allocator.jobs WHERE queue_id = _queue AND id = _id;
        IF NOT FOUND THEN
            _verb := 'dead';
            _error := 'damaged record: it is missing';
        ELSIF _failed > _max_retries THEN
            _verb := 'dead';
        END IF;
    END IF;
    IF _verb = 'dead' THEN
        PERFORM allocator.make_dead(_queue, _client, _id, _error, _failed, _attempts, _lost, _now, _age, _keep);
    ELSIF _delay > 0 THEN
        INSERT INTO allocator.scheduled
                (queue_id, rank, sequence, id, due_at, failed_count, attempt_count, lost_lease)
            VALUES (_queue, _lease.rank, _lease.sequence, _id, _now + _delay, _failed, _attempts, _lost);
    ELSE
        -- Released without a delay it still waits since it was due.
        INSERT INTO allocator.ready (queue_id, rank, sequence, id, due_at, failed_count, attempt_count, lost_lease)
            VALUES (_queue, _lease.rank, _lease.sequence, _id,
                CASE _verb WHEN 'release' THEN _lease.due_at ELSE _now END, _failed, _attempts, _lost);
    END IF;
END $$;

-- Take back at most _limit expired leases, the longest expired first. Returns the ids.
CREATE OR REPLACE FUNCTION allocator.take_back(
    _queue integer, _client text, _limit integer, _now double precision, _age double precision, _keep integer
) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    _lease allocator.leases;
    _ids text[] := '{}';
BEGIN
    -- One that is locked is being settled or extended at this moment.
    FOR _lease IN
        WITH gone AS (
            DELETE FROM allocator.leases WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM allocator.leases
                WHERE -queue_id = -_queue AND expires_second <= floor(_now)::bigint AND expires_at <= _now
                ORDER BY expires_second LIMIT _limit FOR UPDATE SKIP LOCKED))
            RETURNING *
        )
        SELECT * FROM gone ORDER BY expires_at, rank, sequence
    LOOP
        PERFORM allocator.give_back(_lease, _client, 'expired', 0, 'lease expired', NULL, _now, _age, _keep);
        _ids := _ids || _lease.id;
    END LOOP;
    RETURN _ids;
END $$;
