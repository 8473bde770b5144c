// What servers, proxies and pages may do wrong, and what the module does about it.

import assert from 'node:assert/strict';
import {mock, test} from 'node:test';

import {connect} from '../../../media/cyclone-sse.js';
import {Answer, answerWith, last, open, pass, passed, query, reject, requests, settle, silence} from './module_harness.mjs';

const HOUR = 3600_000;

// How many requests are made in this time, looked at every 50 ms.
async function count(ms) {
    const before = requests.length;
    for (let passed = 0; passed < ms; passed += 50) {
        await pass(50);
    }
    return requests.length - before;
}

test('retry: 0, then an outage', async () => {
    Math.random.mock.mockImplementation(() => 0);   // the shortest delay
    await open();
    await last().answer.write('retry: 0\n\n');
    answerWith(...Array.from({length: 100}, () => () => { throw new TypeError('no network'); }));
    await last().answer.break();
    assert.ok(await count(4000) <= 4);
});

for (const value of ['3000000000', '99999999999999999999', 'Fri, 01 Jan 2099 00:00:00 GMT']) {
    test(`Retry-After: ${value} waits for an hour`, async () => {
        answerWith(reject(503, 'full', {'Retry-After': value}));
        await open();
        await pass(HOUR - 1);
        assert.equal(requests.length, 1);
        await pass(1);
        assert.equal(requests.length, 2);
    });
}

test('retry: of more than a timer can take waits for an hour', async () => {
    await open();
    await last().answer.write('retry: 3000000000\n\n');
    await last().answer.end();
    await pass(HOUR - 1);
    assert.equal(requests.length, 1);
    await pass(1);
    assert.equal(requests.length, 2);
});

for (const ping of [Infinity, NaN, -1, 0, 1e300, 'x']) {
    test(`ping: ${ping}`, async () => {
        const {heard} = await open({ping});
        await last().answer.write('\n\n');
        assert.ok(await count(4000) <= 4);
        assert.ok(ping === -1 || heard.states.at(-1) === 'open');
    });
}

test('a token that never comes', async () => {
    let asked = 0;
    const {heard} = await open({token: () => (asked += 1) < 2 ? new Promise(() => {}) : 't'});
    assert.deepEqual(heard.states, ['connecting']);
    await pass(60_000);
    assert.deepEqual(heard.states, ['connecting', 'waiting no answer']);
    await pass(1000);
    assert.equal(last().headers.Authorization, 'Bearer t');
    assert.equal(heard.states.at(-1), 'open');
});

for (const status of [400, 404, 410, 414]) {
    test(`${status} is not tried again`, async () => {
        answerWith(reject(status, 'no'));
        const {heard} = await open();
        assert.deepEqual(heard.states, ['connecting', `stopped no ${status}`]);
        await pass(HOUR);
        assert.equal(requests.length, 1);
    });
}

for (const name of ['a\nb', 'a\r\nb', 'a\rb%']) {
    test(`the channel ${JSON.stringify(name)}`, async () => {
        const {heard} = await open({channels: [name, 'c']});
        const field = name.replace('%', '%25').replace('\r', '%0D').replace('\n', '%0A');
        await last().answer.write(`id: 6-0-n\nchannel: ${field}\ndata: 1\n\n`);
        assert.deepEqual(heard.events.map(({channels}) => channels), [[name]]);
    });
}

test('a channel with a percent sign is named as it is', async () => {
    const {heard} = await open({channels: ['100%0A']});
    await last().answer.write('id: 6-0-n\nchannel: 100%0A\ndata: 1\n\n');
    assert.deepEqual(heard.events.map(({channels}) => channels), [['100%0A']]);
});

test('a channel called as what objects have', async () => {
    const {heard} = await open({channels: ['__proto__', 'constructor']});
    assert.deepEqual(query().getAll('channels'), ['__proto__', 'constructor']);
    await last().answer.write('id: 6-0-n\nchannel: __proto__\ndata: 1\n\n');
    assert.deepEqual(heard.events.map(({channels}) => channels), [['__proto__']]);
});

test('ids of 64 bits', async () => {
    const {heard} = await open();
    const [one, two] = ['1764352800123456789-0-n', '1764352800123456790-0-n'];
    await last().answer.write(`id: ${one}\ndata: 1\n\nid: ${two}\ndata: 2\n\n`);
    assert.deepEqual(heard.events.map((event) => event.data), ['1', '2']);
    await last().answer.break();
    await pass(1000);
    assert.equal(query().get('lastEventId'), two);
    await last().answer.write(`id: ${two}\ndata: 2\n\nid: 1764352800123456790-18446744073709551615-n\ndata: 3\n\n`);
    assert.deepEqual(heard.events.map((event) => event.data), ['1', '2', '3']);
});

// ---- Proxies that hold streams back ----

const isPoll = ({headers}) => headers['X-Requested-With'] === 'XMLHttpRequest';
// The server behind a proxy that passes an answer on when it is complete: a stream is never.
let held;
function buffered(request) {
    if (request.method === 'HEAD') {
        return new Response(null, {headers: {'Content-Type': 'text/event-stream', 'Last-Event-ID': query(request).get('lastEventId') || '5-0-n'}});
    }
    return isPoll(request) ? new Promise((resolve) => { held = resolve; }) : silence(request);
}
const answerPoll = async (text) => {
    held(new Response(text, {headers: {'Content-Type': 'text/event-stream'}}));
    await settle();
    await pass(0);
};

test('streams that stay without a byte are replaced by long polls', async () => {
    answerWith(...Array.from({length: 50}, () => buffered));
    const {heard} = await open();
    await pass(15_000);
    await pass(1000);
    await pass(15_000);
    await pass(2000);
    assert.deepEqual(heard.states.slice(-2), ['connecting', 'open']);
    assert.ok(isPoll(last()));
    assert.equal(query().get('lastEventId'), '5-0-n');
    for (const number of [6, 7, 8]) {
        await answerPoll(`\n\nid: ${number}-0-n\ndata: ${number}\n\n`);
        assert.equal(query().get('lastEventId'), `${number}-0-n`);
    }
    assert.deepEqual(heard.events.map((event) => event.data), ['6', '7', '8']);
    assert.equal(heard.states.at(-1), 'open');
});

test('a poll without an event waits before the next', async () => {
    answerWith(buffered, buffered);
    const {heard} = await open({poll: true});
    assert.equal(heard.states.at(-1), 'open');
    await answerPoll('\n\n: sse ping\n\n');
    assert.equal(requests.length, 2);
    await pass(1000);
    assert.equal(requests.length, 3);
});

test('polls that fail are replaced by a stream', async () => {
    answerWith(silence, silence, buffered, () => { throw new TypeError('another network'); });
    const {heard} = await open();
    await pass(15_000);
    await pass(1000);
    await pass(15_000);
    await pass(2000);
    await pass(30_000);
    assert.ok(!isPoll(last()));
    assert.equal(heard.states.at(-1), 'open');
});

test('a server that has no polls is asked for streams again', async () => {
    answerWith(silence, silence, ...Array.from({length: 2}, () => () => new Response('<p>', {headers: {'Content-Type': 'text/html'}})));
    const {heard} = await open();
    await pass(15_000);
    await pass(1000);
    await pass(15_000);
    await pass(2000);
    await pass(4000);
    assert.ok(!isPoll(last()));
    assert.equal(heard.states.at(-1), 'open');
});

test('a stream whose body is held back', async () => {
    answerWith(...[1, 2].map(() => ({signal}) => new Answer(signal, {'Last-Event-ID': '5-0-n'}).response));
    const {heard} = await open();
    await pass(15_000);
    await pass(1000);
    await pass(15_000);
    await pass(2000);
    assert.deepEqual(requests.map((request) => isPoll(request) || request.method), ['GET', 'GET', 'HEAD', true]);
    assert.equal(heard.states.at(-1), 'open');
});

test('poll: false never polls', async () => {
    answerWith(...Array.from({length: 20}, () => silence));
    await open({poll: false});
    for (let number = 0; number < 20; number += 1) {
        await pass(60_000);
        await pass(30_000);
    }
    assert.ok(requests.length > 5);
    assert.ok(!requests.some(isPoll));
});

test('a quiet stream that had bytes is no reason to poll', async () => {
    const {heard} = await open({ping: 20_000});
    for (let number = 0; number < 4; number += 1) {
        await last().answer.write('\n\n');
        await pass(40_000);
        await pass(10_000);
    }
    assert.ok(!requests.some(isPoll));
    assert.equal(heard.states.at(-1), 'open');
});

test('an address without an origin is refused in words', async () => {
    assert.throws(() => connect('/sse/'), {name: 'TypeError', message: /'\/sse\/' is not an absolute URL/});
    assert.equal(requests.length, 0);
});

test('a large event that comes in many pieces is searched once', async () => {
    const {heard} = await open(), {split} = String.prototype, piece = 'x'.repeat(1000);
    let searched = 0;
    String.prototype.split = function (...how) {
        searched += this.length;
        return split.apply(this, how);
    };
    try {
        await last().answer.write('data: ');
        for (let number = 0; number < 50; number += 1) {
            await last().answer.write(piece);
        }
        await last().answer.write('\n\n');
    } finally {
        String.prototype.split = split;
    }
    assert.equal(heard.events[0].data.length, 50_000);
    assert.ok(searched < 60_000, searched);
});

for (const [what, block] of [['events', 'data: 1\n\n'], ['pings alone', ': sse ping\n\n']]) {
    test(`long polls that bring ${what} leave nothing behind`, async () => {
        await open({poll: true, lastEventId: '1-0-n'});
        const {signal} = last(), before = requests.length, listen = mock.method(signal, 'addEventListener');
        for (let number = 2; number < 20; number += 1) {
            await last().answer.write(`id: ${number}-0-n\n${block}`);
            await last().answer.end();
            await pass(1000);
        }
        assert.equal(requests.length, before + 18);
        assert.equal(last().signal, signal);
        assert.ok(listen.mock.callCount() <= 19, 'one of the harness for each answer, and one of all pauses');
    });
}

// Answers that come after some time; the last request can be written to.
const slowly = (ms) => ({signal}) => new Promise((resolve, fail) => {
    signal.addEventListener('abort', () => fail(signal.reason));
    setTimeout(() => {
        last().answer = new Answer(signal, {'Last-Event-ID': '5-0-n'});
        resolve(last().answer.response);
    }, ms);
});

for (const [how, change] of [
    ['are added', ({add}, number) => add(`c${number}`)],
    ['come and go', (stream, number) => stream[number % 2 ? 'remove' : 'add']('b')]
]) {
    test(`channels that ${how} faster than the server answers`, async () => {
        const {stream, heard} = await open();
        answerWith(...Array.from({length: 100}, () => slowly(200)));
        for (let number = 0; number < 40; number += 1) {
            change(stream, number);
            await passed(100);
        }
        const connections = requests.filter((request) => query(request).get('lastEventId'));
        assert.ok(connections.length > 2, 'none in four seconds');
        await passed(1000);
        await last().answer.write('id: 6-0-n\nchannel: a\ndata: 1\n\n');
        assert.equal(heard.events.length, 1);
        assert.deepEqual(query().getAll('channels'), stream.channels);
    });
}

test('channels that are numbers', async () => {
    const {stream, heard} = await open({channels: [42]});
    assert.equal(heard.states.at(-1), 'open');
    await last().answer.write('id: 6-0-n\nchannel: 42\ndata: 1\n\n');
    assert.deepEqual(heard.events.map(({channels}) => channels), [['42']]);
    stream.add([43]);
    stream.remove([42]);
    assert.deepEqual(stream.channels, ['43']);
});

test('an event costs the same, however many channels there are', async () => {
    const channels = Array.from({length: 400}, (_, number) => `c${number}`), {heard} = await open({channels});
    const exec = mock.method(RegExp.prototype, 'exec');
    await last().answer.write('id: 6-0-n\nchannel: c7\ndata: 1\n\nid: 7-0-n\nchannel: c8\ndata: 2\n\n');
    assert.equal(heard.events.length, 2);
    const parsed = exec.mock.calls.filter((call) => call.this.source.startsWith('^(\\d+)-'));
    assert.ok(parsed.length > 5 && parsed.length < 50, `${parsed.length} ids`);
});
