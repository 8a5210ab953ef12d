-- dead_page.lua: dead letters after a position, oldest first. Changes nothing.
-- Needs: calls
-- ARGV[4] position  ARGV[5] limit
-- Returns for each: {id, position, record, info, {attempt, ...}}.
local _, refusal = check_schema()
if refusal then return refusal end

local page = call('ZRANGEBYSCORE', DEAD, '(' .. ARGV[4], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[5])
local reply = {}
for at = 1, #page, 2 do
  local id = page[at]
  reply[#reply + 1] = { id, page[at + 1], call('HGET', DEAD_JOBS, id) or '', call('HGET', DEAD_INFO, id) or '',
    call('LRANGE', P .. 'attempts:' .. id, 0, -1) }
end
return reply
