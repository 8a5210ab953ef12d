-- sweeps.lua: what time brings about. Needs dead.

-- Ready again is what has come due; keeps its place.
local function promote(limit)
  local due = call('ZRANGEBYSCORE', SCHEDULED, '-inf', now_text, 'LIMIT', 0, limit)
  for _, member in ipairs(due) do
    call('ZREM', SCHEDULED, member)
    local s = load_state(call('HGET', TRIES, sub(member, 18)) or '')
    -- Without its state only the rank is lost; whether the record is any good is found out at the lease.
    call('ZADD', READY, s and s.rank or '0', member)
  end
  return #due
end

-- Take back expired leases: each is a failed attempt. Returns the ids.
local function reap(limit, age_us, count)
  local expired = call('ZRANGEBYSCORE', LEASED, '-inf', now_text, 'LIMIT', 0, limit)
  for _, id in ipairs(expired) do
    call('ZREM', LEASED, id)
    local s = load_state(call('HGET', TRIES, id) or '')
    if not s then
      bury(id, 'the state of its lease cannot be read', age_us, count)
    else
      fail(id, s, '{"error":"lease expired"}')
      s.lost = '1'
      if s.mark == '1' then
        make_cancelled(id, s)
      elseif tonumber(s.failed) > tonumber(s.max_retries) then
        make_dead(id, s, '{"error":"lease expired"}', age_us, count)
      else
        s.due = now_text
        make_ready(id, s)
      end
    end
  end
  return expired
end
