/*
 * cyclone-sse.js: server-sent events for pages of today, without dependencies. Types: cyclone-sse.d.ts.
 *
 *     import {connect} from '/media/cyclone-sse.js';
 *     const stream = connect('/sse/', {channels: ['news'], shared: true});
 *     stream.on('message', (event) => show(event.json));
 *     stream.on('gap', ({channels}) => loadAnew(channels));
 *
 * It reads the stream with fetch, where EventSource shows neither a refusal's status nor a proxy's error page,
 * and cannot send a token. The format is that of WHATWG HTML 9.2.6; `fields=channel` asks the server to name the
 * channels of each event.
 *
 * Two parts. A tab (`connect`) knows its channels and up to which id it has seen each of them. A hub (`makeHub`)
 * holds one connection for one tab or for many, and goes on after the id it got last; it may go back for a tab
 * that comes later, since each tab drops what it has seen. With `shared` the tabs of a browser elect one by a Web
 * Lock, which runs the hub and passes everything on by a BroadcastChannel; when it goes the next one takes over.
 *
 * cyclone-sse.global.js is made from this file: python -m tools.plain_module
 */

const FIRST_RETRY = 1000;   // ms, until the server says another
const LONGEST_RETRY = 30000;    // ms
const STEADY = 5000;    // ms after which a connection counts as a success, and delays begin anew
const PING = 30000;     // ms, the server's --ping-interval unless the page says another
const TICK = 500;       // ms, how often a tab looks whether the leading one is there
const ASK = 2;          // ticks without a word from it after which it is asked
const GIVE_UP = 4;      // and after which it counts as frozen
const GATHER = 50;      // ms to gather what several tabs want, before one connection is made for all
const PART = 1000;      // ms before channels that nobody wants any more are let go: a page may come back with them
const REFUSALS = 3;     // 401 in a row after which a new token is not asked for any more

// ---- Ids: <ms>-<n>-<node>, in order among those of one node ----

const parts = (id) => id === 'earliest' ? [0, 0, 0, ''] : /^(\d+)-(\d+)-(.+)$/.exec(id) || [];
const difference = (one, other) => one[1] - other[1] || one[2] - other[2];
const earlier = (one, other) => difference(parts(other), parts(one)) < 0 ? other : one;

function after(id, mark) {
    const [one, other] = [parts(id), parts(mark)];
    return one[3] && one[3] === other[3] ? difference(one, other) > 0 : !mark || id !== mark;
}

// ---- The format: pieces of text in, blocks out ----

function parser(onBlock, onRetry) {
    let rest = '', afterCR = false, id = '', block;
    const begin = () => { block = {type: '', data: '', channels: [], own: false}; };

    function line(text) {
        if (!text) {
            onBlock({...block, type: block.type || 'message', id});
            begin();
            return;
        }
        const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(text);
        if (field === 'data') {
            block.data += value + '\n';
        } else if (field === 'event') {
            block.type = value;
        } else if (field === 'channel') {
            block.channels.push(value);
        } else if (field === 'id' && !value.includes('\0')) {
            id = value;
            block.own = true;
        } else if (field === 'retry' && /^\d+$/.test(value)) {
            onRetry(Number(value));
        }
    }

    begin();
    return (text) => {
        const lines = (rest + (afterCR && text[0] === '\n' ? text.slice(1) : text)).split(/\r\n|\n|\r/);
        afterCR = text ? text.endsWith('\r') : afterCR;
        rest = lines.pop();
        lines.forEach(line);
    };
}

// ---- The hub: one connection after another, for all tabs that have said hello ----
// A tab's marks: {channel: the id up to which it has all, '' if that is not known, null for one that begins now}.
// tell(message) is what all tabs hear: {open, start}, {state, reason, status}, {event}, {refused, reason, status}.

function makeHub(address, options, gather, getToken, tell) {
    const silence = 2 * (options.ping || PING);
    const tabs = new Map();     // id: marks
    let at = '';        // the id after which the next connection goes on
    let link = null, covered = null;    // the open connection's AbortController, and its channels
    let attempt = null;                 // that of the connection to come
    let retry = FIRST_RETRY, failures = 0, refusals = 0, eachAlone = false;
    let opened = 0, heard = 0, last = null;     // times in ms; the state told last, if it is not open
    let waiting = 0, notBefore = 0, swap = 0, quiet = 0;    // timers, and the time before which none may end

    const wanted = () => [...new Set([...tabs.values()].flatMap(Object.keys))];
    const isCovered = (channel) => covered?.includes(channel);
    const abortable = (controller, reason) => setTimeout(() => controller.abort(new Error(reason)), silence);

    function tellState(state, {message: reason, status} = {}) {
        last = {state, reason, status};
        tell(last);
    }

    function expectBytes(controller) {
        heard = Date.now();
        clearTimeout(quiet);
        quiet = abortable(controller, 'silent');
    }

    function drop() {
        clearTimeout(quiet);
        link?.abort();
        link = covered = null;
    }

    function halt() {
        clearTimeout(waiting);
        clearTimeout(swap);
        waiting = swap = 0;
        attempt?.abort();
        attempt = null;
    }

    function stop() {
        halt();
        drop();
    }

    function soon(ms) {
        if (!waiting) {
            clearTimeout(swap);
            swap = setTimeout(go, ms);
        }
    }

    // Asks for a stream of these channels; fails with what the server, or a proxy before it, says instead.
    async function request(channels, lastEventId, token, {signal}) {
        const to = new URL(address), headers = {Accept: 'text/event-stream'};
        channels.forEach((channel) => to.searchParams.append('channels', channel));
        to.searchParams.set('fields', 'channel');
        if (lastEventId) {  // not as a header, which costs a preflight on another origin
            to.searchParams.set('lastEventId', lastEventId);
        }
        if (token) {
            headers.Authorization = 'Bearer ' + token;
        }
        const response = await fetch(to, {headers, signal, cache: 'no-store', credentials: options.credentials});
        const {status} = response, kind = response.headers.get('Content-Type') || '';
        if (status === 200 && /^text\/event-stream\s*(;|$)/i.test(kind)) {
            return response;
        }
        const told = /json/.test(kind) ? await response.json().catch(() => null) : null;
        const pause = response.headers.get('Retry-After');
        const fault = new Error(told?.reason || (status === 200 ? 'not an event stream' : 'HTTP ' + status));
        fault.status = status;
        fault.pause = (/^\d+$/.test(pause) ? pause * 1000 : Date.parse(pause) - Date.now()) || 0;
        throw fault;
    }

    // Asks, beside the open connection, whether a tab may hear what it wants, and where the server is now: so one that
    // is refused takes no other with it, and what came before it asked is not told to it.
    async function admit(id, channels, token, controller) {
        const probe = new AbortController();
        controller.signal.addEventListener('abort', () => probe.abort(controller.signal.reason));
        try {
            return (await request(channels, '', token, probe)).headers.get('Last-Event-ID');
        } catch (fault) {
            if (fault.status !== 403 || tabs.size < 2) {
                throw fault;
            }
            tabs.delete(id);
            tell({refused: id, reason: fault.message, status: 403});
            return '';
        } finally {
            probe.abort();
        }
    }

    // The tabs whose channels begin with the next connection learn where: at the id `start`.
    function greet(start) {
        tabs.forEach((marks) => Object.keys(marks).filter(isCovered).forEach((channel) => {
            marks[channel] = marks[channel] || '';
        }));
        last = null;    // what is open is greeted
        tell({open: covered, start});
    }

    async function read(response, controller) {
        const decoder = new TextDecoder(), reader = response.body.getReader();
        const feed = parser((block) => {
            if (controller.signal.aborted) {
                return;     // the next connection goes on from the block before this one
            }
            if (block.own) {
                at = block.id;
            }
            if (block.type === 'sse-expired') {
                controller.abort(new Error('expired'));
            } else if (block.data) {
                tell({event: {...block, data: block.data.slice(0, -1)}});
            }
        }, (ms) => { retry = ms; });
        for (;;) {
            const {done, value} = await reader.read();
            if (done) {
                throw new Error('ended');
            }
            expectBytes(controller);
            feed(decoder.decode(value, {stream: true}));
        }
    }

    // The next connection, in place of the open one if there is one: that is read until this one can be asked for.
    async function go() {
        halt();
        const controller = attempt = new AbortController();
        const stale = () => attempt !== controller;
        const limit = abortable(controller, 'no answer');
        try {
            if (!wanted().length) {
                drop();
                tellState('waiting', new Error('no channels'));
                return;
            }
            if (!covered) {
                tellState('connecting');
            }
            const token = await getToken();
            let start = '';
            for (const [id, marks] of at || eachAlone ? [...tabs] : []) {
                const names = Object.keys(marks);
                if (!stale() && (eachAlone || names.some((name) => marks[name] === null && !isCovered(name)))) {
                    const here = await admit(id, names, token, controller);
                    start = start || here;
                }
            }
            if (stale()) {
                return;
            }
            at = at && start ? earlier(at, start) : at;
            const channels = wanted(), blind = opened && !at;
            drop();
            const response = await request(channels, at, token, controller);
            if (stale()) {
                return;
            }
            clearTimeout(limit);
            [link, attempt, covered, opened] = [controller, null, channels, Date.now()];
            [refusals, eachAlone] = [0, false];
            at = at || response.headers.get('Last-Event-ID') || '';
            expectBytes(controller);
            greet(start || at);
            if (blind) {    // nobody knows what was missed meanwhile
                tell({event: {type: 'sse-gap', data: JSON.stringify({channels}), channels: []}});
            }
            await read(response, controller);
        } catch (fault) {
            failed(fault, controller);
        } finally {
            clearTimeout(limit);
            controller.abort();
        }
    }

    function failed(fault, controller) {
        const wasOpen = link === controller;
        if (wasOpen) {
            failures = Date.now() - opened > STEADY ? 0 : failures;
            drop();
        }
        if (attempt !== (wasOpen ? null : controller)) {
            return;     // the next one is under way
        }
        attempt = null;
        if (waiting) {  // or soon will be
            tellState('waiting', fault);
            return;
        }
        const {status, pause = 0, message} = fault;
        refusals += status === 401;
        if (status === 204 || status === 403 && tabs.size < 2 ||
            status === 401 && (typeof options.token !== 'function' || refusals > REFUSALS)) {
            stop();
            tellState('stopped', fault);
            return;
        }
        eachAlone = status === 403;
        const atOnce = !failures && (status === 401 || status === 403 || message === 'expired');
        const longest = Math.min(Math.max(LONGEST_RETRY, retry), retry * 2 ** failures);
        failures += 1;
        notBefore = Date.now() + pause;
        waiting = setTimeout(go, atOnce ? 0 : Math.max(pause, longest * (0.5 + Math.random() / 2)));
        if (!covered) {
            tellState('waiting', fault);
        }
    }

    return {
        stop,
        hello(id, marks) {
            const isNew = !tabs.has(id);
            let lacks = false;
            tabs.set(id, marks);
            Object.entries(marks).forEach(([channel, mark]) => {
                const behind = mark && (!at || earlier(at, mark) !== at);
                at = behind ? mark : at;
                lacks = lacks || behind || !isCovered(channel);
            });
            if (covered && !lacks) {
                greet(at);
                this.part();
            } else {
                if (last && !covered) {
                    tell(last);
                }
                soon(gather);
            }
            return isNew;
        },
        bye(id) {
            tabs.delete(id);
            this.part();
        },
        part() {
            const still = wanted();
            if (covered && !swap && !covered.every((channel) => still.includes(channel))) {
                soon(gather && PART);
            }
        },
        wake() {
            if (waiting ? Date.now() >= notBefore : covered && Date.now() - heard > silence) {
                go();
            }
        }
    };
}

// ---- A tab ----

// Who a token stands for: tabs share a connection if all but the times of their tokens is the same.
function identity(token) {
    try {
        const text = token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/');
        const {exp, iat, nbf, jti, ...claims} = JSON.parse(atob(text));
        return claims;
    } catch {
        return token;
    }
}

export function connect(url, options = {}) {
    const address = new URL(url, globalThis.location?.href).href;
    const {locks} = globalThis.navigator || {};
    const me = Math.random().toString(36);
    const listeners = new Map();    // type: functions
    const begins = new Map();       // channel: the id after which it begins, null while that is to be told
    const seen = new Map();         // channel: the id up to which all has come
    const done = new AbortController();
    let lastEventId = options.lastEventId || '', state = '', closed = false;
    let hub = null, term = 0, life = new AbortController(), key = '', channel = null, silent = 0, known;
    let withdraw = () => {};

    const list = (names) => typeof names === 'string' ? [names] : [...names || []];
    const active = () => [...begins.keys()].filter((name) => begins.get(name) !== null);

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

    function hear({type, data, id, own, channels}) {
        const isGap = type === 'sse-gap';
        let json;
        try {
            json = JSON.parse(data);
        } catch { /* text */ }
        const named = isGap && json?.channels || channels;
        let mine = active().filter((name) => !named.length || named.includes(name));
        if (own) {
            if (mine.some((name) => seen.has(name) && !after(id, seen.get(name)))) {
                return;     // the connection went back for another tab
            }
            mine = mine.filter((name) => isGap || after(id, begins.get(name)));
            active().filter((name) => after(id, seen.get(name))).forEach((name) => seen.set(name, id));
            lastEventId = id;
        }
        if (!mine.length) {
            return;
        }
        if (isGap) {
            emit('gap', {channels: mine});
            return;
        }
        const event = {type, data, json, lastEventId: id, channels: channels.length ? mine : []};
        if (type !== 'state' && type !== 'gap') {
            emit(type, event);
        }
        emit('*', event);
    }

    // What the hub says, this tab's own or the leading one's. Each that leads has a higher term than the one before:
    // what an earlier one still says is not heard, since what it read comes again.
    function receive(message) {
        if (closed || !(message.term >= term)) {
            return;
        }
        if (message.term > term) {
            resign();
        }
        term = message.term;
        silent = 0;
        if (message.who) {
            say();
        } else if (message.open) {
            begins.forEach((start, name) => {
                if (start === null && message.open.includes(name)) {
                    begins.set(name, message.start);
                    lastEventId = lastEventId || message.start;
                }
            });
            if ([...begins.keys()].every((name) => message.open.includes(name))) {
                setState('open');
            }
        } else if (message.event) {
            hear(message.event);
        } else if (message.state) {
            setState(message.state, message.reason, message.status);
        } else if (message.refused === me) {
            setState('stopped', message.reason, message.status);
        }
        if (state === 'stopped') {
            end();
        }
    }

    function tell(message) {
        message = {...message, term};
        channel?.postMessage(message);
        receive(message);
    }

    // Says to the hub what this tab wants, and from where.
    function say() {
        const marks = {};
        begins.forEach((start, name) => { marks[name] = seen.get(name) || start; });
        if (hub) {
            hub.hello(me, marks);
        } else {
            channel?.postMessage({hello: me, marks});
        }
    }

    async function getToken() {
        const token = known || (typeof options.token === 'function' ? await options.token() : options.token);
        known = '';
        return token;
    }

    function lead() {
        term = Math.max(Date.now(), term + 1) + Math.random();
        hub = makeHub(address, options, channel ? GATHER : 0, getToken, tell);
        tell({who: true});
    }

    function resign() {
        hub?.stop();
        hub = null;
    }

    // ---- One connection for all tabs ----

    function hold(name, how, {signal}, holding) {
        return locks.request(name, how, () => signal.aborted || new Promise((resolve) => {
            signal.addEventListener('abort', resolve);
            holding();
        }));
    }

    // Waits for the lock of the tab that leads, or takes it from one that says nothing any more.
    async function stand(steal) {
        const ours = life, waiting = new AbortController(), mine = () => waiting.abort();
        withdraw();
        withdraw = mine;
        ours.signal.addEventListener('abort', withdraw);
        try {
            await hold(key, steal ? {steal} : {signal: waiting.signal}, ours, lead);
        } catch { /* another tab took it, or this one withdrew */ }
        if (mine === withdraw && !ours.signal.aborted) {
            resign();
            stand();
        }
    }

    // What another tab says to the one that leads.
    function answer({hello, marks, bye, wake}) {
        if (hello) {
            const its = hub;
            if (its.hello(hello, marks)) {  // its lock is free when it has gone, in whatever way
                locks.request(key + hello, {signal: life.signal}, () => its.bye(hello)).catch(() => {});
            }
        } else if (bye) {
            hub.bye(bye);
        } else if (wake) {
            hub.wake();
        } else {
            tell({});
        }
    }

    function look() {
        silent += hub ? 0 : 1;
        if (silent >= GIVE_UP) {
            silent = 0;
            stand(true);
        } else if (silent >= ASK) {
            channel.postMessage({ask: true});
        }
    }

    async function share(ours) {
        known = await getToken();
        key = JSON.stringify(['cyclone-sse', address, options.shared, options.credentials, identity(known)]);
        await new Promise((resolve, reject) => { hold(key + me, {}, ours, resolve).then(reject, reject); });
        channel = new BroadcastChannel(key);
        channel.onmessage = ({data}) => {
            if (data.term) {
                receive(data);
            } else if (hub) {
                answer(data);
            }
        };
        const ticking = setInterval(look, TICK);
        ours.signal.addEventListener('abort', () => clearInterval(ticking));
        stand();
        say();
    }

    // ---- Its life ----

    async function begin() {
        const ours = life = new AbortController();
        setState('connecting');
        try {
            if (options.shared && locks && globalThis.BroadcastChannel) {
                await share(ours);
                return;
            }
        } catch { /* no token, which the hub will ask for again; or the browser lets this page share nothing */ }
        if (!ours.signal.aborted) {
            lead();
        }
    }

    function leave() {
        life.abort();
        if (hub) {
            resign();
        } else {
            channel?.postMessage({bye: me});
        }
        channel?.close();
        channel = null;
    }

    function end() {
        closed = true;
        leave();
        done.abort();
    }

    function wake() {
        if (hub) {
            hub.wake();
        } else {
            channel?.postMessage({wake: true});
        }
    }

    function when(target, type, react) {
        target?.addEventListener?.(type, react, {signal: done.signal});
    }

    when(globalThis, 'online', wake);
    when(globalThis.document, 'visibilitychange', () => document.visibilityState === 'visible' && wake());
    // A page that is left lets go of everything, so that the browser may keep it and another tab leads at once.
    when(globalThis, 'pagehide', leave);
    when(globalThis, 'pageshow', ({persisted}) => persisted && begin());
    list(options.channels).forEach((name) => begins.set(name, options.lastEventId || null));
    Promise.resolve().then(() => closed || begin());    // not at once: listeners come first

    return {
        get state() { return state; },
        get lastEventId() { return lastEventId; },
        get channels() { return [...begins.keys()]; },
        on(type, handle) {
            listeners.set(type, (listeners.get(type) || new Set()).add(handle));
            return () => { listeners.get(type).delete(handle); };
        },
        add(names) {
            const more = list(names).filter((name) => !begins.has(name));
            more.forEach((name) => begins.set(name, null));
            if (more.length && !closed) {
                say();
            }
        },
        remove(names) {
            const less = list(names).filter((name) => begins.delete(name));
            less.forEach((name) => seen.delete(name));
            if (less.length && !closed) {
                say();
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
