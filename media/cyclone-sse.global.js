/* Made from cyclone-sse.js, for pages and workers without modules: sets the global cycloneSSE. */
(function () {
'use strict';

/*
 * cyclone-sse.js: server-sent events for pages and Node.js, without dependencies. Types: cyclone-sse.d.ts.
 *
 *     import {connect} from '/media/cyclone-sse.js';
 *     const stream = connect('/sse/', {channels: ['news'], shared: true});
 *     stream.on('message', (event) => show(event.json));
 *     stream.on('gap', ({channels}) => reload(channels));
 *
 * It reads the stream with fetch, where EventSource shows neither the status of a refusal nor a proxy's error
 * page, and cannot send a token. Made from media/src: change the files there, and run `make docs`.
 */

/* Ids of events: <ms>-<n>-<node>, in order among those of one node. Numbers of up to 64 bits, so compared as text. */

const ID = /^(\d+)-(\d+)-(.+)$/s;

function parse(id) {
    const [, ms, number, node] = ID.exec(id === 'earliest' ? '0-0-earliest' : id) || [];
    return node && {node, order: ms.padStart(20, '0') + number.padStart(20, '0')};
}

// The earlier of two ids; the first if one of them does not have this form.
function earlier(one, other) {
    const [a, b] = [parse(one), parse(other)];
    return a && b && b.order < a.order ? other : one;
}

// Whether an event with this id comes after the position `mark`. Ids of another node are new, unless they are equal.
function isAfter(id, mark) {
    const [a, b] = [parse(id), parse(mark)];
    return a && b && a.node === b.node ? a.order > b.order : !mark || id !== mark;
}

const later = (id, mark) => id && isAfter(id, mark) ? id : mark;

/* The timers of the module, all of which are limited by `delay`. */

const SHORTEST = 500;        // ms between two attempts
const LONGEST = 60 * 60 * 1000;     // ms

// Bounds a time in ms. Without this, `retry: 0` would connect hundreds of times a second, and so would a time of more
// than 24.8 days, which overflows the browser's timers to none.
function delay(ms, least = SHORTEST) {
    return Math.min(Math.max(ms, least) || least, LONGEST);
}

const onAbort = (signal, react) => signal.addEventListener('abort', react, {once: true});

// Waits; returns early if the signal is aborted. Each pause replaces the one before: without this, the pauses between
// thousands of empty polls would each leave a listener on their one signal.
function pause(ms, signal) {
    return new Promise((resolve) => {
        const timer = setTimeout(resolve, delay(ms, 0));
        signal.onabort = () => { clearTimeout(timer); resolve(); };
    });
}

// Settles like the promise of the function, but fails as soon as the signal is aborted.
function raced(signal, ask) {
    return new Promise((resolve, reject) => {
        onAbort(signal, () => reject(signal.reason));
        Promise.resolve().then(ask).then(resolve, reject);
    });
}

// Returns expect(ms, reason), which aborts the controller with this reason unless it is called again in time.
function makeWatchdog(controller) {
    let timer = 0;
    onAbort(controller.signal, () => clearTimeout(timer));
    return (ms, reason) => {
        clearTimeout(timer);
        const fault = Object.assign(new Error(reason), {isSilence: true});
        timer = setTimeout(() => controller.abort(fault), delay(ms));
    };
}

/*
 * The format of event streams (WHATWG HTML 9.2.6): pieces of text in, blocks out.
 *
 * A block is {type, data, channels, except, id, own}: own is true if the block has an id of its own. The data ends with
 * a line break, and is empty if the block is not an event.
 */

// The types of the server's own events.
const GAP = 'sse-gap', EXPIRED = 'sse-expired', PRESENCE = 'sse-presence';

const newBlock = () => ({type: '', data: '', channels: [], except: '', own: false});

// Returns a function that returns the blocks which a piece of text completes.
function makeParser(onRetry) {
    let rest = '', endedWithCR = false, id = '', block = newBlock();

    function readField(line) {
        const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
        if (field === 'data') {
            block.data += value + '\n';
        } else if (field === 'event') {
            block.type = value;
        } else if (field === 'channel') {
            block.channels.push(value);
        } else if (field === 'except') {
            block.except = value;
        } else if (field === 'id' && !value.includes('\0')) {
            id = value;
            block.own = true;
        } else if (field === 'retry' && /^\d+$/.test(value)) {
            onRetry(Number(value));
        }
    }

    return (text) => {
        const blocks = [], lines = (endedWithCR && text[0] === '\n' ? text.slice(1) : text).split(/\r\n?|\n/);
        endedWithCR = text ? text.endsWith('\r') : endedWithCR;
        lines[0] = rest + lines[0];     // only what is new is searched: a large event comes in many pieces
        rest = lines.pop();
        lines.forEach((line) => {
            if (line) {
                readField(line);
            } else {
                blocks.push({...block, type: block.type || 'message', id});
                block = newBlock();
            }
        });
        return blocks;
    };
}

// The value of a text, or undefined if the text is not JSON.
function asJSON(text) {
    try {
        return JSON.parse(text);
    } catch {
        return undefined;
    }
}

// The event that tabs are sent for a block of a stream with these channels. A line break would end the line `channel:`,
// so the server encodes the names that have one.
function toEvent(block, known) {
    const channels = block.channels.map((name) =>
        known.includes(name) ? name : name.replace(/%(0A|0D|25)/g, decodeURIComponent));
    return {...block, channels, data: block.data.slice(0, -1)};
}

/* One request for a stream, or for the states at the start of a stream. Fails with the server's refusal. */


const STREAM_TYPE = /^text\/event-stream\s*(;|$)/i;

// Times to wait in ms, as in Retry-After: a number of seconds, or a date.
const retryAfter = (text) => (/^\d+$/.test(text) ? text * 1000 : Date.parse(text) - Date.now()) || 0;

async function refusal(response) {
    const {status, headers} = response;
    const body = /json/.test(headers.get('Content-Type')) ? await response.json().catch(() => null) : null;
    const fault = new Error(body?.reason || (status === 200 ? 'not an event stream' : 'HTTP ' + status));
    fault.status = status;
    fault.pause = retryAfter(headers.get('Retry-After'));
    return fault;
}

// query: {name: value or values}, those that are empty are left out; poll: one answer is enough, when there is an event.
async function request(address, query, {method, token, poll, signal, credentials}) {
    const to = new URL(address), headers = {Accept: 'text/event-stream'};
    Object.entries(query).forEach(([name, values]) =>
        [values].flat().forEach((value) => value && to.searchParams.append(name, value)));
    if (token) {
        headers.Authorization = 'Bearer ' + token;
    }
    if (poll) {
        headers['X-Requested-With'] = 'XMLHttpRequest';
    }
    const response = await fetch(to, {method, headers, signal, cache: 'no-store', credentials});
    if (response.status === 200 && STREAM_TYPE.test(response.headers.get('Content-Type'))) {
        return response;
    }
    throw await refusal(response);
}

// The position at which an answer starts.
const positionOf = (response) => response.headers.get('Last-Event-ID') || '';

// The blocks of an answer. onBytes: called with each piece of the body; onRetry: with a reconnection time in ms.
async function* readBlocks(response, onBytes, onRetry) {
    const decoder = new TextDecoder(), reader = response.body.getReader(), parse = makeParser(onRetry);
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
        onBytes();
        yield* parse(decoder.decode(piece.value, {stream: true}));
    }
}

// Reads the start of an answer to a request without an id: the states, then the position after which the stream goes
// on. Returns this position, the states, and the other blocks that came with them.
async function readStates(blocks) {
    const states = [], others = [];
    for (;;) {
        const {value: block, done} = await blocks.next();
        if (done) {
            throw new Error('ended before all states');
        }
        if (block.own && !block.data) {
            return {start: block.id, states, others};
        }
        if (block.data) {
            (block.own ? states : others).push(block);
        }
    }
}

/* The members of each channel, from the server's sse-presence events: first the whole list, then the changes. */

const size = (members) => Object.keys(members).length;
const isPartial = ({members, count}) => count > size(members);

function makeRooms() {
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
function withChanges(room, before) {
    const from = before && !isPartial(before) && !isPartial(room) ? before : room;
    const missing = (some, others) => Object.entries(some.members).filter(([user]) => !Object.hasOwn(others.members, user));
    return {...room, joined: Object.fromEntries(missing(room, from)), left: missing(from, room).map(([user]) => user)};
}

/*
 * A link: one connection after another, for one tab or for several that share it.
 *
 * A tab wants {marks, presence}. Its marks are {channel: id up to which the tab has everything}; '' stands for the
 * position of the link, and null for a channel that starts with the next connection. The link continues after the
 * earliest of its own position and all marks, so it may go back for a tab: each tab drops what it has seen.
 *
 * The link sends these messages with `publish`, each to some of its `tabs`:
 *   {names, start, states}: these of your channels start; {isOpen, names, start, states, rooms}: a connection brings these;
 *   {event}, {room}: for the tabs that follow the link, which have marks that are ''; {state, reason, status}.
 */

const GATHER = 50;      // ms to collect what several tabs want, before one connection is made for all
const FIRST_RETRY = 1000;       // ms, until the server sends another
const LONGEST_RETRY = 30000;    // ms
const STEADY = 5000;            // ms after which a connection counts as a success, and delays start again
const FIRST_BYTE = 15000;       // ms for the first byte of a stream: the server sends it at once
const SILENT_STREAMS = 2;       // streams without a byte after which a proxy is taken to hold them back
const REMOVAL = 1000;           // ms before channels are given up: a page that reloads wants them again
const REFUSALS = 3;             // 401 in a row after which no new token is asked for
const PERMANENT = [400, 403, 404, 410, 414];    // and 204, and 401 where no other token is to be had

// options: those of `connect`. silence: ms without a byte after which a connection is closed. me: the tab that connects.
// isShared: others may come. parent: `handOver()` is called when there is no token, and returns true if another tab
// connects from now on; `onTooLarge(count)`: the tabs together have so many channels, more than the server accepts, and
// some of them must leave the link; `onRefused(id)`: this tab must too, and has been stopped.
function makeLink({address, options, silence, me, isShared, askToken, publish, ...parent}) {
    const gather = isShared ? GATHER : 0, client = isShared ? '' : me;
    const tabs = new Map();     // id: wants
    const rooms = makeRooms();
    let at = '';                // the position: the id of the last event read
    let newest = '';            // the latest position so far, at which new channels start,
    let knowsNow = false;       // unless the link goes through the history: then they need a request of their own
    let attempt = null;         // the next connection: {controller, expect, channels, presence, since, hasBytes}
    let open = null;            // the open one
    let retry = FIRST_RETRY, failures = 0, refusals = 0, asksEach = false, silentStreams = 0;
    let wasOpen = false, heard = 0, last = null;    // the state published last, unless the link is open
    let timer = 0, isWaiting = false, notBefore = 0;    // of a wait after a failure: when it may be cut short

    const all = () => [...tabs.values()];
    const namesIn = (some) => [...new Set(some.flatMap(({marks}) => Object.keys(marks)))];
    const wanted = () => namesIn(all());
    const followers = () => [...tabs.keys()].filter((id) => Object.values(tabs.get(id).marks).includes(''));
    const polls = () => options.poll === true || options.poll !== false && silentStreams >= SILENT_STREAMS;
    const wantsPresence = () => !polls() && all().some(({presence}) => presence);
    const isOpenFor = (names) => Boolean(open) && names.every((name) => open.channels.includes(name));
    const reach = (id) => { newest = later(id, newest); };
    const moveTo = (id) => { at = id; reach(id); };
    const mustBeAdmitted = ({marks}) => Object.entries(marks).some(([name, mark]) =>
        mark === null && (options.state || !knowsNow || !isOpenFor([name])));

    function position(some = all()) {
        const marks = some.flatMap((wants) => Object.values(wants.marks));
        return marks.filter(Boolean).reduce((one, other) => one ? earlier(one, other) : other, at);
    }

    // Whether the open connection brings these channels, and everything that the tabs still need of theirs.
    const suffices = (names) => isOpenFor(names) && open.presence >= wantsPresence() && position() === at;

    // Whether the open connection brings everything after the marks of a tab. It does not for a tab that came while the
    // connection was being requested: if such a tab followed, events after its marks would be missing.
    function serves(wants) {
        const {marks} = wants;
        return position([wants]) === at && isOpenFor(Object.keys(marks).filter((name) => marks[name]));
    }

    function setState(state, {message: reason, status} = {}) {
        last = {state, reason, status};
        publish({tabs: [...tabs.keys()], ...last});
    }

    function drop() {
        open?.controller.abort();
        open = null;
    }

    function connectIn(ms) {
        clearTimeout(timer);
        timer = setTimeout(connect, delay(ms, 0));
    }

    function cancelAttempt() {
        clearTimeout(timer);
        timer = 0;
        isWaiting = false;
        attempt?.controller.abort();
        attempt = null;
    }

    function stop() {
        cancelAttempt();
        drop();
    }

    function ask(channels, lastEventId, {presence, ...how}) {
        const [state, members] = [options.state, presence].map((isWanted) => isWanted && '1');
        // The id is not sent as a header, which would cost a preflight on another origin.
        const query = {channels, fields: 'channel', state, presence: members, client, lastEventId};
        return request(address, query, {credentials: options.credentials, ...how});
    }

    // ---- Before the connection: is a tab authorised for its new channels, and where do they start? ----

    // Sends a separate request. Without this, the refusal of one tab would end the streams of the others.
    async function admit(id, token, {controller, expect}) {
        const before = tabs.get(id).marks, names = Object.keys(before), probe = new AbortController();
        const {signal} = probe, onBytes = () => expect(silence, 'no answer');
        onAbort(controller.signal, () => probe.abort(controller.signal.reason));
        onBytes();      // the server has answered for the tab before
        try {
            const how = polls() && !options.state ? {method: 'HEAD'} : {poll: polls()};
            const response = await ask(names, '', {token, signal, ...how});
            const {start, states} = options.state ? await readStates(readBlocks(response, onBytes, () => {})) :
                {start: positionOf(response), states: []};
            if (!signal.aborted && tabs.has(id)) {
                const {marks} = tabs.get(id);
                const starting = names.filter((name) => before[name] === null && marks[name] === null);
                reach(start);
                knowsNow = true;
                starting.forEach((name) => { marks[name] = start; });
                publish({tabs: [id], names: starting, start, states: states.map((block) => toEvent(block, names))});
            }
        } catch (fault) {
            if (!PERMANENT.includes(fault.status) || tabs.has(id) && tabs.size < 2) {
                throw fault;
            }
            if (tabs.has(id)) {     // the refusal of a tab that has left must not stop the one that stays
                refuse(id, fault);
            }
        } finally {
            probe.abort();
        }
    }

    function refuse(id, {message: reason, status}) {
        publish({tabs: [id], state: 'stopped', reason, status});
        parent.onRefused(id);
    }

    async function admitTabs(token, trial) {
        const asked = new Set();
        const next = () => (position() || asksEach) && [...tabs.keys()].find((id) =>
            !asked.has(id) && namesIn([tabs.get(id)]).length && (asksEach || mustBeAdmitted(tabs.get(id))));
        for (let id = next(); id; id = next()) {
            asked.add(id);
            await admit(id, token, trial);
            trial.controller.signal.throwIfAborted();
        }
    }

    // ---- The connection ----

    // From here on the tabs follow the link, if it brings all that they need. New channels start at its latest position,
    // if it is known, and with their states, if these are wanted. known: the rooms whose members the server has sent.
    function greet(known, states) {
        const start = options.state && !states || !knowsNow ? null : newest;
        const served = [...tabs].filter(([, wants]) => serves(wants));
        served.forEach(([, {marks}]) => Object.keys(marks).forEach((name) => {
            marks[name] = isOpenFor([name]) && (marks[name] ?? start) !== null ? '' : marks[name];
        }));
        last = null;
        const ids = served.map(([id]) => id);
        publish({tabs: ids, isOpen: true, names: open.channels, start, states: states || [], rooms: known});
    }

    function handle(block, {controller, channels}) {
        controller.signal.throwIfAborted();     // the next connection continues before this block
        if (block.own) {    // a stream has its events in the order of their ids
            moveTo(block.id);
        }
        if (block.type === EXPIRED) {
            throw new Error('expired');
        } else if (block.type === PRESENCE) {
            const message = asJSON(block.data);
            if (message) {
                publish({tabs: followers(), room: rooms.update(message)});
            }
        } else if (block.data) {
            publish({tabs: followers(), event: toEvent(block, channels)});
        }
    }

    // Reads one connection to its end, which is a failure.
    async function listen(trial, token) {
        const {controller: {signal}, expect} = trial;
        drop();
        const channels = wanted(), presence = wantsPresence(), from = position(), isBlind = wasOpen && !from;
        const needsStates = options.state && !from, poll = polls();
        const patience = poll || options.poll === false ? silence : Math.min(silence, FIRST_BYTE);
        const onBytes = () => {
            heard = Date.now();
            trial.hasBytes = true;
            silentStreams = poll ? silentStreams : 0;
            expect(silence, 'silent');
        };
        const blocksOf = (response) => readBlocks(response, onBytes, (ms) => { retry = delay(ms); });
        Object.assign(trial, {channels, presence});
        rooms.keep(channels);
        expect(patience, 'no answer');
        // A proxy may hold a poll back until there is an event; HEAD tells the position at once.
        const start = poll && !needsStates &&
            await ask(channels, from, {token, signal, method: 'HEAD'}).then(positionOf, () => '');
        const response = start ? null : await ask(channels, from, {token, signal, poll, presence});
        let blocks = response && blocksOf(response);
        const first = needsStates ? await readStates(blocks) :
            {start: from || start || positionOf(response), others: []};
        signal.throwIfAborted();
        knowsNow = !from || knowsNow && from === at;
        moveTo(first.start);
        [attempt, open, refusals, asksEach, wasOpen, heard] = [null, trial, 0, false, true, Date.now()];
        trial.since = heard;
        expect(patience, 'silent');
        greet([], first.states?.map((block) => toEvent(block, channels)));
        first.others.forEach((block) => handle(block, trial));
        adjust();       // to what the tabs want since
        if (isBlind) {  // there was no id to continue from: what was missed is not known
            publish({tabs: followers(), event: {type: GAP, data: JSON.stringify({channels}), channels: []}});
        }
        for (let hasEvents = needsStates;; hasEvents = false) {
            blocks = blocks || blocksOf(await ask(channels, at, {token, signal, poll}));
            for await (const block of blocks) {
                hasEvents = hasEvents || Boolean(block.data);
                handle(block, trial);
            }
            if (!poll) {
                throw new Error('ended');
            }
            blocks = null;
            expect(retry + silence, 'silent');
            await (hasEvents || pause(retry, signal));
        }
    }

    // Replaces the open connection, if any, which is read until the next one can be requested.
    async function connect() {
        cancelAttempt();
        if (!wanted().length) {
            drop();
            [at, wasOpen] = ['', false];    // without this, a channel added much later would start with a gap
            setState('waiting', new Error('no channels'));
            return;
        }
        const controller = new AbortController(), expect = makeWatchdog(controller);
        const trial = attempt = {controller, expect, hasBytes: false};
        try {
            if (!open) {
                setState('connecting');
            }
            expect(silence, 'no answer');
            const token = await raced(controller.signal, askToken).catch((fault) => {
                throw Object.assign(new Error(fault?.message || fault), {isToken: true});
            });
            await admitTabs(token, trial);
            if (suffices(wanted()) && !isTooWide()) {
                attempt = null;
                greet(rooms.all);
                adjust();
            } else {
                await listen(trial, token);
            }
        } catch (fault) {
            failed(fault, trial);
        } finally {
            controller.abort();
        }
    }

    // ---- After the connection ----

    function failed(fault, trial) {
        const {status, message, isToken, isSilence, pause: told = 0} = fault;
        const wasOpened = open === trial, isPermanent = PERMANENT.includes(status);
        const isUnauthorised = status === 401 || message === 'expired';
        if (wasOpened) {
            failures = Date.now() - open.since > STEADY ? 0 : failures;
            drop();
        }
        if (attempt !== (wasOpened ? null : trial)) {
            return;     // the next one is under way
        }
        attempt = null;
        if (polls() && !isUnauthorised) {
            silentStreams = SILENT_STREAMS - 1;     // perhaps on another network: one stream is tried
        } else if (isSilence && trial.channels && !trial.hasBytes) {
            silentStreams += 1;     // a proxy delays streams that stay without a byte: long polls, which end, are not delayed
        }
        if (isWaiting) {
            setState('waiting', fault);
            return;
        }
        refusals += status === 401;
        if (isToken && parent.handOver()) {
            return;
        }
        if (status === 204 || status === 401 && (typeof options.token !== 'function' || refusals > REFUSALS)) {
            refuse(me, fault);      // the token of another tab may be valid
            return;
        }
        if (isPermanent && !trial.channels?.some((name) => !wanted().includes(name))) {     // not for a tab that has left
            if (tabs.size < 2) {
                refuse([...tabs.keys()][0], fault);
                return;
            }
            if (asksEach) {     // each alone is welcome
                parent.onTooLarge(wanted().length);
            }
        }
        asksEach = isPermanent && !asksEach;
        const isFree = isPermanent || !failures && isUnauthorised;
        const longest = Math.min(Math.max(LONGEST_RETRY, retry), retry * 2 ** failures);
        failures += isPermanent ? 0 : 1;
        notBefore = Date.now() + delay(told, 0);
        connectIn(isFree ? 0 : delay(Math.max(told, longest * (0.5 + Math.random() / 2))));
        isWaiting = true;
        if (!open) {
            setState('waiting', fault);
        }
    }

    // ---- Tabs ----

    // Whether the connection has channels that no tab wants, if it has all that they want.
    const isTooWide = () => wanted().length < open?.channels.length;

    // Connects again if the tabs want anything else than they have. An attempt under way is not replaced: without this, a
    // page that changes its channels faster than the server answers would never have any of them.
    function adjust() {
        if (attempt || isWaiting) {
            return;
        }
        if (!suffices(wanted()) || all().some(mustBeAdmitted)) {
            connectIn(gather);
        } else if (isTooWide() && !timer) {
            connectIn(gather && REMOVAL);
        }
    }

    return {
        stop,
        // The channels that the link needs without this tab.
        namesWithout: (id) => namesIn([...tabs].filter(([tab]) => tab !== id).map(([, wants]) => wants)),
        update(id, {marks, presence}) {
            const before = tabs.get(id), names = Object.keys(marks), isNew = (name) => before?.marks[name] === undefined;
            names.forEach((name) => {   // what follows the link goes on to do so
                marks[name] = before?.marks[name] === '' ? '' : marks[name] ?? before?.marks[name] ?? null;
            });
            if (names.some(isNew)) {   // it counts as the last that came
                tabs.delete(id);
            }
            const wants = {marks, presence};
            tabs.set(id, wants);
            if (suffices(names) && !mustBeAdmitted(wants)) {
                greet(rooms.all);
            } else if (last) {
                publish({tabs: [id], ...last});
            }
            adjust();
        },
        // Returns the channels of the tab with its positions.
        remove(id) {
            const wants = tabs.get(id), {marks} = wants;
            Object.keys(marks).forEach((name) => { marks[name] = marks[name] === '' ? at : marks[name]; });
            tabs.delete(id);
            adjust();
            return wants;
        },
        wake() {
            if (isWaiting ? Date.now() >= notBefore : open && Date.now() - heard > silence) {
                drop();
                connect();
            }
        }
    };
}

/*
 * The links of one tab, or of all tabs that share connections.
 *
 * Tabs share a link as long as the server accepts all their channels in one request. Otherwise the last tab gets
 * another link, so that the channels of one tab do not limit those of others.
 */

const MOST_CHANNELS = 400;      // of one link; the server's --max-channels is 500
const MOST_BYTES = 6000;        // of their names in the address; common proxies accept 8 KiB

const bytes = (names) => names.reduce((sum, name) => sum + encodeURIComponent(name).length + '&channels='.length, 0);

// settings: those of makeLink, except the last two of its functions. handOver(tabs): with the number of all tabs.
function makeHub(settings) {
    const linkOf = new Map();   // tab: link
    let most = MOST_CHANNELS;

    const links = () => [...new Set(linkOf.values())];

    function hasRoom(link, id, names) {
        const others = link.namesWithout(id), all = [...new Set([...others, ...names])];
        return !others.length || all.length === others.length || all.length <= most && bytes(all) <= MOST_BYTES;
    }

    function newLink() {
        const link = makeLink({
            ...settings,
            handOver: () => settings.handOver(linkOf.size),
            onRefused: remove,
            onTooLarge(count) {     // with 1 less at a time, twenty tabs would send hundreds of requests
                const its = [...linkOf.keys()].filter((id) => linkOf.get(id) === link);
                most = Math.min(most, Math.floor(count * 3 / 4));
                do {
                    const id = its.pop();
                    assign(id, link.remove(id), link);
                } while (its.length > 1 && link.namesWithout().length > most);
            }
        });
        return link;
    }

    function assign(id, wants, full) {
        const names = Object.keys(wants.marks);
        const link = links().find((other) => other !== full && hasRoom(other, id, names)) || newLink();
        linkOf.set(id, link);
        link.update(id, wants);
    }

    function remove(id) {
        const link = linkOf.get(id);
        linkOf.delete(id);
        if (link && links().includes(link)) {
            link.remove(id);
        } else {
            link?.stop();
        }
    }

    return {
        // Returns whether the tab is new.
        update(id, wants) {
            const link = linkOf.get(id);
            if (link && hasRoom(link, id, Object.keys(wants.marks))) {
                link.update(id, wants);
            } else {
                remove(id);
                assign(id, wants, link);
            }
            return !link;
        },
        remove,
        wake() { links().forEach((link) => link.wake()); },
        stop() {
            links().forEach((link) => link.stop());
            linkOf.clear();     // without this, a tab that goes later would start its link again
        }
    };
}

/*
 * The tabs of a browser that share connections. One of them leads: it holds a Web Lock, connects, and passes on events
 * over a BroadcastChannel. When the leader closes, crashes or freezes, another tab leads.
 */

const TICK = 500;       // ms between two looks at whether the leader is there
const ASK = 2;          // ticks without a message from it before it is asked
const STEAL = 4;        // ticks after which it counts as frozen, and its lock is taken from it

// Requests a lock, calls `onHeld` when it is granted, and holds it until the signal is aborted.
function holdLock(name, how, signal, onHeld) {
    return navigator.locks.request(name, how, () => signal.aborted || new Promise((resolve) => {
        onAbort(signal, resolve);
        onHeld();
    }));
}

// Joins the tabs with this name, until `signal` is aborted. onLead() and onResign(): this tab is the leader, or no
// longer; onMessage(message): from another tab. Fails if the browser does not allow the page to share anything.
async function joinGroup(name, me, {signal, onLead, onResign, onMessage}) {
    let candidacy = new AbortController(), leads = false;
    let silent = 0;     // ticks since the last message of the leader, less than 0 while this tab leaves the lead to others
    await new Promise((resolve, reject) => { holdLock(name + me, {}, signal, resolve).then(reject, reject); });
    const channel = new BroadcastChannel(name);

    function lead() {
        leads = true;
        onLead();
    }

    // Waits for the lock, or steals it from a leader that is silent.
    async function stand(steal, absence = 0) {
        candidacy.abort();
        const mine = candidacy = new AbortController();
        silent = -absence / TICK;
        if (absence) {
            await pause(absence, mine.signal);
        }
        try {
            await holdLock(name, steal ? {steal} : {signal: mine.signal}, mine.signal, lead);
        } catch { /* another tab took it, or this one no longer waits for it */ }
        if (!mine.signal.aborted) {
            handOver(TICK);     // a browser that refuses at once would be asked without end, and the page would hang
        }
    }

    // Leaves the lead to another tab, and requests it again after this time in ms.
    function handOver(ms) {
        leads = false;
        onResign();
        stand(false, ms);
    }

    function look() {
        silent = leads ? 0 : silent + 1;
        if (silent >= STEAL) {
            stand(true);
        } else if (silent >= ASK) {
            channel.postMessage({ask: true});
        }
    }

    channel.onmessage = ({data}) => onMessage(data);
    const ticking = setInterval(look, TICK);
    onAbort(signal, () => {
        clearInterval(ticking);
        candidacy.abort();
        channel.close();
    });
    return {
        // Requests to lead from now on.
        stand() { stand(); },
        handOver,
        post(message) { channel.postMessage(message); },
        // Notices when another tab has gone, by the lock that the tab holds.
        onceGone(tab, react) { navigator.locks.request(name + tab, {signal}, react).catch(() => {}); },
        heard() { silent = Math.min(silent, 0); }
    };
}

/*
 * The stream of one tab.
 *
 * Of each channel it notes {name, begin, seen, linked, room}: the channel starts after the id `begin`, null while that
 * is not known; the tab has seen all events up to the id `seen`; linked: the link brings its events; room: its members,
 * as the page was shown them.
 */

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

function connect(url, options = {}) {
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

globalThis.cycloneSSE = {connect};
}());
