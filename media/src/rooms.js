/* The members of each channel, from the server's sse-presence events: first the whole list, then the changes. */

const size = (members) => Object.keys(members).length;

export function makeRooms() {
    const rooms = new Map();    // channel: room

    return {
        // The rooms of all channels with a list, without changes.
        get all() { return [...rooms.values()]; },

        // Forgets the rooms of all other channels. Without this, a channel that is added again would start with changes.
        keep(channels) {
            [...rooms.keys()].filter((name) => !channels.includes(name)).forEach((name) => rooms.delete(name));
        },

        // Returns the room after a message of the server: {channel, members, count, anonymous, joined, left}. For a large
        // room the server sends only the count: its members are unknown until a whole list arrives.
        update({channel, members, joined = {}, left = [], count, anonymous = 0}) {
            const known = rooms.get(channel), before = known?.members || {};
            const wasLarge = known && known.count > size(before), isLarge = count != null || wasLarge && !members;
            const now = isLarge ? {} : members || {...before, ...joined};
            left.forEach((user) => delete now[user]);
            const added = Object.entries(now).filter(([user]) => known && !wasLarge && !Object.hasOwn(before, user));
            const room = {
                channel, anonymous, members: now, joined: {}, left: [],
                count: count ?? (isLarge ? known.count + size(joined) - left.length : size(now))
            };
            rooms.set(channel, room);
            return {
                ...room,
                joined: Object.fromEntries(added),
                left: isLarge ? [] : Object.keys(before).filter((user) => !Object.hasOwn(now, user))
            };
        }
    };
}
