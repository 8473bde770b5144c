// A browser whose tabs can be frozen, crash, and be kept for the back button, in a time of its own: for
// module_random.test.mjs. Each tab is a context of node:vm, with its own timers, and media/cyclone-sse.global.js.

import fs from 'node:fs';
import {setImmediate as turn} from 'node:timers/promises';
import vm from 'node:vm';

const script = new vm.Script(fs.readFileSync(new URL('../../../media/cyclone-sse.global.js', import.meta.url), 'utf8'));
const SHARED = {
    AbortController, Event, EventTarget, Response, TextDecoder, TextEncoder, URL, URLSearchParams, atob, console, structuredClone
};

// Numbers from 0 to 1 that follow from the seed (mulberry32).
export function randomFrom(seed) {
    let state = seed;
    return () => {
        state = state + 0x6D2B79F5 | 0;
        let mixed = Math.imul(state ^ state >>> 15, 1 | state);
        mixed = mixed + Math.imul(mixed ^ mixed >>> 7, 61 | mixed) ^ mixed;
        return ((mixed ^ mixed >>> 14) >>> 0) / 2 ** 32;
    };
}

// The time in ms, which `run` lets pass; what happens at a time belongs to a page, or to the world around.
export class World {
    constructor(seed) {
        Object.assign(this, {random: randomFrom(seed), time: 0, skew: 1e12, isOnline: true, timers: new Set(), server: null});
    }

    after(ms, act, page = null) {
        const timer = {at: this.time + Math.max(ms, 0), act, page};
        this.timers.add(timer);
        return timer;
    }

    async run(ms) {
        const end = this.time + ms;
        for (;;) {
            const due = [...this.timers].filter(({at, page}) => at <= end && !page?.isFrozen);
            if (!due.length) {
                this.time = end;
                return;
            }
            const next = due.reduce((one, other) => other.at < one.at ? other : one);
            this.timers.delete(next);
            this.time = Math.max(this.time, next.at);
            next.act();
            for (let number = 0; number < 6; number += 1) {
                await turn();
            }
        }
    }
}

// Web Locks and BroadcastChannels.
export class Browser {
    constructor(world) {
        Object.assign(this, {world, locks: new Map(), ports: new Set()});
    }

    request(page, name, options, callback) {
        const lock = this.locks.get(name) || {holder: null, queue: []}, {signal, steal} = options;
        this.locks.set(name, lock);
        return new Promise((resolve, reject) => {
            const request = {page, callback, resolve, reject};
            if (signal?.aborted) {
                reject(signal.reason);
                return;
            }
            signal?.addEventListener('abort', () => {
                if (lock.queue.includes(request)) {
                    lock.queue.splice(lock.queue.indexOf(request), 1);
                    reject(signal.reason);
                }
            });
            if (steal) {
                const robbed = lock.holder;
                robbed?.page.deliver(() => robbed.reject(new Error('stolen')));
                lock.holder = null;
                lock.queue.unshift(request);
            } else {
                lock.queue.push(request);
            }
            this.grant(lock);
        });
    }

    grant(lock) {
        const request = lock.holder ? null : lock.queue.shift();
        if (!request) {
            return;
        }
        lock.holder = request;
        request.page.deliver(async () => {
            const end = (settle) => (value) => {
                this.release(lock, request);
                settle(value);
            };
            if (lock.holder === request) {
                await Promise.resolve().then(request.callback).then(end(request.resolve), end(request.reject));
            }
        });
    }

    release(lock, request) {
        if (lock.holder === request) {
            lock.holder = null;
            this.grant(lock);
        }
    }

    forget(page) {
        this.ports.forEach((port) => port.page === page && this.ports.delete(port));
        this.locks.forEach((lock) => {
            lock.queue = lock.queue.filter((request) => request.page !== page);
            if (lock.holder?.page === page) {
                this.release(lock, lock.holder);
            }
        });
    }
}

function portClass(page, {world, ports}) {
    return class {
        constructor(name) {
            Object.assign(this, {page, name, arrival: 0});
            ports.add(this);
        }

        postMessage(message) {
            if (!ports.has(this)) {
                throw new Error('closed');
            }
            const data = structuredClone(message);
            this.arrival = Math.max(this.arrival, world.time + world.random() * 20);    // ms, in the order in which they are sent
            [...ports].filter((port) => port !== this && port.name === this.name).forEach((port) => {
                world.after(this.arrival - world.time, () => port.page.deliver(() => ports.has(port) && port.onmessage({data})));
            });
        }

        close() { ports.delete(this); }
    };
}

// One tab. canShare: whether the browser allows this page Web Locks.
export class Page {
    constructor(browser, canShare) {
        const {world} = browser;
        Object.assign(this, {browser, world, isFrozen: false, isGone: false, held: [], fetches: new Set(), asked: []});
        this.window = new EventTarget();
        this.document = Object.assign(new EventTarget(), {baseURI: 'http://site/', visibilityState: 'visible'});
        const locks = canShare ? {request: (name, options, callback) => browser.request(this, name, options, callback)} : undefined;
        const clear = (timer) => { world.timers.delete(timer?.set || timer); };
        const context = vm.createContext({
            ...SHARED, document: this.document, navigator: {locks}, BroadcastChannel: portClass(this, browser),
            fetch: (url, how) => this.fetch(url, how),
            addEventListener: this.window.addEventListener.bind(this.window),
            Date: {now: () => Math.floor(world.time + world.skew), parse: Date.parse},
            setTimeout: (act, ms = 0) => world.after(ms, act, this),
            setInterval: (act, ms) => this.repeat(act, ms),
            clearTimeout: clear, clearInterval: clear
        });
        vm.runInContext('Math', context).random = world.random;
        script.runInContext(context);
        this.connect = context.cycloneSSE.connect;
    }

    repeat(act, ms) {
        const timer = {};
        const again = () => { timer.set = this.world.after(ms, () => { again(); act(); }, this); };
        again();
        return timer;
    }

    // What comes from outside waits while the page is frozen.
    deliver(act) {
        if (this.isFrozen) {
            this.held.push(act);
        } else if (!this.isGone) {
            act();
        }
    }

    freeze() { this.isFrozen = true; }

    thaw() {
        this.isFrozen = false;
        this.held.splice(0).forEach((act) => this.world.after(0, () => this.deliver(act)));
    }

    hide() {
        this.window.dispatchEvent(Object.assign(new Event('pagehide'), {persisted: true}));
        this.freeze();
    }

    show() {
        this.thaw();
        this.window.dispatchEvent(Object.assign(new Event('pageshow'), {persisted: true}));
    }

    // Ends without a chance to react.
    crash() {
        this.isGone = true;
        this.isFrozen = false;
        this.world.timers.forEach((timer) => timer.page === this && this.world.timers.delete(timer));
        this.fetches.forEach((request) => request.break());
        this.browser.forget(this);
    }

    fetch(url, how) {
        const request = new Request(this, url, how);
        this.asked.push(this.world.time);
        this.fetches.add(request);
        if (this.world.isOnline) {
            this.world.server.take(request);
        } else {
            this.world.after(5, () => request.break());
        }
        return request.promise;
    }
}

// A request as the server sees it: answer, then write, then end or break.
class Request {
    constructor(page, url, {method = 'GET', signal, headers}) {
        Object.assign(this, {page, query: new URL(url).searchParams, method, headers, isOpen: true, hasFailed: false});
        this.promise = new Promise((resolve, reject) => { Object.assign(this, {resolve, reject}); });
        signal.addEventListener('abort', () => this.close(() => this.fail(signal.reason)));
    }

    close(react) {
        if (this.isOpen) {
            this.isOpen = false;
            this.page.fetches.delete(this);
            this.page.deliver(react);
        }
    }

    fail(fault) {
        this.hasFailed = true;
        this.reject(fault);
        this.control?.error(fault);
    }

    answer(status, headers = {}) {
        if (status === 200 && this.method !== 'HEAD') {
            const body = new ReadableStream({start: (control) => { this.control = control; }});
            this.page.deliver(() => this.resolve(new Response(body, {headers: {'Content-Type': 'text/event-stream', ...headers}})));
        } else {
            const type = status === 200 ? 'text/event-stream' : 'text/plain';
            this.close(() => this.resolve(new Response(null, {status, headers: {'Content-Type': type, ...headers}})));
        }
    }

    write(text) {
        const bytes = new TextEncoder().encode(text);
        if (this.isOpen) {
            this.page.deliver(() => this.hasFailed || this.control.enqueue(bytes));
        }
    }

    end() { this.close(() => this.control.close()); }
    break() { this.close(() => this.fail(new TypeError('network'))); }
}
