-- reap.lua: take back expired leases.
-- Needs: calls, states, dead, sweeps
-- ARGV[4] limit  ARGV[5] dead_letter_age_us  ARGV[6] dead_letter_count
-- Returns the ids taken back.
local paused, before = begin_without_memory_limit()
if before then return before end

local ids = reap(tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]))
if #ids > 0 then wake() end
return finish(ids)
