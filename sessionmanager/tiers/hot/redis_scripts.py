"""The scripts that Redis runs: each is one step that nothing comes between, and all of one session.

None of them ever stops half-way: what may fail (memory is full, a key holds another type) goes through `pcall`, and a
copy that could not be moved is dropped. A server looks whether it has room at the first write of a script alone, and
then only if that write asks for some: so a SET comes first, and where it is refused the script only drops. So whatever
happens, no older copy stays where a newer commit was told.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Final, NamedTuple


class Script(NamedTuple):
    """`sha`: by what a server knows it once it has run it."""

    source: bytes
    sha: bytes


def _script(source: str) -> Script:
    data = source.strip().encode()
    return Script(data, sha1(data, usedforsecurity=False).hexdigest().encode())


AFTER_COMMIT: Final = _script("""
local copy, floor, fill = KEYS[1], KEYS[2], KEYS[3]
local before, rev, ttl, floor_ttl = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local from, entries_max, bytes_max = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local new_first, new_last, new_bytes = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local dropped = tonumber(ARGV[11])
local held = redis.pcall('GET', floor)
if held == 'x' then
  redis.call('DEL', copy, fill)
  return 'erased'
end
local least = type(held) == 'string' and string.match(held, '^%d+$') and tonumber(held) or 0
local set = redis.pcall('SET', floor, string.format('%.0f', math.max(least, rev)), 'PX', floor_ttl)
redis.call('DEL', fill)
if set['err'] then
  redis.call('DEL', copy)
  return 'full'
end

local meta = redis.pcall('HGET', copy, 'm')
local at, hidden, first, last, bytes
if type(meta) == 'string' then
  at, hidden, first, last, bytes = string.match(meta, '^1 (%d+) (%d+) (%d+) (%d+) (%d+) %d+$')
end
if not at then
  redis.call('DEL', copy)
  return 'none'
end
at, first, last, bytes = tonumber(at), tonumber(first), tonumber(last), tonumber(bytes)
from = math.max(from, tonumber(hidden))
if at >= rev then return 'newer' end
if at ~= before then
  redis.call('DEL', copy)
  return 'gap'
end

local function runs()
  local found = {}
  for _, name in ipairs(redis.call('HKEYS', copy)) do
    if string.match(name, '^%d+$') then found[#found + 1] = tonumber(name) end
  end
  table.sort(found)
  return found
end
local function name_of(seq) return string.format('%.0f', seq) end

for i = 1, dropped do redis.call('HDEL', copy, ARGV[11 + i]) end
if new_first > 0 and last > 0 and last + 1 ~= new_first then
  for _, seq in ipairs(runs()) do redis.call('HDEL', copy, name_of(seq)) end
  first, last, bytes = 0, 0, 0
end
set = redis.pcall('HSET', copy, unpack(ARGV, 12 + dropped))
if type(set) == 'table' then
  redis.call('DEL', copy)
  return 'full'
end
if new_last >= new_first and new_first > 0 then
  if first == 0 then first = new_first end
  last, bytes = new_last, bytes + new_bytes
end
if last > 0 and (first < from or last - first >= 1.25 * entries_max or bytes > 1.25 * bytes_max) then
  local found = runs()
  local i = 1
  while found[i] do
    local ends = (found[i + 1] or last + 1) - 1
    if ends >= from and last - found[i] < entries_max and bytes <= bytes_max then break end
    local name = name_of(found[i])
    bytes = bytes - redis.call('HSTRLEN', copy, name)
    redis.call('HDEL', copy, name)
    i = i + 1
  end
  first = found[i] or 0
  if first == 0 then last, bytes = 0, 0 end
end
meta = string.format('1 %.0f %.0f %.0f %.0f %.0f %d', rev, from, first, last, bytes, redis.call('HLEN', copy))
redis.call('HSET', copy, 'm', meta)
redis.call('PEXPIRE', copy, ttl)
return 'moved'
""")
"""KEYS copy, floor, fill. ARGV: rev before (-1: no copy stays), rev after, life of the copy and of the floor (ms),
`tail_from`, bounds of the tail (lines, bytes), first, last and bytes of the new lines (0 for none), how many fields go,
their names, then names and values of the fields that come. A tail is trimmed once it is a quarter over its bounds, by
whole runs."""

END_FILL: Final = _script("""
local copy, floor, fill = KEYS[1], KEYS[2], KEYS[3]
local rev = tonumber(ARGV[2])
if redis.pcall('GET', fill) ~= ARGV[1] then return 'token' end
local set = redis.pcall('SET', fill, '', 'PX', 1)
redis.call('DEL', fill)
if set['err'] then return 'full' end
local held = redis.pcall('GET', floor)
if held == 'x' then return 'erased' end
if type(held) == 'string' and string.match(held, '^%d+$') and tonumber(held) > rev then return 'floor' end
local meta = redis.pcall('HGET', copy, 'm')
local at = type(meta) == 'string' and string.match(meta, '^1 (%d+) ')
if at and tonumber(at) > rev then return 'newer' end
redis.call('DEL', copy)
set = redis.pcall('HSET', copy, unpack(ARGV, 4))
if type(set) == 'table' then
  redis.call('DEL', copy)
  return 'full'
end
redis.call('PEXPIRE', copy, ARGV[3])
return 'kept'
""")
"""KEYS as above. ARGV: token, rev, life of the copy (ms), then names and values of all fields."""

DROP_FOR_EVER: Final = _script("""
local set = redis.pcall('SET', KEYS[2], 'x', 'PX', ARGV[1])
redis.call('DEL', KEYS[1], KEYS[3])
return set['err'] and 'full' or 'dropped'
""")
"""KEYS as above. ARGV: life of the floor (ms)."""
