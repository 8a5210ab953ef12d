-- counts.lua: how many jobs are in each state now, and the totals since the queue began. Changes nothing.
-- Needs: calls
-- Returns {ready, scheduled, leased, dead, done, cancelled, purged}. Due jobs count as ready.
local _, refusal = check_schema()
if refusal then return refusal end

local due = call('ZCOUNT', SCHEDULED, '-inf', now_text)
local totals = call('HMGET', META, 'done', 'cancelled', 'purged')
return { call('ZCARD', READY) + due, call('ZCARD', SCHEDULED) - due, call('ZCARD', LEASED), call('ZCARD', DEAD),
  tonumber(totals[1] or 0), tonumber(totals[2] or 0), tonumber(totals[3] or 0) }
