// For the tests of media/cyclone-sse.js by itself: every answer is given, and every moment is chosen, by the test.

import {afterEach, beforeEach, mock} from 'node:test';
import {setImmediate as turn} from 'node:timers/promises';

import {connect} from '../../../media/cyclone-sse.js';

const JSON_KIND = {'Content-Type': 'application/json'};

export let requests, answers, streams;

export function answerWith(...list) {
    answers = list;
}

// One answer that stays open: write(text or bytes), end(), or break().
export class Answer {
    constructor(signal, headers = {}) {
        const body = new ReadableStream({start: (control) => { this.control = control; }});
        signal.addEventListener('abort', () => { this.aborted = true; this.control.error(signal.reason); });
        this.response = new Response(body, {headers: {'Content-Type': 'text/event-stream', ...headers}});
    }
    async write(text) {
        this.control.enqueue(typeof text === 'string' ? new TextEncoder().encode(text) : text);
        await settle();
    }
    async end() { this.control.close(); await settle(); }
    async break() { this.control.error(new TypeError('network error')); await settle(); }
}

export async function settle() {
    for (let i = 0; i < 5; i += 1) {
        await turn();
    }
}

export async function pass(ms) {
    mock.timers.tick(ms);
    await settle();
}

// Lets the time pass in small steps, so that what one timer starts can set the next.
export async function passed(ms) {
    for (let time = 0; time < ms; time += 50) {
        await pass(50);
    }
}

export const presence = (room) => `event: sse-presence\ndata: ${JSON.stringify(room)}\n\n`;

// Opens a stream, and notes everything that the page hears of it.
export async function open(options = {}) {
    const stream = connect('http://server/sse/?x=1', {channels: ['a'], ...options});
    const heard = {events: [], states: [], gaps: []};
    stream.on('message', (event) => heard.events.push(event));
    stream.on('state', ({state, reason, status}) => heard.states.push([state, reason, status].filter(Boolean).join(' ')));
    stream.on('gap', (gap) => heard.gaps.push(gap.channels));
    streams.push(stream);
    await settle();
    await pass(0);
    return {stream, heard};
}

export const last = () => requests.at(-1);
export const query = (request = last()) => new URL(request.url).searchParams;
export const reject = (status, reason, headers = {}) => () =>
    new Response(status === 204 ? null : JSON.stringify({status: 'error', reason}), {status, headers: {...JSON_KIND, ...headers}});
// An answer that never comes.
export const silence = ({signal}) => new Promise((_, fail) => signal.addEventListener('abort', () => fail(signal.reason)));

beforeEach(() => {
    mock.timers.enable({apis: ['setTimeout', 'setInterval', 'Date'], now: 1e12});
    mock.method(Math, 'random', () => 1);   // the longest delay
    requests = [];
    answers = [];
    streams = [];
    globalThis.fetch = async (url, {method = 'GET', headers, signal}) => {
        const request = {url: String(url), method, headers, signal};
        requests.push(request);
        const answer = answers.shift();
        if (answer) {
            return answer(request);
        }
        request.answer = new Answer(signal, {'Last-Event-ID': '5-0-n'});
        return request.answer.response;
    };
});

afterEach(() => {
    streams.forEach((stream) => stream.close());
    mock.timers.reset();
    mock.restoreAll();
});
