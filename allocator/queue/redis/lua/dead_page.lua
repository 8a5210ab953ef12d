-- dead_page.lua: dead letters after a position, oldest first. Changes nothing.
-- Needs: calls
-- ARGV[4] position  ARGV[5] limit
-- Returns for each: {id, position, record, info, {attempt, ...}}; fewer than `limit` where they are large.
local _, refusal = check_schema()
if refusal then return refusal end

local page = call('ZRANGEBYSCORE', DEAD, '(' .. ARGV[4], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[5])
local reply, bytes = {}, 0
for at = 1, #page, 2 do
  local id = page[at]
  local record, attempts = call('HGET', DEAD_JOBS, id) or '', call('LRANGE', P .. 'attempts:' .. id, 0, -1)
  reply[#reply + 1] = { id, page[at + 1], record, call('HGET', DEAD_INFO, id) or '', attempts }
  bytes = bytes + #record
  for _, attempt in ipairs(attempts) do bytes = bytes + #attempt end
  if bytes >= REPLY_BYTES then break end
end
return reply
