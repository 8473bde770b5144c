// A browser's Web Locks and BroadcastChannel, for tabs that are all in one process.

import {mock} from 'node:test';

const locks = new Map();        // name: {holder, queue}
const channels = new Map();     // name: Set of Channel

function next(name) {
    const lock = locks.get(name);
    const request = lock.queue.shift();
    lock.holder = request;
    if (request) {
        Promise.resolve().then(() => request.callback({name})).then(() => {
            if (lock.holder === request) {
                next(name);
            }
            request.resolve();
        }, request.reject);
    }
}

const manager = {
    request(name, options, callback) {
        return new Promise((resolve, reject) => {
            const lock = locks.get(name) || {holder: undefined, queue: []}, request = {callback, resolve, reject};
            locks.set(name, lock);
            if (options.signal?.aborted) {
                reject(options.signal.reason);
                return;
            }
            options.signal?.addEventListener('abort', () => {
                if (lock.queue.includes(request)) {
                    lock.queue = lock.queue.filter((other) => other !== request);
                    reject(options.signal.reason);
                }
            });
            if (options.steal) {
                lock.holder?.reject(new Error('stolen'));
                lock.queue.unshift(request);
                next(name);
                return;
            }
            lock.queue.push(request);
            if (!lock.holder) {
                next(name);
            }
        });
    }
};

class Channel {
    constructor(name) {
        this.name = name;
        channels.set(name, (channels.get(name) || new Set()).add(this));
    }
    get isOpen() { return channels.get(this.name).has(this); }
    postMessage(message) {
        const data = structuredClone(message);
        if (!this.isOpen) {
            throw new Error('closed');
        }
        [...channels.get(this.name)].filter((other) => other !== this).forEach((other) => {
            queueMicrotask(() => other.take(structuredClone(data)));
        });
    }
    take(data) {
        if (this.isOpen) {
            this.onmessage({data});
        }
    }
    close() {
        channels.get(this.name).delete(this);
    }
}

export function installTabs() {
    let seed = 0;
    mock.method(Math, 'random', () => 1 - (seed += 1) / 1e6);   // the ids of the tabs differ
    locks.clear();
    channels.clear();
    Object.defineProperty(globalThis, 'navigator', {value: {locks: manager}, configurable: true});
    globalThis.BroadcastChannel = Channel;
}
