-- enqueue.lua: accept all of the jobs, in this order; a job whose id is known is left as it is.
-- ARGV[4..] six for each job: id, priority, max_retries, delay_us, failed_count, JSON
-- Returns {now_us, index, record, failed_count, index, record, failed_count, ...}: the stored jobs in place of known ones.
local paused, before = begin()
if before then return before end

local count = (#ARGV - 3) / 6
-- The first write: a server without memory refuses it here, before anything is changed.
local sequence = call('HINCRBY', META, 'sequence', count) - count
local any_dead, any_cancelled = call('ZCARD', DEAD) > 0, call('ZCARD', CANCELLED) > 0
local reply, ready, wakes = { now_text }, {}, false

for index = 1, count do
  local at = 6 * index - 2
  local id, priority, max_retries, delay, failed = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local number = format('%016x', sequence + index)
  local record = table.concat({ FORMAT, number, priority, max_retries, now_text }, ' ') .. '\n' .. ARGV[at + 5]
  local dead = any_dead and call('HGET', DEAD_JOBS, id)
  if dead then
    reply[#reply + 1] = index
    reply[#reply + 1] = dead
    reply[#reply + 1] = match(call('HGET', DEAD_INFO, id) or '', '^%d+ (%d+)') or '0'
  elseif call('HSETNX', JOBS, id, record) == 0 then
    local s = load_state(call('HGET', TRIES, id) or '')
    reply[#reply + 1] = index
    reply[#reply + 1] = call('HGET', JOBS, id)
    reply[#reply + 1] = s and s.failed or '0'
  else
    if any_cancelled then call('ZREM', CANCELLED, id) end
    wakes = true
    if delay == '0' and failed == '0' then
      ready[#ready + 1] = -tonumber(priority)
      ready[#ready + 1] = number .. ':' .. id
      if #ready == CHUNK then
        call('ZADD', READY, unpack(ready))
        ready = {}
      end
    else
      local s = fresh_state(record)
      s.failed = failed
      if delay == '0' then make_ready(id, s) else make_scheduled(id, s, now + tonumber(delay)) end
    end
  end
end
if #ready > 0 then call('ZADD', READY, unpack(ready)) end
if wakes then wake() end
return finish(reply)
