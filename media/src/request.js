/* One request for a stream, or for the states at the start of a stream. Fails with the server's refusal. */

import {makeParser} from './parser.js';

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
export async function request(address, query, {method, token, poll, signal, credentials}) {
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
export const positionOf = (response) => response.headers.get('Last-Event-ID') || '';

// The blocks of an answer. onBytes: called with each piece of the body; onRetry: with a reconnection time in ms.
export async function* readBlocks(response, onBytes, onRetry) {
    const decoder = new TextDecoder(), reader = response.body.getReader(), parse = makeParser(onRetry);
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
        onBytes();
        yield* parse(decoder.decode(piece.value, {stream: true}));
    }
}

// Reads the start of an answer to a request without an id: the states, then the position after which the stream goes
// on. Returns this position, the states, and the other blocks that came with them.
export async function readStates(blocks) {
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
