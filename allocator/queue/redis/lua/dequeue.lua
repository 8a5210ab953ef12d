-- dequeue.lua: promote what is due, reap what has expired, then lease up to `limit` jobs in queue order.
-- Needs: calls, states, dead, sweeps
-- ARGV[4] limit  ARGV[5] lease_us  ARGV[6] worker  ARGV[7] dead_letter_age_us  ARGV[8] dead_letter_count
-- Returns {next_us, id, record, state, id, record, state, ...}; next_us: until the next due time or expiry, '' when
-- there is none. Only a reply without jobs needs it.
-- A job that has lost a lease before comes alone. A record of a newer format stops the call.
local SLICE = 100

local paused, before = begin_without_memory_limit()
if before then
  if before.err then return before end
  -- Only the ids were kept: the leases tell the rest, as far as they still stand.
  local reply = { '' }
  for index, id in ipairs(before) do
    local state, record = call('HGET', TRIES, id), call('HGET', JOBS, id)
    if state and record and match(state, '^%S+') == ARGV[1] .. '-' .. ARGV[2] .. '-' .. index then
      reply[#reply + 1] = id
      reply[#reply + 1] = record
      reply[#reply + 1] = state
    end
  end
  return reply
end

local age_us, dead_count = tonumber(ARGV[7]), tonumber(ARGV[8])
local swept = promote(SWEEP_LIMIT)
reap(SWEEP_LIMIT, age_us, dead_count)

local limit, worker = tonumber(ARGV[4]), ARGV[6]
local expires = whole(now + tonumber(ARGV[5]))
local token_prefix = ARGV[1] .. '-' .. ARGV[2] .. '-'
local lease_tail = ' ' .. now_text .. ' 0 ' .. worker
local reply, taken, members, leased, states, newer = { '' }, {}, {}, {}, {}, nil
local buried = 0

-- In slices, so that neither the slice nor the reply grows with the size of the payloads.
local open, bytes = not paused, 0
while open and #taken < limit and bytes < REPLY_BYTES and buried < SWEEP_LIMIT do
  local heads = call('ZRANGE', READY, #taken, math.min(#taken + SLICE, limit) - 1)
  if #heads == 0 then break end
  local ids = {}
  for index, member in ipairs(heads) do ids[index] = sub(member, 18) end
  local records, tries = call('HMGET', JOBS, unpack(ids)), call('HMGET', TRIES, unpack(ids))
  for index, id in ipairs(ids) do
    local record, state = records[index], tries[index]
    local version, sequence, priority, max_retries, enqueued
    if record then version, sequence, priority, max_retries, enqueued = load_header(record) end
    if not version or (state and not match(state, STATE)) then
      call('ZREM', READY, heads[index])
      bury(id, record and 'its header cannot be read' or 'it is missing', age_us, dead_count)
      buried = buried + 1
    elseif tonumber(version) > FORMAT then
      open, newer = false, { id, version }
      break
    else
      local count = #taken + 1
      local token, alone = token_prefix .. count, false
      if state then
        local s = load_state(state)
        alone = s.lost == '1'
        if alone and count > 1 then
          open = false
          break
        end
        s.token, s.expires, s.leased, s.mark, s.worker = token, expires, now_text, '0', worker
        state = dump_state(s)
      else
        state = token .. ' ' .. expires .. ' 0 ' .. -tonumber(priority) .. ' ' .. sequence .. ' ' .. max_retries
          .. ' 0 0 ' .. enqueued .. lease_tail
      end
      taken[count], members[count] = id, heads[index]
      leased[2 * count - 1], leased[2 * count] = expires, id
      states[2 * count - 1], states[2 * count] = id, state
      local at = 3 * count - 1
      reply[at], reply[at + 1], reply[at + 2] = id, record, state
      bytes = bytes + #record
      if alone then
        open = false
        break
      end
    end
  end
end

if #taken > 0 then
  call('ZREM', READY, unpack(members))
  call('ZADD', LEASED, unpack(leased))
  call('HSET', TRIES, unpack(states))
  -- One wake-up may have stood for many jobs: pass it on.
  if call('EXISTS', READY) == 1 then wake() end
end
-- Kept although nothing was taken: a duplicate that arrives late must not take leases that nobody waits for.
finish(taken)
if #taken > 0 then return reply end
if newer then return redis.error_reply('NEWERRECORD ' .. newer[2] .. ' ' .. newer[1]) end

if swept == SWEEP_LIMIT or buried > 0 then
  reply[1] = '0'
else
  local due, expiry = call('ZRANGE', SCHEDULED, 0, 0, 'WITHSCORES')[2], call('ZRANGE', LEASED, 0, 0, 'WITHSCORES')[2]
  local first = math.min(tonumber(due or 'inf') or math.huge, tonumber(expiry or 'inf') or math.huge)
  if first < math.huge then reply[1] = whole(math.max(0, first - now)) end
end
return reply
