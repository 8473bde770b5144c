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
import {earlier, later} from './ids.js';
import {EXPIRED, GAP, PRESENCE, asJSON, toEvent} from './parser.js';
import {positionOf, readBlocks, readStates, request} from './request.js';
import {makeRooms} from './rooms.js';
import {delay, makeWatchdog, onAbort, pause, raced} from './timers.js';

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
export function makeLink({address, options, silence, me, isShared, askToken, publish, ...parent}) {
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
