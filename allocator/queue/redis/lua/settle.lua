-- settle.lua: ack, nack and release; each job as a whole or not at all.
-- Needs: calls, states, dead
-- ARGV[4] dead_letter_age_us  ARGV[5] dead_letter_count  ARGV[6] acks
-- ARGV[7..] two for each ack: id, token; then five for each other: id, token, verb, delay_us, JSON with the error
--   verb: retry, dead (both are failed attempts) or release (is not)
-- Returns the indexes, from 1 over acks and others together, of those whose lease is lost; nothing changed for them.
local paused, before = begin_without_memory_limit()
if before then return before end

local age_us, dead_count, acks = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local lost = {}

for first = 1, acks, CHUNK do
  local last, ids = math.min(first + CHUNK - 1, acks), {}
  for index = first, last do ids[#ids + 1] = ARGV[2 * index + 5] end
  local tries, done = call('HMGET', TRIES, unpack(ids)), {}
  for offset, text in ipairs(tries) do
    local index = first + offset - 1
    local token, expires, count = match(text or '', '^(%S+) (%d+) (%d+)')
    if token == ARGV[2 * index + 6] and now < tonumber(expires) then
      done[#done + 1] = ids[offset]
      if count ~= '0' then call('DEL', P .. 'attempts:' .. ids[offset]) end
    else
      lost[#lost + 1] = index
    end
  end
  if #done > 0 then
    call('HDEL', JOBS, unpack(done))
    call('HDEL', TRIES, unpack(done))
    call('ZREM', LEASED, unpack(done))
    call('HINCRBY', META, 'done', #done)
  end
end

local wakes = false
for at = 7 + 2 * acks, #ARGV, 5 do
  local id, verb, delay, blob = ARGV[at], ARGV[at + 2], tonumber(ARGV[at + 3]), ARGV[at + 4]
  local s = held(id, ARGV[at + 1])
  if not s then
    lost[#lost + 1] = acks + (at - 7 - 2 * acks) / 5 + 1
  else
    call('ZREM', LEASED, id)
    if verb ~= 'release' then fail(id, s, blob) end
    if s.mark == '1' then
      make_cancelled(id, s)
    elseif verb == 'dead' then
      make_dead(id, s, blob, age_us, dead_count)
    else
      wakes = true
      if delay > 0 then
        make_scheduled(id, s, now + delay)
      else
        -- Released without a delay it still waits since it was due.
        if verb ~= 'release' then s.due = now_text end
        make_ready(id, s)
      end
    end
  end
end
if wakes then wake() end
return finish(lost)
