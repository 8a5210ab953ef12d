-- enqueue.lua: accept all of the jobs, in this order; a job whose id is known is left as it is.
-- Needs: calls
-- ARGV[4..] six for each job: id, priority, max_retries, delay_us, failed_count, JSON
-- Returns {now_us, index, record, failed_count, index, record, failed_count, ...}: the stored jobs in place of known ones.
local paused, before = begin()
if before then return before end

local count = (#ARGV - 3) / 6
-- What somebody else made of this key is found out before anything is written.
call('ZCARD', READY)
-- The first write: a server without memory refuses it here, before anything is changed.
local sequence = call('HINCRBY', META, 'sequence', count) - count
local any_dead_or_cancelled = call('EXISTS', DEAD, CANCELLED) > 0
local reply, ready, wakes = { now_text }, {}, false

for index = 1, count do
  local at = 6 * index - 2
  local id, priority, max_retries, delay, failed = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local number = format('%016x', sequence + index)
  local record = FORMAT .. ' ' .. number .. ' ' .. priority .. ' ' .. max_retries .. ' ' .. now_text .. '\n' .. ARGV[at + 5]
  local dead = any_dead_or_cancelled and call('HGET', DEAD_JOBS, id)
  if dead then
    reply[#reply + 1] = index
    reply[#reply + 1] = dead
    reply[#reply + 1] = match(call('HGET', DEAD_INFO, id) or '', '^%d+ (%d+)') or '0'
  elseif call('HSETNX', JOBS, id, record) == 0 then
    reply[#reply + 1] = index
    reply[#reply + 1] = call('HGET', JOBS, id)
    reply[#reply + 1] = match(call('HGET', TRIES, id) or '', '^%S+ %d+ %d+ %-?%d+ %x+ %d+ (%d+)') or '0'
  else
    if any_dead_or_cancelled then call('ZREM', CANCELLED, id) end
    wakes = true
    local rank, member, due = -tonumber(priority), number .. ':' .. id, now_text
    if delay == '0' then
      ready[#ready + 1] = rank
      ready[#ready + 1] = member
      if #ready == CHUNK then
        call('ZADD', READY, unpack(ready))
        ready = {}
      end
    else
      due = whole(now + tonumber(delay))
      call('ZADD', SCHEDULED, due, member)
    end
    if delay ~= '0' or failed ~= '0' then
      -- What the record cannot tell: when it is due, and what it failed before it came here.
      local state = { '-', 0, 0, rank, number, max_retries, failed, 0, due, 0, 0, '' }
      call('HSET', TRIES, id, table.concat(state, ' '))
    end
  end
end
if #ready > 0 then call('ZADD', READY, unpack(ready)) end
if wakes then wake() end
return finish(reply)
