-- states.lua: the state of a job, as text and as a table.

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

-- The state of a job if `token` holds its lease now.
local function held(id, token)
  local text = call('HGET', TRIES, id)
  if not text then return nil end
  local present, expires = match(text, '^(%S+) (%d+) ')
  if present == token and now < tonumber(expires) then return load_state(text) end
end
