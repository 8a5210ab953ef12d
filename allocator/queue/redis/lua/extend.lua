-- extend.lua: move expiries to now plus `seconds`, never backwards, for those leases that are held.
-- Needs: calls, states
-- ARGV[4] seconds in microseconds; then two for each: id, token
-- Returns for each: "EXPIRES_US MARK", or '' when the lease is lost.
local paused, before = begin_without_memory_limit()
if before then return before end

local wanted, reply = now + tonumber(ARGV[4]), {}
for at = 5, #ARGV, 2 do
  local s = held(ARGV[at], ARGV[at + 1])
  if s then
    s.expires = whole(math.max(wanted, tonumber(s.expires)))
    call('HSET', TRIES, ARGV[at], dump_state(s))
    call('ZADD', LEASED, s.expires, ARGV[at])
    reply[#reply + 1] = s.expires .. ' ' .. s.mark
  else
    reply[#reply + 1] = ''
  end
end
return finish(reply)
