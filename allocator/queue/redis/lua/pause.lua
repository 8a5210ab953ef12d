-- pause.lua: hold jobs back from every client, or let them go.
-- Needs: calls
-- ARGV[4] 1 or 0
local paused, before = begin_without_memory_limit()
if before then return before end

call('HSET', META, 'paused', ARGV[4])
wake()
return finish({})
