/*
 * The stream of one tab.
 *
 * Of each channel it notes {name, begin, seen, linked, room}: the channel starts after the id `begin`, null while that
 * is not known; the tab has seen all events up to the id `seen`; linked: the link brings its events; room: its members,
 * as the page was shown them.
 */
import {joinGroup} from './group.js';
import {makeHub} from './hub.js';
import {isAfter, later} from './ids.js';
import {GAP, asJSON} from './parser.js';
import {withChanges} from './rooms.js';
import {delay, makeWatchdog, raced} from './timers.js';

const VERSION = 3;      // of what tabs send each other: those of another version share nothing with these
const PING = 30000;     // ms, the server's --ping-interval unless the page names another
const TOKEN_PAUSE = 1000;   // ms for which a tab without a token leaves the lead to others, doubled with each failure
const OWN_TYPES = ['state', 'gap', 'presence'];     // of `on`: events that are called like these reach '*' alone

// The identity of a token: tabs share a connection if their tokens differ only in the times and the id.
function identity(token) {
    try {
        const text = token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/');
        const {exp, iat, nbf, jti, ...claims} = JSON.parse(atob(text));
        return claims;
    } catch {
        return token;
    }
}

function absolute(url) {
    try {
        return new URL(url, globalThis.document?.baseURI || globalThis.location?.href).href;
    } catch {
        throw new TypeError(`connect: '${url}' is not an absolute URL, which is needed outside of a page: ` +
            "'http://localhost:8888/'");
    }
}

const asList = (names) => (typeof names === 'string' ? [names] : [...names || []]).map(String);

export function connect(url, options = {}) {
    const address = absolute(url);
    const client = Array.from('12', () => Math.random().toString(36).slice(2)).join('') || '0';
    const silence = delay(2 * options.ping || 2 * PING);
    const listeners = new Map();    // type: functions
    const channels = new Map();     // name: channel
    const done = new AbortController();
    let life = new AbortController();   // of one visit: a page that is kept by the browser has several
    let passed = '';        // the last id that the linked channels have seen, if it is not noted in them
    const early = new Set();    // ids of events received while the link lacked a channel: it may bring them again for this one
    let lastEventId = options.lastEventId || '', state = '', closed = false, isLinked = false;
    let hub = null, group = null, term = 0, knownToken, tokenFailures = 0;

    const all = () => [...channels.values()];

    // ---- Events for the page ----

    function emit(type, event) {
        for (const handle of [...listeners.get(type) || []]) {
            try {
                handle(event);
            } catch (exception) {   // one handler's fault must not end the stream, nor stay hidden
                setTimeout(() => { throw exception; }, 0);
            }
        }
    }

    function setState(next, reason, status) {
        if (next !== state || next === 'waiting') {
            state = next;
            emit('state', {state, reason, status});
        }
    }

    // names: the channels of this tab to which the event was published.
    function emitEvent({type, data, id, channels: named}, names) {
        const event = {type, data, json: asJSON(data), lastEventId: id, channels: named.length ? names : []};
        if (!OWN_TYPES.includes(type)) {
            emit(type, event);
        }
        emit('*', event);
    }

    function hear(event) {
        const {type, data, id, own} = event, isGap = type === GAP;
        const named = isGap && asJSON(data)?.channels || event.channels;
        // A channel that the link does not have yet, since another tab is still being admitted, has seen nothing.
        let mine = (named.length ? named.map((name) => channels.get(name)) : all())
            .filter((channel) => channel && (own ? channel.linked : channel.begin !== null));
        if (own) {
            if (!isAfter(id, passed) || !isGap && early.has(id) || mine.some(({seen}) => !isAfter(id, seen))) {
                return;     // the connection went back, for a new channel or another tab
            }
            mine = mine.filter(({begin}) => isGap || isAfter(id, begin));
            passed = id;
            if (isLinked && isAfter(id, lastEventId)) {
                early.clear();
            } else if (mine.length) {
                early.add(id);
            }
            lastEventId = later(id, lastEventId);
        }
        const names = mine.map(({name}) => name);
        if (!mine.length || event.except === client) {
            return;
        }
        if (isGap) {
            emit('gap', {channels: names});
        } else {
            emitEvent(event, names);
        }
    }

    // Notes in all linked channels what they have seen. Not with each event: there may be hundreds of channels.
    function notePassed() {
        all().filter(({linked}) => linked).forEach((channel) => { channel.seen = later(passed, channel.seen); });
        passed = '';
    }

    function showMembers(room) {
        const channel = channels.get(room.channel);
        if (channel) {
            const before = channel.room;
            channel.room = room;
            emit('presence', withChanges(room, before));
        }
    }

    // Starts those of these channels that have not started, with their states if these were requested.
    function startAt(start, names, states) {
        const starting = names.filter((name) => channels.get(name)?.begin === null);
        starting.forEach((name) => { channels.get(name).begin = start; });
        lastEventId = lastEventId || start;     // where a page that loads now continues
        states.forEach((event) => {
            const mine = starting.filter((name) => channels.has(name) &&     // a handler may have removed it
                (!event.channels.length || event.channels.includes(name)));
            if (mine.length && !closed) {
                emitEvent(event, mine);
            }
        });
    }

    // ---- Messages of the tab that leads, which may be this one ----

    // Each leader has a higher term than the one before, and is sent the channels of each tab that hears it first. Messages
    // of earlier leaders are ignored: they are sent again.
    function receive(message) {
        if (closed || !(message.term >= term)) {
            return;
        }
        const isNew = message.term > term;
        if (isNew) {
            resign();
        }
        term = message.term;
        group?.heard();
        if (message.tabs?.includes(client)) {
            react(message);
        }
        if (isNew) {
            announce();
        }
    }

    function react({names, start, states, isOpen, rooms, event, room, state: next, reason, status}) {
        if (names && start !== null) {
            startAt(start, names, states);
        }
        if (isOpen) {
            notePassed();
            channels.forEach((channel) => { channel.linked = channel.begin !== null && names.includes(channel.name); });
            isLinked = all().every(({linked}) => linked);
        }
        if (isOpen && !closed && isLinked) {
            tokenFailures = hub ? 0 : tokenFailures;
            setState('open');
        }
        if (event) {
            hear(event);
        }
        rooms?.filter(({channel}) => !channels.get(channel)?.room).forEach(showMembers);
        if (room) {
            showMembers(room);
        }
        if (next) {
            setState(next, reason, status);
        }
        if (next === 'stopped') {
            end();
        }
    }

    function publish(message) {
        const sent = {...message, term};
        group?.post(sent);
        receive(sent);
    }

    // Sends the channels of this tab, and its positions in them.
    function announce() {
        if (closed) {
            return;
        }
        notePassed();
        const marks = Object.fromEntries(all().map(({name, begin, seen}) => [name, seen || begin]));
        const presence = Boolean(listeners.get('presence')?.size);
        toLeader({from: client, to: term, wants: {marks, presence}});
    }

    function toLeader(message) {
        if (hub) {
            serve(message);
        } else {
            group?.post(message);
        }
    }

    // ---- Leading ----

    async function askToken() {
        const token = knownToken || (typeof options.token === 'function' ? await options.token() : options.token);
        knownToken = '';
        return token;
    }

    function lead() {
        term = Math.max(Date.now(), term + 1) + Math.random();
        hub = makeHub({
            address, options, silence, askToken, publish,
            me: client,
            isShared: Boolean(group),
            // The token function of another tab may succeed.
            handOver(tabs) {
                if (group && tabs > 1) {
                    tokenFailures += 1;
                    group.handOver(delay(TOKEN_PAUSE * 2 ** tokenFailures));
                    return true;
                }
                return false;
            }
        });
        publish({});
        announce();
    }

    function resign() {
        hub?.stop();
        hub = null;
    }

    // What the leader does with a message of a tab. What a tab has sent to an earlier leader is out of date: it is sent again.
    function serve({from, to, wants, isAwake}) {
        const its = hub;
        if (from) {
            if (to === term && its.update(from, wants)) {
                group?.onceGone(from, () => its.remove(from));
            }
        } else if (isAwake) {
            its.wake();
        } else {
            publish({});
        }
    }

    function onMessage(message) {
        if (message.term) {
            receive(message);
        } else if (hub) {
            serve(message);
        }
    }

    async function share(signal) {
        const limit = new AbortController();
        makeWatchdog(limit)(silence, 'no token');
        try {
            knownToken = await raced(limit.signal, askToken);
        } finally {
            limit.abort();
        }
        const {shared, credentials} = options;
        const key = ['cyclone-sse', VERSION, address, shared, credentials, Boolean(options.state), identity(knownToken)];
        group = await joinGroup(JSON.stringify(key), client, {signal, onLead: lead, onResign: resign, onMessage});
        group.stand();
        term = 0;
        group.post({ask: true});    // a leader answers, whereupon this tab announces its channels
    }

    // ---- Start and stop ----

    async function start() {
        leave();
        const {signal} = life = new AbortController();
        setState('connecting');
        try {
            if (options.shared) {
                await share(signal);
                return;
            }
        } catch { /* no token, which the hub asks for again; or the browser lets this page share nothing */ }
        if (!signal.aborted) {
            lead();
        }
    }

    // Returns whether any of them is new.
    function addChannels(names, begin) {
        const more = asList(names).filter((name) => !channels.has(name));
        more.forEach((name) => channels.set(name, {name, begin, seen: '', linked: false, room: null}));
        isLinked = isLinked && !more.length;
        return more.length > 0;
    }

    function leave() {
        resign();
        life.abort();
        group = null;
    }

    function end() {
        closed = true;
        leave();
        done.abort();
    }

    const wake = () => toLeader({isAwake: true});

    function listenTo(target, type, handle) {
        target?.addEventListener?.(type, handle, {signal: done.signal});
    }

    listenTo(globalThis, 'online', wake);
    listenTo(globalThis.document, 'visibilitychange', () => document.visibilityState === 'visible' && wake());
    // Releases everything when the page is left, so that the browser may cache the page, and another tab leads at once.
    listenTo(globalThis, 'pagehide', leave);
    listenTo(globalThis, 'pageshow', ({persisted}) => persisted && start());
    addChannels(options.channels, options.lastEventId || null);
    Promise.resolve().then(() => closed || start());    // not at once: the page adds its listeners first

    return {
        get state() { return state; },
        get lastEventId() { return lastEventId; },
        get channels() { return [...channels.keys()]; },
        get client() { return client; },
        on(type, handle) {
            const handles = listeners.get(type) || new Set();
            listeners.set(type, handles.add(handle));
            if (type === 'presence' && handles.size === 1) {
                all().forEach((channel) => { channel.room = null; });
                announce();
            }
            return () => { handles.delete(handle); };
        },
        add(names) {
            if (addChannels(names, null)) {
                announce();
            }
        },
        remove(names) {
            if (asList(names).filter((name) => channels.delete(name)).length) {
                announce();
            }
        },
        close() {
            if (!closed) {
                setState('stopped', 'closed');
                end();
            }
        }
    };
}
