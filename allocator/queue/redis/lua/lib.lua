-- lib.lua: what every script begins with. Put before each of them when it is loaded.
--
-- KEYS[1] P, the prefix of every key of this queue, with the hash tag that keeps them on one cluster node:
--   P..meta            hash    schema, sequence, position, paused, and the totals done, cancelled, purged
--   P..jobs            hash    job id -> record: "FORMAT SEQUENCE PRIORITY MAX_RETRIES ENQUEUED_US\n" and the job as JSON
--   P..tries           hash    job id -> state, below; only of jobs that are leased, scheduled, or were leased before
--   P..ready           zset    member "SEQUENCE:job id", score rank (minus the priority). Equal scores sort by member,
--                              and SEQUENCE is 16 hex digits: first in, first out, without packing numbers
--   P..scheduled       zset    member as in ready, score due_us
--   P..leased          zset    member job id, score expires_us
--   P..attempts:ID     list    failed attempts, the first and the last 20: "NUMBER LEASED_US FAILED_US WORKER\n" and JSON
--   P..dead:order      zset    member job id, score position (1, 2, ... as jobs die)
--   P..dead:jobs       hash    job id -> record
--   P..dead:info       hash    job id -> "DEAD_US FAILED_COUNT ATTEMPT_COUNT LOST_LEASE\n" and JSON with the error
--   P..cancelled       zset    member job id, score cancelled_us; remembered for a day
--   P..wake            zset    not empty: a waiting client should look
--   P..call:CLIENT     string  "CALL REPLY" of that client's last call, for a minute
-- ARGV[1] client  ARGV[2] call number  ARGV[3] now in microseconds since the epoch, or '' for the server's clock
--
-- State: "TOKEN EXPIRES_US ATTEMPT_COUNT RANK SEQUENCE MAX_RETRIES FAILED_COUNT LOST_LEASE DUE_US LEASED_US MARK WORKER".
-- TOKEN is - while the job is not leased. MARK is 1 when cancelled while leased. WORKER may hold spaces.
--
-- Invariant of every script: before and after, each job id is in exactly one of ready, scheduled, leased, dead:order,
-- and then its record is in jobs (dead: in dead:jobs). No script fails half-way: what may be refused comes first.

local SCHEMA, FORMAT = 1, 1
local SWEEP_LIMIT = 100
local KEPT_EACH_END = 20
local CALL_MS = 60000
local CANCELLED_KEPT, CANCELLED_US = 10000, 86400 * 1e6
local CHUNK = 1000

local P = KEYS[1]
local META, JOBS, TRIES = P .. 'meta', P .. 'jobs', P .. 'tries'
local READY, SCHEDULED, LEASED, WAKE = P .. 'ready', P .. 'scheduled', P .. 'leased', P .. 'wake'
local DEAD, DEAD_JOBS, DEAD_INFO = P .. 'dead:order', P .. 'dead:jobs', P .. 'dead:info'
local CANCELLED = P .. 'cancelled'
local CALL = P .. 'call:' .. ARGV[1]

local call, match, format, sub = redis.call, string.match, string.format, string.sub

-- Lua prints large numbers in a short form that loses digits; instants go in and out as text.
local function whole(number) return format('%.0f', number) end

local now_text = ARGV[3]
if now_text == '' then
  local time = call('TIME')
  now_text = time[1] .. format('%06d', time[2])
end
local now = tonumber(now_text)

-- Refuse a newer schema. Returns the paused flag.
local function check_schema()
  local meta = call('HMGET', META, 'schema', 'paused')
  if meta[1] and tonumber(meta[1]) ~= SCHEMA then
    return nil, redis.error_reply('NEWERSCHEMA ' .. meta[1])
  end
  return meta[2] == '1', nil, not meta[1]
end

-- Begin a changing call. Returns the paused flag; or nil and the reply to give at once: that of the same call before,
-- or a refusal. A call with a lower number than the last is a duplicate that was long overtaken.
local function begin()
  local paused, refusal, is_new = check_schema()
  if refusal then return nil, refusal end
  local last = call('GET', CALL)
  if last then
    local number, at = match(last, '^(%d+) ()')
    number = tonumber(number)
    if number == tonumber(ARGV[2]) then return nil, cmsgpack.unpack(sub(last, at)) end
    if number > tonumber(ARGV[2]) then return nil, redis.error_reply('STALECALL ' .. ARGV[2]) end
  end
  if is_new then call('HSET', META, 'schema', SCHEMA) end
  return paused
end

-- A server at its memory limit refuses only the first write of a script. Calls that end by freeing memory make a write
-- that is never refused their first, so that a full queue can still be drained.
local function begin_without_memory_limit()
  call('DEL', P .. 'gate')
  return begin()
end

local function finish(reply)
  call('SET', CALL, ARGV[2] .. ' ' .. cmsgpack.pack(reply), 'PX', CALL_MS)
  return reply
end

local STATE = '^(%S+) (%d+) (%d+) (%-?%d+) (%x+) (%d+) (%d+) (%d) (%d+) (%d+) (%d) (.*)$'

local function load_state(text)
  local s = {}
  s.token, s.expires, s.count, s.rank, s.sequence, s.max_retries, s.failed, s.lost, s.due, s.leased, s.mark, s.worker =
    match(text, STATE)
  if s.token then return s end
end

local function dump_state(s)
  return table.concat({ s.token, s.expires, s.count, s.rank, s.sequence, s.max_retries, s.failed, s.lost, s.due,
    s.leased, s.mark, s.worker }, ' ')
end

-- The header of a record, or nothing when it is not ours.
local function load_header(record)
  return match(record, '^(%d+) (%x+) (%-?%d+) (%d+) (%d+)[^\n]*\n')
end

-- The state of a job that has never been leased, from its record.
local function fresh_state(record)
  local version, sequence, priority, max_retries, enqueued = load_header(record)
  if not version then return nil end
  return { token = '-', expires = '0', count = '0', rank = whole(-tonumber(priority)), sequence = sequence,
    max_retries = max_retries, failed = '0', lost = '0', due = enqueued, leased = '0', mark = '0', worker = '' }
end

local function make_ready(id, s)
  s.token, s.mark = '-', '0'
  call('ZADD', READY, s.rank, s.sequence .. ':' .. id)
  call('HSET', TRIES, id, dump_state(s))
end

local function make_scheduled(id, s, due)
  s.token, s.mark, s.due = '-', '0', whole(due)
  call('ZADD', SCHEDULED, s.due, s.sequence .. ':' .. id)
  call('HSET', TRIES, id, dump_state(s))
end

local function forget(id, s)
  call('HDEL', JOBS, id)
  call('HDEL', TRIES, id)
  if s.count ~= '0' then call('DEL', P .. 'attempts:' .. id) end
end

local function make_cancelled(id, s)
  forget(id, s)
  call('HINCRBY', META, 'cancelled', 1)
  call('ZADD', CANCELLED, now_text, id)
  call('ZREMRANGEBYSCORE', CANCELLED, '-inf', whole(now - CANCELLED_US))
  call('ZREMRANGEBYRANK', CANCELLED, 0, -CANCELLED_KEPT - 1)
end

-- Charge the attempt that the present lease stands for. `blob` is JSON with error and traceback.
local function fail(id, s, blob)
  s.failed = whole(tonumber(s.failed) + 1)
  s.count = whole(tonumber(s.count) + 1)
  local key = P .. 'attempts:' .. id
  local length = call('RPUSH', key, s.failed .. ' ' .. s.leased .. ' ' .. now_text .. ' ' .. s.worker .. '\n' .. blob)
  if length > 2 * KEPT_EACH_END then
    call('LSET', key, KEPT_EACH_END, '')
    call('LREM', key, 1, '')
  end
end

local function forget_dead(id)
  call('ZREM', DEAD, id)
  call('HDEL', DEAD_JOBS, id)
  call('HDEL', DEAD_INFO, id)
  call('DEL', P .. 'attempts:' .. id)
end

-- Trim what is too old or too many, a hundred at most, and count it.
local function trim_dead(age_us, count)
  local over = call('ZCARD', DEAD) - count
  for index, id in ipairs(call('ZRANGE', DEAD, 0, SWEEP_LIMIT - 1)) do
    local died = match(call('HGET', DEAD_INFO, id) or '', '^(%d+) ')
    if index > over and died and tonumber(died) > now - age_us then break end
    forget_dead(id)
    call('HINCRBY', META, 'purged', 1)
  end
end

local function make_dead(id, s, blob, age_us, count)
  local position = call('HINCRBY', META, 'position', 1)
  call('ZADD', DEAD, position, id)
  call('HSET', DEAD_JOBS, id, call('HGET', JOBS, id) or '')
  call('HSET', DEAD_INFO, id, table.concat({ now_text, s.failed, s.count, s.lost }, ' ') .. '\n' .. blob)
  call('HDEL', JOBS, id)
  call('HDEL', TRIES, id)
  trim_dead(age_us, count)
end

-- A job whose record or state cannot be read: to the dead letters, with the reason, out of everybody's way.
local function bury(id, reason, age_us, count)
  local s = { failed = '0', count = '0', lost = '0' }
  make_dead(id, s, '{"error":"damaged record: ' .. reason .. '"}', age_us, count)
end

local function wake() call('ZADD', WAKE, 0, 'wake') end

-- Ready again is what has come due; keeps its place.
local function promote(limit)
  local due = call('ZRANGEBYSCORE', SCHEDULED, '-inf', now_text, 'LIMIT', 0, limit)
  for _, member in ipairs(due) do
    call('ZREM', SCHEDULED, member)
    local s = load_state(call('HGET', TRIES, sub(member, 18)) or '')
    -- Without its state only the rank is lost; whether the record is any good is found out at the lease.
    call('ZADD', READY, s and s.rank or '0', member)
  end
  return #due
end

-- Take back expired leases: each is a failed attempt. Returns the ids.
local function reap(limit, age_us, count)
  local expired = call('ZRANGEBYSCORE', LEASED, '-inf', now_text, 'LIMIT', 0, limit)
  for _, id in ipairs(expired) do
    call('ZREM', LEASED, id)
    local s = load_state(call('HGET', TRIES, id) or '')
    if not s then
      bury(id, 'the state of its lease cannot be read', age_us, count)
    else
      fail(id, s, '{"error":"lease expired"}')
      s.lost = '1'
      if s.mark == '1' then
        make_cancelled(id, s)
      elseif tonumber(s.failed) > tonumber(s.max_retries) then
        make_dead(id, s, '{"error":"lease expired"}', age_us, count)
      else
        s.due = now_text
        make_ready(id, s)
      end
    end
  end
  return expired
end

-- The state of a job if `token` holds its lease now.
local function held(id, token)
  local text = call('HGET', TRIES, id)
  if not text then return nil end
  local present, expires = match(text, '^(%S+) (%d+) ')
  if present == token and now < tonumber(expires) then return load_state(text) end
end
