/* The members of each channel, from the server's sse-presence events: first the whole list, then the changes. */

const size = (members) => Object.keys(members).length;
const isPartial = ({members, count}) => count > size(members);

export function makeRooms() {
    const rooms = new Map();    // channel: room

    return {
        // The rooms of all channels with a list.
        get all() { return [...rooms.values()]; },

        // Forgets the rooms of all other channels. Without this, a channel that is added again would start with changes.
        keep(channels) {
            [...rooms.keys()].filter((name) => !channels.includes(name)).forEach((name) => rooms.delete(name));
        },

        // Returns the room after a message of the server: {channel, members, count, anonymous}. For a large room the
        // server sends only the count: its members are unknown until a whole list arrives.
        update({channel, members, joined = {}, left = [], count, anonymous = 0}) {
            const known = rooms.get(channel), isLarge = count != null || known && isPartial(known) && !members;
            const now = isLarge ? {} : members || {...known?.members, ...joined};
            left.forEach((user) => delete now[user]);
            const room = {
                channel, anonymous, members: now,
                count: count ?? (isLarge ? known.count + size(joined) - left.length : size(now))
            };
            rooms.set(channel, room);
            return room;
        }
    };
}

// The room with the users who joined and left since the page was shown `before`, this room or none. Each tab compares for
// itself: without this, a tab that has just taken the lead, and knows no room, would report no one.
export function withChanges(room, before) {
    const from = before && !isPartial(before) && !isPartial(room) ? before : room;
    const missing = (some, others) => Object.entries(some.members).filter(([user]) => !Object.hasOwn(others.members, user));
    return {...room, joined: Object.fromEntries(missing(room, from)), left: missing(from, room).map(([user]) => user)};
}
