-- cancel.lua: a waiting job is cancelled, a leased one is marked.
-- Needs: calls, states, dead
-- ARGV[4] id
-- Returns {1}, or {0} when it neither waits nor is leased.
local paused, before = begin_without_memory_limit()
if before then return before end

local id = ARGV[4]
local record, state = call('HGET', JOBS, id), call('HGET', TRIES, id)
local s = load_state(state or '') or (record and fresh_state(record))
if not s then return finish({ 0 }) end

if s.token ~= '-' then
  s.mark = '1'
  call('HSET', TRIES, id, dump_state(s))
else
  local member = s.sequence .. ':' .. id
  if call('ZREM', READY, member) == 0 then call('ZREM', SCHEDULED, member) end
  make_cancelled(id, s)
end
return finish({ 1 })
