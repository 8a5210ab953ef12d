-- calls.lua: the last call of each client, and its reply.

local CALL_MS = 60000

-- Refuse a newer schema. Returns the paused flag.
local function check_schema()
  local meta = call('HMGET', META, 'schema', 'paused')
  if meta[1] and tonumber(meta[1]) ~= SCHEMA then
    return nil, redis.error_reply('NEWERSCHEMA ' .. meta[1])
  end
  return meta[2] == '1', nil, not meta[1]
end

-- Begin a changing call. Returns the paused flag; or nil and the reply to give at once: that of the same call before,
-- or a refusal. A call with a lower number than the last is a duplicate that was long overtaken.
local function begin()
  local paused, refusal, is_new = check_schema()
  if refusal then return nil, refusal end
  local last = call('GET', CALL)
  if last then
    local number, at = match(last, '^(%d+) ()')
    number = tonumber(number)
    if number == tonumber(ARGV[2]) then return nil, cmsgpack.unpack(sub(last, at)) end
    if number > tonumber(ARGV[2]) then return nil, redis.error_reply('STALECALL ' .. ARGV[2]) end
  end
  if is_new then call('HSET', META, 'schema', SCHEMA) end
  return paused
end

-- A server at its memory limit refuses only the first write of a script. Calls that end by freeing memory make a write
-- that is never refused their first, so that a full queue can still be drained.
local function begin_without_memory_limit()
  call('DEL', P .. 'gate')
  return begin()
end

local function finish(reply)
  call('SET', CALL, ARGV[2] .. ' ' .. cmsgpack.pack(reply), 'PX', CALL_MS)
  return reply
end
