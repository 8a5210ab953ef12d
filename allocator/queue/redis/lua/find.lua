-- find.lua: the states of those ids that are known. Changes nothing.
-- Needs: calls, states
-- ARGV[4..] ids
-- Returns a state for each id, '' for unknown ones.
local _, refusal = check_schema()
if refusal then return refusal end

local reply = {}
for at = 4, #ARGV do
  local id, state = ARGV[at], ''
  if call('HEXISTS', JOBS, id) == 1 then
    local s = load_state(call('HGET', TRIES, id) or '')
    local due = s and call('ZSCORE', SCHEDULED, s.sequence .. ':' .. id)
    if s and s.token ~= '-' then
      state = 'leased'
    elseif due and tonumber(due) > now then
      state = 'scheduled'
    else
      state = 'ready'
    end
  elseif call('ZSCORE', DEAD, id) then
    state = 'dead'
  else
    local cancelled = call('ZSCORE', CANCELLED, id)
    if cancelled and tonumber(cancelled) > now - CANCELLED_US then state = 'cancelled' end
  end
  reply[#reply + 1] = state
end
return reply
