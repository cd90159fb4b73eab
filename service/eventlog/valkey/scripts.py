"""The scripts that write to a log. Each is atomic, and may be sent twice with the effect of once.

`CREATE` begins a log. `APPEND` adds an entry if the log's last entry is the one that the writer wrote last. That one
comparison is the fence, because a claim adds an entry. It also finds what the server forgot, and makes a retry
harmless. `CLAIM` takes over. `CONFIRM` asks after a reconnect whether the log and the lease are as the writer knows
them. `RELEASE` gives up a lease. `WATCH` notes that a worker has followers of a running answer. `NOTE` adds a note to
the lease of a running answer. `RECORD` and `FORGET` keep the sum of the bytes of ended answers. `NAME` and
`NAME_DELIVERED` write names.

Results are arrays: a word, then values. Numbers stay below 2^53, the limit of Lua's numbers.
"""

from service.eventlog.valkey.script import Script

_LAST = """
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
"""

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
"""

CREATE = Script(f"""#!lua
-- KEYS log, lease; ARGV worker, lines -> ok | there
{_LAST}
if last then
  if last[1] == '1-0' and redis.call('HGET', KEYS[2], 'owner') == ARGV[1] then return {{'ok'}} end
  return {{'there'}}
end
redis.call('XADD', KEYS[1], '1-0', 'e', ARGV[2])
redis.call('HSET', KEYS[2], 'owner', ARGV[1], 'size', #ARGV[2])
return {{'ok'}}
""")

_APPEND = f"""
-- KEYS log, lease, watch, channel; ARGV seq of the entry before, seq, field, value, number of the claim under which the
--   answer grew with it or '', milliseconds to keep an ended log
-- -> ok stop | gone | other <id of the last entry>
{_LAST}
if not last then return {{'gone'}} end
if last[1] ~= ARGV[1] .. '-0' then
  if last[1] ~= ARGV[2] .. '-0' then return {{'other', last[1]}} end
elseif not redis.call('XADD', KEYS[1], 'NOMKSTREAM', ARGV[2] .. '-0', ARGV[3], ARGV[4]) then
  return {{'gone'}}
else
  redis.call('SPUBLISH', KEYS[4], ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4])
  if ARGV[5] ~= '' then redis.call('HSET', KEYS[2], 'grew', ARGV[5]) end
  if ARGV[6] then
    redis.call('PEXPIRE', KEYS[1], ARGV[6])
    redis.call('UNLINK', KEYS[2], KEYS[3])
  elseif ARGV[3] == 'a' then
    redis.call('HSET', KEYS[2], 'anew', ARGV[2])
    redis.call('HINCRBY', KEYS[2], 'given_anew', 1)
  elseif ARGV[3] == 'e' then
    redis.call('HINCRBY', KEYS[2], 'size', #ARGV[4])
  end
end
return {{'ok', redis.call('HGET', KEYS[2], 'stop')}}
"""

APPEND = Script(f"#!lua\n{_APPEND}")

END = Script(f"#!lua flags=allow-oom\n{_APPEND}")
"""`APPEND` of a terminal event, which is written even if the memory is full."""

CLAIMS_SECONDS = 60
"""Claims that are further apart are not counted together."""

CLAIM = Script(f"""#!lua flags=allow-oom
-- KEYS log, lease, channel; ARGV worker, owner to claim from, milliseconds for which the owner was silent, a name for
--   this claim, and for a renewal the seq of the entry that the worker wrote last
-- -> ok <number> <seq of the entry before> <claims> <claims without growth> <milliseconds unwatched or ''> <stop or ''>
--    <size> <texts given anew> | gone | ended | other <owner> | behind <id of the last entry>
-- The same claim sent twice is known by its name. A claim of the same worker at the end of the log may be an older one,
-- behind which the server forgot the rest: its numbers must not be used again.
{_LAST}
if not last then
  redis.call('UNLINK', KEYS[2])
  return {{'gone'}}
end
local lease = redis.call('HMGET', KEYS[2],
  'owner', 'claims', 'grew', 'claimed_at', 'unwatched', 'released_at', 'stop', 'size', 'before', 'left', 'claim',
  'given_anew')
local owner, claims, grew = lease[1], tonumber(lease[2] or 0), tonumber(lease[3] or 0)
if not owner then return {{'ended'}} end
{_NOW}
local number, before, left = string.match(last[1], '%d+'), lease[9], lease[10] or ''
if not (owner == ARGV[1] and last[2][1] == 'c' and lease[11] == ARGV[4]) then
  if owner ~= ARGV[2] and (ARGV[5] or owner ~= '-') then return {{'other', owner}} end
  if ARGV[5] and last[1] ~= ARGV[5] .. '-0' then return {{'behind', last[1]}} end
  before = number
  number = string.format('%.0f', math.max(now, number + 1))
  if owner ~= ARGV[1] then
    if now - tonumber(lease[4] or 0) > {CLAIMS_SECONDS}000000 then claims, grew = 0, 0 end
    claims = claims + 1
    redis.call('HSET', KEYS[2], 'claims', claims, 'grew', grew, 'claimed_at', string.format('%.0f', now))
  end
  local away_since = tonumber(lease[6] or now - ARGV[3] * 1000)
  left = lease[5] and string.format('%.0f', math.max(0, (lease[5] - away_since) / 1000)) or ''
  redis.call('XADD', KEYS[1], number .. '-0', 'c', ARGV[1])
  redis.call('HSET', KEYS[2], 'owner', ARGV[1], 'before', before, 'left', left, 'claim', ARGV[4])
  redis.call('HDEL', KEYS[2], 'released_at')
  redis.call('SPUBLISH', KEYS[3], before .. ' ' .. number .. ' c ' .. ARGV[1])
end
return {{'ok', number, before, claims, claims - grew, left, lease[7] or '', lease[8] or 0, lease[12] or 0}}
""")

CONFIRM = Script(f"""#!lua
-- KEYS log, lease; ARGV seq of the entry written last, worker -> ok stop | gone | other <id of the last entry> | lost
{_LAST}
if not last then return {{'gone'}} end
if last[1] ~= ARGV[1] .. '-0' then return {{'other', last[1]}} end
local lease = redis.call('HMGET', KEYS[2], 'owner', 'stop')
if lease[1] and lease[1] ~= ARGV[2] then return {{'lost'}} end
return {{'ok', lease[2]}}
""")

RELEASE = Script(f"""#!lua flags=allow-oom
-- KEYS lease, channel; ARGV worker, 1 to forget the claims -> ok | other
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return {{'other'}} end
{_NOW}
redis.call('HSET', KEYS[1], 'owner', '-', 'released_at', string.format('%.0f', now))
if ARGV[2] == '1' then redis.call('HDEL', KEYS[1], 'claims', 'grew', 'claimed_at') end
redis.call('SPUBLISH', KEYS[2], 'released')
return {{'ok'}}
""")

WATCH = Script("""#!lua flags=allow-oom
-- KEYS lease, watch; ARGV worker -> ok | ended
-- Behind the end, the set would stay for ever if the worker died before it left.
if redis.call('HGET', KEYS[1], 'owner') then
  redis.call('SADD', KEYS[2], ARGV[1])
  return {'ok'}
end
return {'ended'}
""")

NOTE = Script(f"""#!lua flags=allow-oom
-- KEYS lease; ARGV field, value, the owner that notes it or '' for anybody -> ok <owner> | other
-- `unwatched` is noted in seconds from now, and kept as a time in microseconds.
local owner = redis.call('HGET', KEYS[1], 'owner')
if not owner or (ARGV[3] ~= '' and owner ~= ARGV[3]) then return {{'other'}} end
local value = ARGV[2]
if value == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  if ARGV[1] == 'unwatched' then
    {_NOW}
    value = string.format('%.0f', now + value * 1000000)
  end
  redis.call('HSET', KEYS[1], ARGV[1], value)
end
return {{'ok', owner}}
""")

RECORD = Script(f"""#!lua flags=allow-oom
-- KEYS ended, bytes, total; ARGV answer, its bytes -> ok
if not redis.call('HGET', KEYS[2], ARGV[1]) then
  {_NOW}
  redis.call('ZADD', KEYS[1], string.format('%.0f', now / 1000), ARGV[1])
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
  redis.call('INCRBY', KEYS[3], ARGV[2])
end
return {{'ok'}}
""")

FORGET = Script("""#!lua flags=allow-oom
-- KEYS ended, bytes, total; ARGV answer -> ok
local bytes = redis.call('HGET', KEYS[2], ARGV[1])
if bytes then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('INCRBY', KEYS[3], '-' .. bytes)
end
return {'ok'}
""")

NAME = Script(f"""#!lua
-- KEYS name; ARGV answer, digest, only | newest | further, worker, milliseconds to keep, most answers, answers that are
--   gone -> ok <now> | there <now> <answer> <value> …
for gone = 7, #ARGV do redis.call('HDEL', KEYS[1], ARGV[gone]) end
{_NOW}
now = string.format('%.0f', now)
local answers, oldest, oldest_at = {{}}, nil, nil
local fields = redis.call('HGETALL', KEYS[1])
for field = 1, #fields, 2 do
  if fields[field] ~= ARGV[1] then
    answers[#answers + 1] = fields[field]
    answers[#answers + 1] = fields[field + 1]
    local named_at = tonumber(string.match(fields[field + 1], '%d+'))
    if not oldest or named_at < oldest_at then oldest, oldest_at = fields[field], named_at end
  end
end
if ARGV[3] == 'only' and #answers > 0 then return {{'there', now, unpack(answers)}} end
if #answers / 2 >= tonumber(ARGV[6]) then redis.call('HDEL', KEYS[1], oldest) end
redis.call('HSET', KEYS[1], ARGV[1], now .. ' 0 ' .. ARGV[4] .. ' ' .. ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return {{'ok', now}}
""")

NAME_DELIVERED = Script("""#!lua flags=allow-oom
-- KEYS name; ARGV answer -> ok
local value = redis.call('HGET', KEYS[1], ARGV[1])
if value then redis.call('HSET', KEYS[1], ARGV[1], (string.gsub(value, ' 0 ', ' 1 ', 1))) end
return {'ok'}
""")

SCRIPTS = (CREATE, APPEND, END, CLAIM, CONFIRM, RELEASE, WATCH, NOTE, RECORD, FORGET, NAME, NAME_DELIVERED)
