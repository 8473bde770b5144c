"""Lua scripts that Redis runs in one step for a stream: events with an idempotency key, and states.

The states of channels are a hash beside the stream, ``<stream>:state``. The value of a channel has the id of
the entry and its type, on one line each, and then the message. Ids are compared as text, since numbers in Lua
have 53 bits.
"""

from __future__ import annotations

from collections.abc import Sequence

from cyclone_sse.delivery.publication import Publication, publication

SCRIPT_CHANNELS = 1490  # of an entry that a script can add; Lua has a limit
SCRIPT_ENTRIES = 500  # entries in one script: some milliseconds of Redis' time
FIELDS_IN_SCRIPT = 5000  # of all entries, unless one has more: about 3 ms of ours, and some of Redis' time

_OLDER = b"""
local function older(a, b)
  if not a then return true end
  local ms, n = string.match(a, '^(%d+)-(%d+)')
  local other_ms, other_n = string.match(b, '^(%d+)-(%d+)')
  if not ms then return true end
  if #ms ~= #other_ms then return #ms < #other_ms end
  if ms ~= other_ms then return ms < other_ms end
  if #n ~= #other_n then return #n < #other_n end
  return n < other_n
end
"""

# Adds entries; one whose key was used before is not added again, and its first id is the answer. One with
# `keep 1` becomes the state of its channels. For each entry: how many fields and values follow, whether it
# has a key, then these. An error after an entry was added says so: a script that fails undoes nothing.
PARTLY = "PARTLY"  # how such an error begins
ADD = b"""
local function set_state(id, first, last)
  local channels, message, event, keep = {}, '', '', false
  for n = first, last, 2 do
    local name, value = ARGV[n], ARGV[n + 1]
    if name == 'channel' then channels[#channels + 1] = value
    elseif name == 'message' then message = value
    elseif name == 'event' then event = value
    elseif name == 'keep' then keep = true end
  end
  for _, channel in ipairs(keep and channels or {}) do
    redis.call('HSET', KEYS[2], channel, id .. '\\n' .. event .. '\\n' .. message)
  end
end
local ids, argument, key, added = {}, 4, 3, false
local function add_all()
  for n = 1, tonumber(ARGV[1]) do
    local count, has_key = tonumber(ARGV[argument]), ARGV[argument + 1] == '1'
    local first, last = argument + 2, argument + 1 + count
    local id = has_key and redis.call('GET', KEYS[key])
    if not id then
      id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', unpack(ARGV, first, last))
      added = true
      if has_key then redis.call('SET', KEYS[key], id, 'PX', ARGV[3]) end
      set_state(id, first, last)
    end
    if has_key then key = key + 1 end
    argument = last + 1
    ids[n] = id
  end
end
local done, problem = pcall(add_all)
if done then return ids end
if type(problem) == 'table' then problem = problem.err end
return redis.error_reply(added and 'PARTLY ' .. problem or problem)
"""

# Sets states unless the channel has a newer one. For each value: the value, how many channels follow, these.
SET_STATES = (
    _OLDER
    + b"""
local first = 1
while first <= #ARGV do
  local value, last = ARGV[first], first + 1 + tonumber(ARGV[first + 1])
  for n = first + 2, last do
    if older(redis.call('HGET', KEYS[1], ARGV[n]), value) then redis.call('HSET', KEYS[1], ARGV[n], value) end
  end
  first = last + 1
end
"""
)

# Deletes the states of channels that are older than the entry of this id, which is the first argument.
CLEAR_STATES = (
    _OLDER
    + b"""
for n = 2, #ARGV do
  if older(redis.call('HGET', KEYS[1], ARGV[n]), ARGV[1]) then redis.call('HDEL', KEYS[1], ARGV[n]) end
end
"""
)

# Reads entries and looks at their stream, like the transaction of ``redis_stream_link``.
READ = b"""
local stream, groups = redis.pcall('XINFO', 'STREAM', KEYS[1]), redis.pcall('XINFO', 'GROUPS', KEYS[1])
return {redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2]), stream, groups}
"""


def encode_state(id: bytes, state: Publication) -> bytes:
    """The value of a channel in the hash of states."""
    return b"\n".join((id, (state.type or "").encode(), state.data))


def decode_state(channel: bytes, value: bytes) -> tuple[bytes, Publication]:
    """The id and the publication of a state. Raises ValueError if it is malformed."""
    id, _, rest = value.partition(b"\n")
    kind, _, data = rest.partition(b"\n")
    ms, _, n = id.partition(b"-")
    if not (ms.isdigit() and n.isdigit() and int(ms) >> 64 == int(n) >> 64 == 0):
        raise ValueError("its id is malformed")
    return id, publication(channel.decode(), data, kind.decode() or None, keep=True)


def adding(
    entries: Sequence[tuple[list[bytes], str | None]], stream: bytes, state: bytes, size: int, ttl: float
) -> tuple[list[bytes], list[bytes]]:
    """Keys and arguments of ADD. entries: fields and values of each, and its idempotency key."""
    keys, arguments = [stream, state], [b"%d" % len(entries), b"%d" % size, b"%d" % max(1, int(ttl * 1000))]
    for fields, key in entries:
        if key:
            keys.append(b"%s:published:%s" % (stream, key.encode()))
        arguments += [b"%d" % len(fields), b"1" if key else b"0", *fields]
    return keys, arguments
