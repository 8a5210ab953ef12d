-- dead.lua: failed attempts, dead letters and cancelled jobs. Needs states.

local SWEEP_LIMIT = 100
local KEPT_EACH_END = 20
local CANCELLED_KEPT = 10000

local function forget(id, s)
  call('HDEL', JOBS, id)
  call('HDEL', TRIES, id)
  if s.count ~= '0' then call('DEL', P .. 'attempts:' .. id) end
end

local function make_cancelled(id, s)
  forget(id, s)
  call('HINCRBY', META, 'cancelled', 1)
  call('ZADD', CANCELLED, now_text, id)
  call('ZREMRANGEBYSCORE', CANCELLED, '-inf', whole(now - CANCELLED_US))
  call('ZREMRANGEBYRANK', CANCELLED, 0, -CANCELLED_KEPT - 1)
end

-- Charge the attempt that the present lease stands for. `blob` is JSON with error and traceback.
local function fail(id, s, blob)
  s.failed = whole(tonumber(s.failed) + 1)
  s.count = whole(tonumber(s.count) + 1)
  local key = P .. 'attempts:' .. id
  local length = call('RPUSH', key, s.failed .. ' ' .. s.leased .. ' ' .. now_text .. ' ' .. s.worker .. '\n' .. blob)
  if length > 2 * KEPT_EACH_END then
    call('LSET', key, KEPT_EACH_END, '')
    call('LREM', key, 1, '')
  end
end

local function forget_dead(id)
  call('ZREM', DEAD, id)
  call('HDEL', DEAD_JOBS, id)
  call('HDEL', DEAD_INFO, id)
  call('DEL', P .. 'attempts:' .. id)
end

-- Trim what is too old or too many, a hundred at most, and count it.
local function trim_dead(age_us, count)
  local over = call('ZCARD', DEAD) - count
  for index, id in ipairs(call('ZRANGE', DEAD, 0, SWEEP_LIMIT - 1)) do
    local died = match(call('HGET', DEAD_INFO, id) or '', '^(%d+) ')
    if index > over and died and tonumber(died) > now - age_us then break end
    forget_dead(id)
    call('HINCRBY', META, 'purged', 1)
  end
end

local function make_dead(id, s, blob, age_us, count)
  local position = call('HINCRBY', META, 'position', 1)
  call('ZADD', DEAD, position, id)
  call('HSET', DEAD_JOBS, id, call('HGET', JOBS, id) or '')
  call('HSET', DEAD_INFO, id, table.concat({ now_text, s.failed, s.count, s.lost }, ' ') .. '\n' .. blob)
  call('HDEL', JOBS, id)
  call('HDEL', TRIES, id)
  trim_dead(age_us, count)
end

-- A job whose record or state cannot be read: to the dead letters, with the reason, out of everybody's way.
local function bury(id, reason, age_us, count)
  local s = { failed = '0', count = '0', lost = '0' }
  make_dead(id, s, '{"error":"damaged record: ' .. reason .. '"}', age_us, count)
end
