/*
 * A link: one connection after another, for one tab or for several that share it.
 *
 * A tab wants {marks, presence}. Its marks are {channel: id up to which the tab has everything}; '' stands for the
 * position of the link, and null for a channel that starts with the next connection. The link continues after the
 * earliest of its own position and all marks, so it may go back for a tab: each tab drops what it has seen. The link
 * notes in `lists` the channels whose members it must still send to the tab.
 *
 * The link sends these messages with `publish`, each to some of its `tabs`: {starting, start, states}, {open, start, states},
 * {event}, {room}, {state, reason, status}. Events and rooms are for the tabs that follow the link: those that a
 * connection has served, and whose marks of the channels in that connection are ''.
 */
import {earlier, later} from './ids.js';
import {EXPIRED, GAP, PRESENCE, asJSON, makeParser, toEvent} from './parser.js';
import {readBlocks, readStates, request} from './request.js';
import {makeRooms} from './rooms.js';
import {delay, makeWatchdog, pause, raced} from './timers.js';

const FIRST_RETRY = 1000;       // ms, until the server sends another
const LONGEST_RETRY = 30000;    // ms
const STEADY = 5000;            // ms after which a connection counts as a success, and delays start again
const FIRST_BYTE = 15000;       // ms for the first byte of a stream: the server sends it at once
const SILENT_STREAMS = 2;       // streams without a byte after which a proxy is taken to hold them back
const REMOVAL = 1000;           // ms before channels are given up: a page that reloads wants them again
const REFUSALS = 3;             // 401 in a row after which no new token is asked for
const PERMANENT = [400, 403, 404, 410, 414];    // and 204, and 401 where no other token is to be had

// options: those of `connect`. silence: ms without a byte after which a connection is closed. gather: ms to collect the
// channels of several tabs. client: the id of the only tab, or ''. parent: `onTokenFault(fault)` returns true if another
// tab connects from now on; `onRefused(fault)`: the tab that connects has no right to any stream;
// `onTooLarge(id, count)`: the tabs together have more channels than the server accepts, and this tab must leave the
// link; `onStopped(id)`: the only tab was refused.
export function makeLink({address, options, silence, gather, client, askToken, publish, ...parent}) {
    const tabs = new Map();     // id: wants
    const rooms = makeRooms();
    const mayPoll = options.poll !== false, onlyPolls = options.poll === true;
    let at = '';                // the position: the id of the last event read
    let newest = '';            // the latest position so far, at which new channels start,
    let knowsNow = false;       // unless the link goes through the history: then they need a request of their own
    let open = null;            // the open connection: {controller, channels, presence, since}
    let attempt = null;         // the AbortController of the next one
    let retry = FIRST_RETRY, failures = 0, refusals = 0, asksEach = false, polls = onlyPolls, silentStreams = 0;
    let wasOpen = false, heard = 0, last = null;    // the state published last, unless the link is open
    let waiting = 0, swap = 0, notBefore = 0;   // timers, and the time before which no wait may be cut short

    const positionOf = (response) => response.headers.get('Last-Event-ID') || '';
    const namesOf = (marks) => Object.keys(marks);
    const wanted = () => [...new Set([...tabs.values()].flatMap(({marks}) => namesOf(marks)))];
    const followers = () => [...tabs.keys()].filter((id) => namesOf(tabs.get(id).marks).some((name) => tabs.get(id).marks[name] === ''));
    const wantsPresence = () => !polls && [...tabs.values()].some(({presence}) => presence);
    const isOpenFor = (names) => Boolean(open) && names.every((name) => open.channels.includes(name));
    const isBehind = () => position() !== at;
    const stop = () => { cancelAttempt(); drop(); };
    const reach = (id) => { newest = later(id, newest); };
    const moveTo = (id) => { at = id; reach(id); };
    const mustBeAdmitted = (marks) =>
        namesOf(marks).some((name) => marks[name] === null && (options.state || !knowsNow || !isOpenFor([name])));

    function position(all = [...tabs.values()]) {
        const marks = all.flatMap((wants) => Object.values(wants.marks));
        return marks.filter(Boolean).reduce((one, other) => one ? earlier(one, other) : other, at);
    }

    // Whether the open connection brings everything after the marks of a tab. It does not for a tab that came while the
    // connection was being requested: if such a tab followed, events after its marks would be missing.
    function serves(wants) {
        return position([wants]) === at && namesOf(wants.marks).every((name) => !wants.marks[name] || isOpenFor([name]));
    }

    function setState(state, {message: reason, status} = {}) {
        last = {state, reason, status};
        publish({tabs: [...tabs.keys()], ...last});
    }

    function drop() {
        open?.controller.abort();
        open = null;
    }

    function cancelAttempt() {
        clearTimeout(waiting);
        clearTimeout(swap);
        waiting = swap = 0;
        attempt?.abort();
        attempt = null;
    }

    function connectSoon(ms) {
        if (!waiting) {
            clearTimeout(swap);
            swap = setTimeout(connect, delay(ms, 0));
        }
    }

    function ask(channels, lastEventId, {presence, method, ...how}) {
        const parameters = channels.map((name) => ['channels', name]);
        const add = (name, value) => value && parameters.push([name, value]);
        add('fields', 'channel');
        add('state', options.state && '1');
        add('presence', presence && '1');
        add('client', client);
        add('lastEventId', lastEventId);    // not as a header, which costs a preflight on another origin
        const {credentials} = options;
        return request(address, parameters, {...how, method, poll: polls && !method, credentials});
    }

    // ---- Before the connection: is a tab authorised for its new channels, and where do they start? ----

    // Sends a separate request. Without this, the refusal of one tab would end the streams of the others.
    async function admit(id, token, controller, onBytes) {
        const {marks} = tabs.get(id), names = namesOf(marks), probe = new AbortController(), {signal} = probe;
        controller.signal.addEventListener('abort', () => probe.abort(controller.signal.reason));
        try {
            const response = await ask(names, '', {token, signal, method: polls && !options.state ? 'HEAD' : undefined});
            const {start, states} = options.state ? await readStates(readBlocks(response, onBytes, () => {})) :
                {start: positionOf(response), states: []};
            if (attempt === controller && tabs.get(id)?.marks === marks) {
                const starting = names.filter((name) => marks[name] === null);
                reach(start);
                knowsNow = true;
                starting.forEach((name) => { marks[name] = start; });
                publish({tabs: [id], starting, start, states: states.map((block) => toEvent(block, names))});
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
        tabs.delete(id);
        publish({tabs: [id], state: 'stopped', reason, status});
        parent.onStopped(id);
    }

    async function admitTabs(token, controller, onBytes) {
        const asked = new Set();
        const next = () => attempt === controller && (position() || asksEach) &&
            [...tabs].find(([, {marks}]) => !asked.has(marks) && (asksEach || mustBeAdmitted(marks)));
        for (let found = next(); found; found = next()) {
            const [id, {marks}] = found;
            asked.add(marks);
            onBytes();      // the server has answered for the tab before
            await admit(id, token, controller, onBytes);
        }
    }

    // ---- The connection ----

    // From here on the tabs follow the link. New channels start at its latest position, if it is known, and with their
    // states, if these are wanted. Returns the tabs that the link serves.
    function greet(states) {
        const start = options.state && !states || !knowsNow ? null : newest;
        const served = [...tabs].filter(([, wants]) => serves(wants));
        served.forEach(([, {marks}]) => namesOf(marks).filter((name) => isOpenFor([name])).forEach((name) => {
            marks[name] = marks[name] === null && start === null ? null : '';
        }));
        last = null;
        publish({tabs: served.map(([id]) => id), open: open.channels, start, states: states || []});
        return served;
    }

    // Greets the tabs that a connection serves which was there before: the server does not send the members again.
    function greetLater() {
        greet().forEach(([id, wants]) => {
            rooms.all.filter(({channel}) => wants.lists.includes(channel)).forEach((room) => publish({tabs: [id], room}));
            wants.lists = [];
        });
    }

    function handle(block, signal) {
        signal.throwIfAborted();    // the next connection continues before this block
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
            publish({tabs: followers(), event: toEvent(block, open.channels)});
        }
    }

    // A proxy may hold a poll back until there is an event; this tells the position at once.
    async function askPosition(channels, lastEventId, token, signal) {
        const response = await ask(channels, lastEventId, {token, signal, method: 'HEAD'}).catch(() => null);
        return response && positionOf(response);
    }

    async function newToken(signal) {
        try {
            return await raced(signal, askToken);
        } catch (fault) {
            throw Object.assign(new Error(fault?.message || String(fault)), {isToken: true});
        }
    }

    async function listen(trial, token, watchdog) {
        const {controller} = trial, {signal} = controller;
        drop();
        const channels = wanted(), presence = wantsPresence(), from = position(), isBlind = wasOpen && !from;
        const patience = polls || !mayPoll ? silence : Math.min(silence, FIRST_BYTE);
        Object.assign(trial, {isAsked: true, channels});
        rooms.keep(channels);
        watchdog.expect(patience, 'no answer');
        const onBytes = () => {
            heard = Date.now();
            trial.hasBytes = true;
            silentStreams = polls ? silentStreams : 0;
            watchdog.expect(silence, 'silent');
        };
        const blocksOf = (response) => readBlocks(response, onBytes, (ms) => { retry = delay(ms); });
        const needsStates = options.state && !from;
        const start = polls && !needsStates && await askPosition(channels, from, token, signal);
        const response = start ? null : await ask(channels, from, {token, signal, presence});
        let blocks = response && blocksOf(response);
        const first = needsStates ? await readStates(blocks) :
            {start: from || start || positionOf(response), others: []};
        if (attempt !== controller) {
            return;
        }
        knowsNow = !from || knowsNow && from === at;
        moveTo(first.start);
        [attempt, refusals, asksEach, wasOpen, heard] = [null, 0, false, true, Date.now()];
        open = {controller, channels, presence, since: heard};
        watchdog.expect(patience, 'silent');
        // The server sends the members now.
        greet(first.states?.map((block) => toEvent(block, channels))).forEach(([, wants]) => { wants.lists = []; });
        first.others.forEach((block) => handle(block, signal));
        replaceIfTooWide();     // a tab may have left meanwhile
        if (isBlind) {  // there was no id to continue from: what was missed is not known
            publish({tabs: followers(), event: {type: GAP, data: JSON.stringify({channels}), channels: []}});
        }
        for (let hasEvents = needsStates;; hasEvents = false) {
            blocks = blocks || blocksOf(await ask(channels, at, {token, signal}));
            for await (const block of blocks) {
                hasEvents = hasEvents || Boolean(block.data);
                handle(block, signal);
            }
            if (!polls) {
                throw new Error('ended');
            }
            blocks = null;
            watchdog.expect(retry + silence, 'silent');
            await (hasEvents || pause(retry, signal));    // each pause adds a listener to the signal
        }
    }

    // Replaces the open connection, if any, which is read until the next one can be requested.
    async function connect() {
        cancelAttempt();
        const controller = attempt = new AbortController(), {signal} = controller;
        const trial = {controller, isAsked: false, hasBytes: false}, watchdog = makeWatchdog(controller);
        try {
            if (!wanted().length) {
                drop();
                [at, wasOpen] = ['', false];    // without this, a channel added much later would start with a gap
                setState('waiting', new Error('no channels'));
                return;
            }
            if (!open) {
                setState('connecting');
            }
            const expectAnswer = () => watchdog.expect(silence, 'no answer');
            expectAnswer();
            const token = await newToken(signal);
            await admitTabs(token, controller, expectAnswer);
            if (attempt === controller && !isOpenAsWanted()) {
                await listen(trial, token, watchdog);
            } else if (attempt === controller) {
                attempt = null;
                greetLater();
            }
        } catch (fault) {
            failed(fault, trial);
        } finally {
            watchdog.clear();
            controller.abort();
        }
    }

    // ---- After the connection ----

    // A proxy delays streams that stay without a byte: long polls, which end, are not delayed.
    function choosePolls({isSilence, status, message}, {isAsked, hasBytes}) {
        if (isSilence && isAsked && !hasBytes) {
            silentStreams = polls ? 0 : silentStreams + 1;
        } else if (polls && status !== 401 && message !== 'expired') {
            silentStreams = SILENT_STREAMS - 1;     // perhaps on another network: one stream is tried
        }
        polls = onlyPolls || mayPoll && silentStreams >= SILENT_STREAMS;
    }

    function failed(fault, trial) {
        const {controller} = trial, wasOpened = open?.controller === controller;
        if (wasOpened) {
            failures = Date.now() - open.since > STEADY ? 0 : failures;
            drop();
        }
        if (attempt !== (wasOpened ? null : controller)) {
            return;     // the next one is under way
        }
        attempt = null;
        choosePolls(fault, trial);
        if (waiting) {  // or soon will be
            setState('waiting', fault);
            return;
        }
        const {status, message, pause: told = 0} = fault, isPermanent = PERMANENT.includes(status);
        refusals += status === 401;
        if (fault.isToken && parent.onTokenFault(fault)) {
            return;
        }
        if (status === 204 || status === 401 && (typeof options.token !== 'function' || refusals > REFUSALS)) {
            parent.onRefused(fault);
            return;
        }
        const isOld = trial.channels?.some((name) => !wanted().includes(name));     // those of a tab that has left
        if (isPermanent && tabs.size < 2 && !isOld) {
            stop();
            refuse([...tabs.keys()][0], fault);
            return;
        }
        if (isPermanent && asksEach && !isOld) {  // each alone is welcome
            parent.onTooLarge([...tabs.keys()].at(-1), wanted().length);
        }
        asksEach = isPermanent && !asksEach;
        const isFree = isPermanent || !failures && (status === 401 || message === 'expired');
        const longest = Math.min(Math.max(LONGEST_RETRY, retry), retry * 2 ** failures);
        failures += isPermanent ? 0 : 1;
        notBefore = Date.now() + delay(told, 0);
        waiting = setTimeout(connect, isFree ? 0 : delay(Math.max(told, longest * (0.5 + Math.random() / 2))));
        if (!open) {
            setState('waiting', fault);
        }
    }

    // ---- Tabs ----

    function isOpenAsWanted() {
        const names = wanted();
        return isOpenFor(names) && names.length === open.channels.length && open.presence >= wantsPresence() && !isBehind();
    }

    function replaceIfTooWide() {
        if (open && !swap && open.channels.some((name) => !wanted().includes(name))) {
            connectSoon(gather && REMOVAL);
        }
    }

    return {
        stop,
        // The channels that the link needs without this tab.
        namesWithout(id) {
            return [...new Set([...tabs].flatMap(([tab, {marks}]) => tab === id ? [] : namesOf(marks)))];
        },
        update(id, {marks, presence}) {
            const before = tabs.get(id), names = namesOf(marks), isNew = (name) => before?.marks[name] === undefined;
            const lists = names.filter((name) =>
                presence && (!before?.presence || isNew(name) || before.lists.includes(name)));
            names.forEach((name) => {   // what follows the link goes on to do so
                marks[name] = before?.marks[name] === '' ? '' : marks[name] ?? before?.marks[name] ?? null;
            });
            if (names.some(isNew)) {   // it counts as the last that came
                tabs.delete(id);
            }
            tabs.set(id, {marks, presence, lists});
            if (isOpenFor(names) && open.presence >= wantsPresence() && !isBehind() && !mustBeAdmitted(marks)) {
                greetLater();
                replaceIfTooWide();
                return;
            }
            if (last && !open) {
                publish({tabs: [id], ...last});
            }
            connectSoon(gather);
        },
        // Returns the channels of the tab with its positions.
        remove(id) {
            const wants = tabs.get(id), {marks} = wants;
            namesOf(marks).forEach((name) => { marks[name] = marks[name] === '' ? at : marks[name]; });
            tabs.delete(id);
            replaceIfTooWide();
            return wants;
        },
        wake() {
            if (waiting ? Date.now() >= notBefore : open && Date.now() - heard > silence) {
                drop();
                connect();
            }
        }
    };
}
