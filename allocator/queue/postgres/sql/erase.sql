-- erase.sql: delete every row of a queue, at most _limit of each table; the queue itself goes last.
-- Returns whether there is more to delete.
CREATE OR REPLACE FUNCTION allocator.erase(_schema integer, _queue integer, _limit integer)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    _table text;
    _deleted integer;
    _more boolean := false;
BEGIN
    PERFORM allocator.check_version(_schema);
    FOREACH _table IN ARRAY
        ARRAY['ready', 'scheduled', 'leases', 'dead', 'attempts', 'cancelled', 'jobs', 'clients', 'queues']
    LOOP
        CONTINUE WHEN _table = 'queues' AND _more;
        EXECUTE format('DELETE FROM allocator.%I WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM allocator.%1$I WHERE %I = $1 LIMIT $2))', _table,
            CASE _table WHEN 'queues' THEN 'id' ELSE 'queue_id' END) USING _queue, _limit;
        GET DIAGNOSTICS _deleted = ROW_COUNT;
        _more := _more OR _deleted = _limit;
    END LOOP;
    RETURN _more;
END $$;
