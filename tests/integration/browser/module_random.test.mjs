// Tabs to which anything may happen, in a random order: each receives the events of its channels once, in order and
// without a hole, and all are open in the end. SEED=1000 COUNT=200 node --test module_random.test.mjs tries more orders.

import assert from 'node:assert/strict';
import {mock, test} from 'node:test';

import {connect} from '../../../media/cyclone-sse.js';
import {Answer, passed} from './module_harness.mjs';
import {freeze, installTabs, thaw} from './module_tabs.mjs';

const SEED = Number(process.env.SEED || 1), COUNT = Number(process.env.COUNT || 3);
const STEPS = 300, STEP = 50;   // ms
const NAMES = ['a', 'b', 'c', 'd', 'e'];
const SETS = [
    {}, {state: true}, {poll: true}, {freezes: true}, {most: 3},
    {state: true, freezes: true}, {state: true, poll: true, freezes: true}, {state: true, most: 3, freezes: true}
];

// Numbers from 0 to 1 that follow from the seed (mulberry32).
function randomFrom(seed) {
    let state = seed;
    return () => {
        state = state + 0x6D2B79F5 | 0;
        let mixed = Math.imul(state ^ state >>> 15, 1 | state);
        mixed = mixed + Math.imul(mixed ^ mixed >>> 7, 61 | mixed) ^ mixed;
        return ((mixed ^ mixed >>> 14) >>> 0) / 2 ** 32;
    };
}

// A server that answers late, refuses and fails, until it is `calm`. most: the channels that it accepts in one request.
class Server {
    constructor(random, most = NAMES.length) {
        Object.assign(this, {random, most, events: [], streams: new Set(), calm: false});
        globalThis.fetch = (url, {method, signal, headers}) => new Promise((resolve, fail) => {
            signal.addEventListener('abort', () => fail(signal.reason));
            const query = new URL(url).searchParams, isPoll = Boolean(headers['X-Requested-With']);
            setTimeout(() => this.answer(query, method, isPoll, signal, resolve, fail), Math.floor(random() * 8) * STEP);
        });
    }

    get now() { return this.events.length + 10; }

    answer(query, method, isPoll, signal, resolve, fail) {
        const names = query.getAll('channels'), given = query.get('lastEventId'), dice = this.calm ? 1 : this.random();
        if (dice < 0.15) {
            return dice < 0.1 ? fail(new TypeError('network')) : resolve(new Response('', {status: 503}));
        }
        if (names.length > this.most || names.includes('bad')) {
            return resolve(new Response('', {status: names.length > this.most ? 400 : 403}));
        }
        const position = given || `${this.now}-0-n`, answer = new Answer(signal, {'Last-Event-ID': position});
        const startsWithStates = query.get('state') && !given;
        if (method === 'HEAD') {
            return resolve(new Response(null, {headers: answer.response.headers}));
        }
        const waiting = startsWithStates ? [...this.statesOf(names), `id: ${position}\n\n`] :
            this.events.filter(({number}) => given && number > parseInt(given, 10)).map((event) => frame(event, names));
        const stream = {names, answer, isPoll, waiting: waiting.filter(Boolean)};
        resolve(answer.response);
        send(stream, '\n\n');      // without this, the stream would be taken for one that a proxy holds back
        if (isPoll && startsWithStates) {
            stream.waiting.forEach((text) => send(stream, text));
            return answer.control.close();
        }
        return this.streams.add(stream);
    }

    statesOf(names) {
        const states = names.map((name) => this.events.findLast(({keep, channels}) => keep && channels.includes(name)));
        const all = [...new Set(states.filter(Boolean))].sort((one, other) => one.number - other.number);
        return all.map((event) => frame(event, names, '.state'));
    }

    publish(channels) {
        const event = {number: this.now + 1, channels, keep: this.random() < 0.4};
        this.events.push(event);
        this.streams.forEach(({names, waiting}) => waiting.push(...[frame(event, names)].filter(Boolean)));
    }

    // Sends some of what waits on each stream.
    flush() {
        for (const stream of this.streams) {
            if (stream.answer.aborted) {
                this.streams.delete(stream);
                continue;
            }
            for (let left = this.calm ? Infinity : this.random() * 3; left >= 1 && stream.waiting.length; left -= 1) {
                send(stream, stream.waiting.shift());
                if (stream.isPoll) {
                    stream.answer.control.close();
                    left = 0;
                    this.streams.delete(stream);
                }
            }
        }
    }

    break(stream) {
        this.streams.delete(stream);
        if (!stream.answer.aborted) {
            stream.answer.control.error(new TypeError('broken'));
        }
    }
}

function frame({number, channels}, names, mark = '') {
    const lines = channels.filter((name) => names.includes(name)).map((name) => `channel: ${name}\n`);
    return lines.length ? `id: ${number}-0-n\n${lines.join('')}data: ${number}${mark}\n\n` : '';
}

function send({answer}, text) {
    if (!answer.aborted) {
        answer.control.enqueue(new TextEncoder().encode(text));
    }
}

// One tab, and for each time that it had a channel the numbers of the events and of the states that it received.
class Tab {
    constructor(channels, options) {
        Object.assign(this, {periods: [], got: [], faults: [], isAway: false, wasTooLarge: false, most: options.most});
        this.page = new EventTarget();
        globalThis.addEventListener = this.page.addEventListener.bind(this.page);
        this.stream = connect('http://server/', {...options, channels, shared: true});
        delete globalThis.addEventListener;
        channels.forEach((name) => this.begin(name));
        this.stream.on('message', ({data, channels: names}) => this.hear(parseInt(data, 10), names, data.endsWith('.state')));
        this.stream.on('gap', () => this.faults.push('a gap'));
    }

    get isStopped() { return this.stream.state === 'stopped'; }

    begin(name) {
        this.periods.push({name, events: [], states: [], isOver: false});
        this.wasTooLarge = this.wasTooLarge || this.stream.channels.length > this.most;
    }

    periodOf(name) { return this.periods.find((period) => period.name === name && !period.isOver); }

    toggle(name) {
        const period = this.periodOf(name);
        if (period) {
            period.isOver = true;
            this.stream.remove([name]);
        } else {
            this.stream.add([name]);
            this.begin(name);
        }
    }

    hear(number, names, isState) {
        this.got.push(number);
        names.forEach((name) => this.periodOf(name)[isState ? 'states' : 'events'].push(number));
    }

    turn(isAway) {
        this.isAway = isAway;
        this.page.dispatchEvent(Object.assign(new Event(isAway ? 'pagehide' : 'pageshow'), {persisted: true}));
    }

    // What is wrong in the end: `all` are the events that were published.
    check(all, {state}) {
        const mayStop = this.wasTooLarge || this.stream.channels.includes('bad');
        const isOpen = this.stream.state === 'open' || !this.stream.channels.length || this.isStopped && mayStop;
        const faults = isOpen || this.wasClosed ? this.faults : [...this.faults, `it is ${this.stream.state}`];
        this.periods.forEach(({name, events, states, isOver}) => {
            const ofIt = all.filter(({channels}) => channels.includes(name)), last = ofIt.at(-1)?.number;
            const missing = ofIt.filter(({number, keep}) => !this.got.includes(number) && number < events.at(-1) &&
                (number > events[0] || state && keep && number > (states.at(-1) || 0)));
            if (missing.length) {
                faults.push(`${name} misses ${missing.map(({number}) => number)} of ${events}`);
            }
            if (events.some((number, index) => number <= events[index - 1])) {
                faults.push(`${name} has events twice or in disorder: ${events}`);
            }
            if (!isOver && !this.isStopped && !events.includes(last)) {
                faults.push(`${name} misses the last event`);
            }
        });
        const twice = all.filter(({number}) => this.got.indexOf(number) < this.got.lastIndexOf(number));
        return state || !twice.length ? faults : [...faults, `it has ${twice.map(({number}) => number)} twice`];
    }
}

async function run(seed, {freezes, ...options}) {
    const random = randomFrom(seed), pick = (list) => list[Math.floor(random() * list.length)];
    const some = (share) => NAMES.filter(() => random() < share), server = new Server(random, options.most), tabs = [];
    mock.method(Math, 'random', randomFrom(seed + 1));
    const wait = async (ms) => {
        for (let time = 0; time < ms; time += STEP) {
            server.flush();
            await passed(STEP);
        }
    };
    const actions = [
        [0.25, () => server.publish([pick(NAMES), ...some(0.2)].filter((name, index, all) => all.indexOf(name) === index))],
        [0.03, (tab, alive) => alive.length < 5 && tabs.push(new Tab([...some(0.4), ...random() < 0.1 ? ['bad'] : []], options))],
        [0.02, (tab) => { tab.wasClosed = true; tab.stream.close(); }],
        [0.08, (tab) => tab.toggle(pick(NAMES))],
        [0.02, () => server.streams.size && server.break(pick([...server.streams]))],
        [0.01, (tab) => tab.turn(true)],
        [0.02, () => tabs.find(({isAway}) => isAway)?.turn(false)],
        [freezes ? 0.02 : 0, () => freeze(random)],
        [freezes ? 0.03 : 0, thaw]
    ];
    tabs.push(new Tab(['a'], options));
    for (let step = 0; step < STEPS; step += 1) {
        const alive = tabs.filter(({isAway, isStopped}) => !isAway && !isStopped), tab = pick(alive);
        let dice = random();
        const [, act] = actions.find(([share]) => (dice -= share) < 0) || [];
        if (act && (tab || act.length === 0 || act.length === 2)) {
            act(tab, alive);
        }
        await wait(STEP);
    }
    server.calm = true;
    for (let number = 0; number < 10; number += 1) {
        thaw();
    }
    tabs.filter(({isAway}) => isAway).forEach((tab) => tab.turn(false));
    await wait(45_000);
    NAMES.forEach((name) => server.publish([name]));
    await wait(options.poll ? 10_000 : 1000);
    const faults = tabs.flatMap((tab, number) => tab.check(server.events, options).map((fault) => `tab ${number}: ${fault}`));
    tabs.forEach(({stream}) => stream.close());
    await passed(100);
    return faults;
}

for (const options of SETS) {
    test(`anything, with ${JSON.stringify(options)}`, async () => {
        for (let seed = SEED; seed < SEED + COUNT; seed += 1) {
            installTabs();
            assert.deepEqual(await run(seed, options), [], `seed ${seed}`);
        }
    });
}
