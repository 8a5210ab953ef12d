-- requeue.lua: put dead letters back, with a new place and a fresh retry budget; the attempts stay with the job.
-- Needs: calls, states
-- ARGV[4..] ids
-- Returns {how many}.
local paused, before = begin()
if before then return before end

-- The first write: a server without memory refuses it here, before anything is changed.
local sequence, count = call('HINCRBY', META, 'sequence', #ARGV - 3) - (#ARGV - 3), 0
for at = 4, #ARGV do
  local id = ARGV[at]
  local record, info = call('HGET', DEAD_JOBS, id), call('HGET', DEAD_INFO, id)
  if record then
    count = count + 1
    local number = format('%016x', sequence + at - 3)
    local s = fresh_state(record)
    if s then
      record = string.gsub(record, '^(%d+) %x+', '%1 ' .. number, 1)
    else
      -- Damaged it stays; the next dequeue says so again.
      s = fresh_state('0 0 0 0 ' .. now_text .. '\n')
    end
    s.sequence, s.due = number, now_text
    s.count, s.lost = match(info or '', '^%d+ %d+ (%d+) (%d)')
    s.count, s.lost = s.count or '0', s.lost or '0'
    call('ZREM', DEAD, id)
    call('HDEL', DEAD_JOBS, id)
    call('HDEL', DEAD_INFO, id)
    call('HSET', JOBS, id, record)
    make_ready(id, s)
  end
end
if count > 0 then wake() end
return finish({ count })
