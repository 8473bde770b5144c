// Tabs to which anything may happen, in a random order: each receives the events of its channels once, in order and
// without a hole that no gap reports, and all are open in the end. SEED=1000 COUNT=200 node --test module_random.test.mjs
// tries more orders.

import assert from 'node:assert/strict';
import {test} from 'node:test';

import {Browser, Page, World} from './module_browser.mjs';

const SEED = Number(process.env.SEED || 1), COUNT = Number(process.env.COUNT || 1);
const STEPS = 300;
const NAMES = ['a', 'b', 'c', 'd', 'e'];
const MOST_REQUESTS = 60;   // of a tab in 10 s; long polls need one for each event
// What can happen: each is a flag of `actions`, an option of `connect`, or a limit of the server.
const SETS = [
    {}, {state: true}, {poll: true}, {most: 3}, {freeze: true}, {crash: true}, {hide: true}, {network: true}, {clock: true},
    {restart: true}, {history: 4}, {token: true}, {denied: true}, {tabs: 20},
    {state: true, freeze: true, crash: true, history: 4, restart: true}, {state: true, poll: true, freeze: true, token: true},
    {most: 3, crash: true, hide: true, network: true, token: true, tabs: 15}, {state: true, most: 3, freeze: true, denied: true}
];

// Answers late, refuses and fails, until it is `calm`.
class Server {
    constructor(world, {most = 500, history = Infinity, token}) {
        Object.assign(this, {world, most, history, token, events: [], streams: new Set(), calm: false, isUp: true});
        this.start();
        this.ping();
    }

    get count() { return this.events.length; }
    get position() { return this.idOf(this.count); }
    idOf(number) { return `1000-${number}-n${this.node}`; }

    // As after a crash: what was published before is not known.
    start() {
        Object.assign(this, {isUp: true, node: (this.node || 0) + 1, floors: Object.fromEntries(NAMES.map((name) => [name, this.count]))});
    }

    stop() {
        this.isUp = false;
        this.streams.forEach((stream) => this.break(stream));
    }

    ping() {
        this.streams.forEach(({request}) => request.write(':\n\n'));
        this.world.after(4000, () => this.ping());
    }

    take(request) {
        this.world.after(this.calm ? 20 : this.world.random() * 400, () => request.isOpen && this.answer(request));
    }

    answer(request) {
        const {random} = this.world, {query, method, headers} = request, names = query.getAll('channels'), given = query.get('lastEventId');
        if (!this.isUp || !this.calm && random() < 0.05) {
            return request.break();
        }
        const expiry = JSON.parse(atob(headers.Authorization?.split('.')[1] || '') || '{}').exp;
        const status = !this.calm && random() < 0.05 ? 503 : this.token && !(expiry > this.world.time) ? 401 :
            !names.length || names.length > this.most ? 400 : names.includes('bad') ? 403 : 200;
        request.answer(status, status === 200 ? {'Last-Event-ID': given || this.position} : {});
        if (request.isOpen) {
            this.stream({request, names, isPoll: Boolean(headers['X-Requested-With']), tail: 0}, given, query.get('state'), expiry);
        }
        return method;
    }

    stream(stream, given, wantsStates, expiry) {
        const {request, names, isPoll} = stream;
        const first = given ? this.missed(names, given) : wantsStates ? [...this.statesOf(names), `id: ${this.position}\n\n`] : [];
        request.write('\n\n');      // without this, the stream would be taken for one that a proxy holds back
        if (isPoll && first.length) {
            first.forEach((text) => request.write(text));
            request.end();
            return;
        }
        this.streams.add(stream);
        first.forEach((text) => this.send(stream, text));
        if (expiry) {
            this.world.after(expiry - this.world.time, () => {
                request.write('event: sse-expired\ndata: {}\n\n');
                request.end();
            });
        }
    }

    missed(names, given) {
        const [, number, node] = /^1000-(\d+)-n(\d+)$/.exec(given), isKnown = Number(node) === this.node;
        const from = isKnown ? Number(number) : 0, gaps = names.filter((name) => from < this.floors[name]);
        const kept = ({number: its, channels}) => its > from && channels.some((name) => its > this.floors[name]);
        const frames = this.events.filter(kept).map((event) => this.frame(event, names)).filter(Boolean);
        const id = frames.length ? '' : `id: ${this.position}\n`;
        return gaps.length ? [`event: sse-gap\n${id}data: ${JSON.stringify({channels: gaps})}\n\n`, ...frames] : frames;
    }

    statesOf(names) {
        const states = names.map((name) => this.events.findLast(({keep, channels}) => keep && channels.includes(name)));
        const all = [...new Set(states.filter(Boolean))].sort((one, other) => one.number - other.number);
        return all.map((event) => this.frame(event, names, '.state'));
    }

    frame({number, channels}, names, mark = '') {
        const lines = channels.filter((name) => names.includes(name)).map((name) => `channel: ${name}\n`);
        return lines.length ? `id: ${this.idOf(number)}\n${lines.join('')}data: ${number}${mark}\n\n` : '';
    }

    publish(channels) {
        if (this.isUp) {
            const event = {number: this.count + 1, channels, keep: this.world.random() < 0.4};
            this.events.push(event);
            channels.forEach((name) => {
                const dropped = this.events.filter((other) => other.channels.includes(name)).at(-1 - this.history);
                this.floors[name] = Math.max(this.floors[name], dropped?.number || 0);
            });
            this.streams.forEach((stream) => this.send(stream, this.frame(event, stream.names)));
        }
    }

    // Sends a text behind those before; a poll ends with it.
    send(stream, text) {
        if (!stream.request.isOpen) {
            this.streams.delete(stream);
        } else if (text) {
            stream.tail = Math.max(stream.tail, this.world.time + (this.calm ? 5 : this.world.random() * 150));
            this.world.after(stream.tail - this.world.time, () => {
                stream.request.write(text);
                if (stream.isPoll) {
                    this.streams.delete(stream);
                    stream.request.end();
                }
            });
        }
    }

    break(stream) {
        this.streams.delete(stream);
        stream.request.break();
    }

    // No byte of the stream arrives any more.
    silence(stream) {
        this.streams.delete(stream);
        stream.request.write = () => {};
        stream.request.end = () => {};
    }
}

// One tab, and for each time that it had a channel what it received: {number}, {state: number}, or {gap: number of the last event}.
class Tab {
    constructor(browser, channels, set, options) {
        Object.assign(this, {set, periods: [], numbers: [], faults: [], isHidden: false, wasTooLarge: false, server: browser.world.server});
        this.page = new Page(browser, !(set.denied && browser.world.random() < 0.4));
        this.stream = this.page.connect('http://server/', {...options, token: set.token && (() => this.token()), channels});
        channels.forEach((name) => this.begin(name));
        this.stream.on('message', ({data, channels: names}) => this.hear(parseInt(data, 10), [...names], data.endsWith('.state')));
        this.stream.on('gap', ({channels: names}) => this.note([...names], {gap: this.server.count}));
    }

    get isStopped() { return this.stream.state === 'stopped'; }
    get isActive() { return !this.page.isGone && !this.page.isFrozen && !this.isStopped; }

    // Fails, never comes, or comes late, unless the server is calm.
    token() {
        const {world} = this.page, dice = this.server.calm ? 1 : world.random();
        const text = `x.${btoa(JSON.stringify({sub: 'ann', exp: world.time + 3000 + world.random() * 20_000}))}.y`;
        return dice < 0.1 ? Promise.reject(new Error('no token')) : new Promise((resolve) => {
            world.after(dice < 0.13 ? Infinity : world.random() * 300, () => this.page.deliver(() => resolve(text)));
        });
    }

    begin(name) {
        this.periods.push({name, got: [], isOver: false});
        this.wasTooLarge = this.wasTooLarge || this.stream.channels.length > this.set.most;
    }

    toggle(name) {
        const period = this.periods.find((other) => other.name === name && !other.isOver);
        if (period) {
            period.isOver = true;
            this.stream.remove([name]);
        } else {
            this.stream.add([name]);
            this.begin(name);
        }
    }

    note(names, what) {
        names.forEach((name) => this.periods.find((period) => period.name === name && !period.isOver).got.push(what));
    }

    hear(number, names, isState) {
        if (this.numbers.includes(number) && !isState) {
            this.faults.push(`${number} comes twice`);
        }
        this.numbers.push(...isState ? [] : [number]);
        this.note(names, isState ? {state: number} : {number});
    }

    // What is wrong in the end: `all` are the events that were published.
    check(all) {
        const mayStop = this.wasTooLarge || this.stream.channels.includes('bad');
        const isWell = this.stream.state === 'open' || !this.stream.channels.length || this.isStopped && mayStop || this.set.token;
        const faults = isWell || this.wasClosed || this.page.isGone ? this.faults : [...this.faults, `it is ${this.stream.state}`];
        this.periods.forEach(({name, got, isOver}) => {
            const ofIt = all.filter(({channels}) => channels.includes(name));
            let last = 0, state = 0, gap = 0;
            for (const what of got) {
                gap = what.gap ?? gap;
                const now = what.number ?? what.state;
                const missing = what.number && last ? ofIt.filter(({number, keep}) => number > last && number < now && number > gap &&
                    (keep || last !== state) && !this.numbers.includes(number)) : [];
                if (now <= last) {
                    faults.push(`${name} has ${now} after ${last}`);
                } else if (missing.length) {
                    faults.push(`${name} misses ${missing.map(({number}) => number)} before ${now}`);
                }
                [last, state] = [now ?? last, what.state ?? state];
            }
            if (!isOver && !this.isStopped && !this.page.isGone && last !== ofIt.at(-1).number) {
                faults.push(`${name} misses the last event`);
            }
            if (got.some((what) => what.gap) && !this.set.restart && !this.set.history) {
                faults.push(`${name} has a gap`);
            }
        });
        return faults;
    }

    // The most requests in 10 s.
    get mostRequests() {
        const {asked} = this.page;
        return Math.max(0, ...asked.map((time, index) => asked.filter((other, at) => at >= index && other < time + 10_000).length));
    }
}

async function run(seed, set) {
    const world = new World(seed), {random} = world, browser = new Browser(world), server = world.server = new Server(world, set);
    const pick = (list) => list[Math.floor(random() * list.length)], some = (share) => NAMES.filter(() => random() < share);
    const options = {state: set.state, poll: set.poll, ping: 5000}, tabs = [];
    const active = () => tabs.filter(({isActive}) => isActive);
    const open = (names) => tabs.push(new Tab(browser, names, set, {...options, shared: random() < 0.9}));
    const goOnline = () => {
        world.isOnline = true;
        active().forEach(({page}) => page.window.dispatchEvent(new Event('online')));
    };
    const actions = [
        [0.25, () => server.publish([...new Set([pick(NAMES), ...some(0.2)])])],
        [set.tabs ? 0.1 : 0.03, () => active().length < (set.tabs || 5) && open([...some(0.4), ...random() < 0.07 ? ['bad'] : []])],
        [0.02, (tab) => { tab.wasClosed = true; tab.stream.close(); }],
        [0.05, (tab) => tab.toggle(pick(NAMES))],
        [0.03, (tab) => { tab.toggle(pick(NAMES)); tab.toggle(pick(NAMES)); }],
        [0.02, () => server.streams.size && server.break(pick([...server.streams]))],
        [set.freeze && 0.02, (tab) => tab.page.freeze()],
        [set.freeze && 0.03, () => pick(tabs.filter(({page, isHidden}) => page.isFrozen && !isHidden))?.page.thaw()],
        [set.crash && 0.015, (tab) => tab.page.crash()],
        [set.hide && 0.02, (tab) => { tab.isHidden = true; tab.page.hide(); }],
        [set.hide && 0.03, () => show(tabs.find(({isHidden}) => isHidden))],
        [set.network && 0.01, () => server.streams.size && server.silence(pick([...server.streams]))],
        [set.network && 0.01, () => { world.isOnline = false; server.streams.forEach((stream) => server.silence(stream)); }],
        [set.network && 0.03, () => world.isOnline || goOnline()],
        [set.network && 0.02, (tab) => tab.page.document.dispatchEvent(new Event('visibilitychange'))],
        [set.clock && 0.02, () => { world.skew += (random() - 0.5) * pick([1e3, 1e5, 1e7]); }],
        [set.restart && 0.006, () => { server.stop(); world.after(random() * 8000, () => server.isUp || server.start()); }]
    ].filter(([share]) => share);
    const show = (tab) => {
        if (tab) {
            tab.isHidden = false;
            tab.page.show();
        }
    };
    open(['a']);
    for (let step = 0; step < STEPS; step += 1) {
        let dice = random();
        const [, act] = actions.find(([share]) => (dice -= share) < 0) || [], tab = pick(active());
        if (act && (tab || !act.length)) {
            act(tab);
        }
        await world.run(random() < 0.1 ? random() * 3000 : random() * 100);
    }
    server.calm = true;
    await world.run(8000);
    tabs.filter(({page, isHidden}) => page.isFrozen && !isHidden).forEach(({page}) => page.thaw());
    tabs.filter(({isHidden}) => isHidden).forEach(show);
    goOnline();
    await world.run(45_000);
    NAMES.forEach((name) => server.publish([name]));
    await world.run(set.poll ? 15_000 : 3000);
    return tabs.flatMap((tab, number) => [
        ...tab.check(server.events), ...tab.mostRequests > MOST_REQUESTS && !set.poll ? [`${tab.mostRequests} requests`] : []
    ].map((fault) => `tab ${number}: ${fault}`));
}

for (const set of SETS) {
    test(`anything, with ${JSON.stringify(set)}`, async () => {
        for (let seed = SEED; seed < SEED + COUNT; seed += 1) {
            assert.deepEqual(await run(seed, set), [], `seed ${seed}`);
        }
    });
}
