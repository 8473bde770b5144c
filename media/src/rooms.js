/* The members of each channel, from the server's sse-presence events: first the whole list, then the changes. */

export function makeRooms() {
    const rooms = new Map();    // channel: room

    return {
        // Returns the rooms of all channels with a list; `joined` and `left` are empty.
        get all() {
            return [...rooms.values()].map((room) => ({...room, joined: {}, left: []}));
        },

        // Forgets the rooms of all other channels. Without this, a channel that is added again would start with changes.
        keep(channels) {
            [...rooms.keys()].filter((name) => !channels.includes(name)).forEach((name) => rooms.delete(name));
        },

        // Returns the room after a message of the server: {channel, members, count, anonymous, joined, left}. For a large
        // room the server sends only the count: its members are unknown until a whole list arrives.
        update({channel, members, joined = {}, left = [], count, anonymous = 0}) {
            const known = rooms.get(channel), before = known?.members || {};
            const isLarge = count != null || known?.isLarge && !members;
            const now = members || (isLarge ? {} : {...before, ...joined});
            left.forEach((user) => delete now[user]);
            const changed = isLarge ? Object.keys(joined).length - left.length : 0;
            const added = Object.entries(now).filter(([user]) => known && !known.isLarge && !Object.hasOwn(before, user));
            const room = {
                channel, anonymous, isLarge,
                members: now,
                count: count ?? (isLarge ? known.count + changed : Object.keys(now).length),
                joined: Object.fromEntries(added),
                left: isLarge ? [] : Object.keys(before).filter((user) => !Object.hasOwn(now, user))
            };
            rooms.set(channel, room);
            return room;
        }
    };
}
