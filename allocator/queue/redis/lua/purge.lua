-- purge.lua: delete dead letters for good.
-- Needs: calls, dead
-- ARGV[4..] ids
-- Returns {how many}.
local paused, before = begin_without_memory_limit()
if before then return before end

local count = 0
for at = 4, #ARGV do
  if call('ZSCORE', DEAD, ARGV[at]) then
    forget_dead(ARGV[at])
    count = count + 1
  end
end
if count > 0 then call('HINCRBY', META, 'purged', count) end
return finish({ count })
