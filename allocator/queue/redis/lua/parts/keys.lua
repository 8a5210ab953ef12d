-- keys.lua: the data layout, and what every script begins with.
--
-- A script is this file, then the parts of `parts/` that its second line asks for, then its own text. Only those:
-- making the functions of all parts took a third of the time of a short script.
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
local CANCELLED_US = 86400 * 1e6
local CHUNK = 1000
-- A reply ends with the record that passes this, so that none holds up the server, however large the payloads are.
local REPLY_BYTES = 8 * 1024 * 1024

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

local function wake() call('ZADD', WAKE, 0, 'wake') end
