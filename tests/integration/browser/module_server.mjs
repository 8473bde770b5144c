// For the tests of tabs that share connections: a server, whose streams the test writes, and tabs.

import {beforeEach} from 'node:test';

import {Answer, answers, answerWith, open, passed, query, reject, settle} from './module_harness.mjs';
import {installTabs} from './module_tabs.mjs';

const LIMIT = 500;      // channels of a stream, as the server's --max-channels
let rules, links;       // links: the streams

// rules(names, token) returns the status of an answer, 200 if all is well.
export function setRules(wanted) {
    rules = wanted;
}

// Opens a stream after the last event id of the request, or after `position`.
export function serve(request, position = '5-0-n') {
    const names = query(request).getAll('channels');
    const status = names.length > LIMIT ? 400 : rules(names, request.headers.Authorization);
    if (status !== 200) {
        return reject(status, 'refused')();
    }
    const given = query(request).get('lastEventId');
    const answer = new Answer(request.signal, {'Last-Event-ID': given || position});
    links.push({names, answer});
    const afterStates = query(request).get('state') && !given ? `id: ${position}\n\n` : '';
    answer.control.enqueue(new TextEncoder().encode('\n\n' + afterStates));
    return answer.response;
}

// Returns a function that gives the answer to the next request: one at this position, or what `answer` returns.
export function holdNextAnswer({position, answer = (request) => serve(request, position)} = {}) {
    let give;
    answers.unshift((request) => new Promise((resolve) => { give = () => resolve(answer(request)); }));
    return async () => { give(); await settle(); };
}

export const openLinks = () => links.filter(({answer}) => !answer.aborted);

// Sends an event, with `e` and the number of the id as its data, on each stream with this channel.
export async function publish(id, channel, data = 'e' + parseInt(id, 10)) {
    for (const {names, answer} of openLinks()) {
        if (names.includes(channel)) {
            await answer.write(`id: ${id}\nchannel: ${channel}\ndata: ${data}\n\n`);
        }
    }
}

export async function tab(options) {
    const opened = await open({shared: true, ...options});
    await passed(300);
    return opened;
}

export const many = (name, number) => Array.from({length: number}, (_, index) => `${name}-${index}`);
export const dataOf = ({heard}) => heard.events.map(({data}) => data);

beforeEach(() => {
    installTabs();
    rules = () => 200;
    links = [];
    answerWith(...Array.from({length: 500}, () => (request) => serve(request)));
});
