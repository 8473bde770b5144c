// media/cyclone-sse.js by itself. Run by test_module.py as: node --test *.test.mjs

import assert from 'node:assert/strict';
import {readFileSync} from 'node:fs';
import {mock, test} from 'node:test';

import {Answer, answerWith, last, open, pass, query, reject, requests, settle, silence} from './module_harness.mjs';

const cases = JSON.parse(readFileSync(new URL('format_cases.json', import.meta.url)));

for (const {name, stream: text, events, lastEventId} of cases) {
    for (const size of [1, 2, 1000]) {
        test(`${name}, ${size} bytes at a time`, async () => {
            const {stream, heard} = await open();
            const bytes = new TextEncoder().encode(text);
            const all = [];
            stream.on('*', ({type, data, lastEventId: id}) => all.push([type, data, id]));
            for (let start = 0; start < bytes.length; start += size) {
                last().answer.control.enqueue(bytes.slice(start, start + size));
            }
            await settle();
            assert.deepEqual(all, events);
            assert.deepEqual(heard.events.map((event) => event.data), events.filter(([type]) => type === 'message').map((e) => e[1]));
            await last().answer.end();
            await pass(1000);
            assert.equal(query().get('lastEventId'), lastEventId || '5-0-n');
        });
    }
}

test('what it asks for, and what it tells', async () => {
    const {stream, heard} = await open({channels: ['a', 'b&c'], token: 't'});
    assert.deepEqual([...query()], [['x', '1'], ['channels', 'a'], ['channels', 'b&c'], ['fields', 'channel'], ['client', stream.client]]);
    assert.equal(last().headers.Authorization, 'Bearer t');
    await last().answer.write('id: 6-0-n\nchannel: a\nchannel: z\nevent: news\ndata: {"x": 1}\n\ndata: no JSON\n\n');
    assert.deepEqual(heard.events, [{type: 'message', data: 'no JSON', json: undefined, lastEventId: '6-0-n', channels: []}]);
    const news = [];
    const off = stream.on('news', (event) => news.push(event));
    await last().answer.write('id: 7-0-n\nchannel: a\nchannel: z\nevent: news\ndata: {"x": 1}\n\n');
    off();
    await last().answer.write('id: 8-0-n\nchannel: a\nevent: news\ndata: 2\n\n');
    assert.deepEqual(news, [{type: 'news', data: '{"x": 1}', json: {x: 1}, lastEventId: '7-0-n', channels: ['a']}]);
    assert.deepEqual([stream.state, stream.lastEventId, stream.channels], ['open', '8-0-n', ['a', 'b&c']]);
    assert.deepEqual(heard.states, ['connecting', 'open']);
});

test('an event may be called as the states and gaps are', async () => {
    const {stream, heard} = await open();
    const all = [];
    stream.on('*', (event) => all.push(event.type));
    await last().answer.write('event: state\ndata: 1\n\nevent: gap\ndata: 1\n\n');
    assert.deepEqual([all, heard.states, heard.gaps], [['state', 'gap'], ['connecting', 'open'], []]);
});

test('a handler that throws ends nothing', async () => {
    const {stream, heard} = await open();
    stream.on('message', () => { throw new Error('from the handler'); });
    stream.on('message', (event) => heard.events.push(event));
    await last().answer.write('data: 1\n\n');
    assert.throws(() => mock.timers.tick(0), /from the handler/);
    await last().answer.write('data: 2\n\n');
    assert.equal(heard.events.length, 4);
});

test('it goes on after the last whole event', async () => {
    const {heard} = await open();
    await last().answer.write('id: 6-0-n\ndata: 1\n\nid: 7-0-n\ndata: cut o');
    await last().answer.break();
    assert.deepEqual(heard.states, ['connecting', 'open', 'waiting network error']);
    await pass(1000);
    assert.equal(query().get('lastEventId'), '6-0-n');
    await last().answer.write('id: 7-0-n\ndata: 2\n\n');
    assert.deepEqual(heard.events.map((event) => event.data), ['1', '2']);
});

test('it begins where it is told to', async () => {
    await open({lastEventId: 'earliest'});
    assert.equal(query().get('lastEventId'), 'earliest');
});

test('delays grow, are random, and have a limit', async () => {
    answerWith(...Array.from({length: 9}, () => () => { throw new TypeError('no network'); }));
    await open();
    const delays = [];
    for (let count = 2; count < 9; count += 1) {
        let ms = 0;
        for (; requests.length < count; ms += 100) {
            await pass(100);
        }
        delays.push(ms);
    }
    assert.deepEqual(delays, [1000, 2000, 4000, 8000, 16000, 30000, 30000]);
    Math.random.mock.mockImplementation(() => 0);
    await pass(30000);
    await pass(15000);
    assert.equal(requests.length, 10);
});

test('a server that lets in and ends at once is not asked again and again', async () => {
    await open();
    for (const ms of [1000, 2000, 4000]) {
        await last().answer.end();
        const before = requests.length;
        await pass(ms - 1);
        assert.equal(requests.length, before);
        await pass(1);
        assert.equal(requests.length, before + 1);
    }
    await pass(5001);   // steady at last
    await last().answer.end();
    await pass(1000);
    assert.equal(requests.length, 5);
});

test('the server says how long to wait', async () => {
    await open();
    await last().answer.write('retry: 60000\n\n');
    await last().answer.end();
    await pass(59999);
    assert.equal(requests.length, 1);
    await pass(1);
    assert.equal(requests.length, 2);
});

for (const retryAfter of ['120', new Date(1e12 + 120_000).toUTCString()]) {
    test(`503 with Retry-After: ${retryAfter}`, async () => {
        answerWith(reject(503, 'draining', {'Retry-After': retryAfter}));
        const {heard} = await open();
        assert.deepEqual(heard.states, ['connecting', 'waiting draining 503']);
        globalThis.dispatchEvent?.(new Event('online'));
        await pass(119_000);
        assert.equal(requests.length, 1);
        await pass(2000);
        assert.deepEqual(heard.states.slice(2), ['connecting', 'open']);
    });
}

test('the error pages of a proxy', async () => {
    answerWith(        () => new Response('<h1>Bad gateway</h1>', {status: 502, headers: {'Content-Type': 'text/html'}}),
        () => new Response('data: 0\n\n', {headers: {'Content-Type': 'text/html'}}),
        () => new Response('{', {status: 500, headers: {'Content-Type': 'application/json'}})
    );
    const {heard} = await open();
    await pass(1000);
    await pass(2000);
    await pass(4000);
    assert.deepEqual(heard.states.filter((state) => state !== 'connecting'),
        ['waiting HTTP 502 502', 'waiting not an event stream 200', 'waiting HTTP 500 500', 'open']);
});

for (const [status, reason] of [[403, 'channel a is not allowed'], [204, 'HTTP 204'], [401, 'no token']]) {
    test(`${status} stops it`, async () => {
        answerWith(reject(status, reason));
        const {stream, heard} = await open();
        assert.deepEqual(heard.states, ['connecting', `stopped ${reason} ${status}`]);
        await pass(100_000);
        stream.add(['b']);
        await pass(100_000);
        assert.equal(requests.length, 1);
    });
}

test('a token is asked for at each connection, and anew when it is refused or has expired', async () => {
    let asked = 0;
    answerWith(reject(401, 'expired'));
    const {heard} = await open({token: async () => `t${asked += 1}`});
    await pass(0);
    assert.deepEqual(requests.map((request) => request.headers.Authorization), ['Bearer t1', 'Bearer t2']);
    await pass(6000);
    await last().answer.write('id: 6-0-n\ndata: 1\n\nevent: sse-expired\ndata: {}\n\nid: 7-0-n\ndata: 2\n\n');
    await pass(0);
    assert.equal(last().headers.Authorization, 'Bearer t3');
    assert.equal(query().get('lastEventId'), '6-0-n');
    assert.deepEqual(heard.events.map((event) => event.data), ['1']);
    assert.deepEqual(heard.states, [
        'connecting', 'waiting expired 401', 'connecting', 'open', 'waiting expired', 'connecting', 'open'
    ]);
});

test('a token that is refused again and again', async () => {
    answerWith(...Array.from({length: 9}, () => reject(401, 'bad token')));
    const {heard} = await open({token: () => 't'});
    await pass(100_000);
    await pass(100_000);
    await pass(100_000);
    assert.equal(requests.length, 4);
    assert.equal(heard.states.at(-1), 'stopped bad token 401');
});

test('a token that cannot be had is asked for again', async () => {
    let asked = 0;
    const {heard} = await open({token: () => (asked += 1) < 2 ? Promise.reject(new Error('login is down')) : 't'});
    assert.deepEqual(heard.states, ['connecting', 'waiting login is down']);
    await pass(1000);
    assert.equal(heard.states.at(-1), 'open');
});

test('silence for longer than twice the ping', async () => {
    const {heard} = await open({ping: 10_000});
    await last().answer.write('\n\n');
    await pass(19_000);
    await last().answer.write(': sse ping\n\n');
    await pass(19_000);
    assert.equal(requests.length, 1);
    await pass(1000);
    assert.equal(requests[0].answer.aborted, true);
    assert.equal(heard.states.at(-1), 'waiting silent');
    await pass(1000);
    assert.equal(heard.states.at(-1), 'open');
});

test('no answer at all', async () => {
    answerWith(silence);
    const {heard} = await open();
    await pass(15_000);
    assert.equal(heard.states.at(-1), 'waiting no answer');
});

test('a gap, and one that the server cannot know of', async () => {
    answerWith(({signal}) => (requests[0].answer = new Answer(signal)).response);
    const {heard} = await open({channels: ['a', 'b']});
    await last().answer.write('event: sse-gap\ndata: {"channels": ["b", "z"]}\n\n');
    assert.deepEqual(heard.gaps, [['b']]);
    await last().answer.break();    // no id so far
    await pass(1000);
    assert.deepEqual(heard.gaps, [['b'], ['a', 'b']]);
});

test('channels that come later begin at that moment', async () => {
    const {stream, heard} = await open();
    await last().answer.write('id: 6-0-n\nchannel: a\ndata: 1\n\n');
    answerWith(({signal}) => new Answer(signal, {'Last-Event-ID': '9-0-n'}).response);
    stream.add(['b']);
    stream.add('c');
    await pass(0);
    const [first, probe, second] = requests;
    assert.deepEqual([probe, second].map((request) => [query(request).getAll('channels'), query(request).get('lastEventId')]),
        [[['a', 'b', 'c'], null], [['a', 'b', 'c'], '6-0-n']]);
    assert.deepEqual([first.signal.aborted, probe.signal.aborted, second.signal.aborted], [true, true, false]);
    await second.answer.write(
        'id: 7-0-n\nchannel: b\ndata: before it was asked for\n\n' +
        'id: 8-0-n\nchannel: a\nchannel: b\ndata: 2\n\n' +
        'id: 10-0-n\nchannel: b\ndata: 3\n\n');
    assert.deepEqual(heard.events.map(({data, channels}) => [data, channels]), [['1', ['a']], ['2', ['a']], ['3', ['b']]]);
    assert.deepEqual(heard.states, ['connecting', 'open']);
});

test('what comes while the next connection is asked for', async () => {
    const {stream, heard} = await open();
    let answer;
    answerWith(({signal}) => new Promise((resolve) => {
        answer = () => resolve(new Answer(signal, {'Last-Event-ID': '7-0-n'}).response);
    }));
    stream.add(['b']);
    await pass(0);
    await requests[0].answer.write('id: 8-0-n\nchannel: a\nchannel: b\ndata: 1\n\n');
    answer();
    await settle();
    // b began at 7, so that the stream goes back to it: what a has heard is not told again
    assert.equal(query().get('lastEventId'), '7-0-n');
    await last().answer.write('id: 8-0-n\nchannel: a\nchannel: b\ndata: 1\n\nid: 9-0-n\nchannel: b\ndata: 2\n\n');
    assert.deepEqual(heard.events.map((event) => event.data), ['1', '2']);
});

test('channels that go', async () => {
    const {stream, heard} = await open({channels: ['a', 'b']});
    stream.remove('b');
    await last().answer.write('id: 6-0-n\nchannel: b\ndata: 1\n\nid: 7-0-n\nchannel: b\nchannel: a\ndata: 2\n\n');
    await pass(0);
    assert.deepEqual(query().getAll('channels'), ['a']);
    assert.equal(query().get('lastEventId'), '7-0-n');
    assert.deepEqual(heard.events.map(({data, channels}) => [data, channels]), [['2', ['a']]]);
    stream.remove(['a']);
    await pass(0);
    assert.equal(last().signal.aborted, true);
    assert.equal(heard.states.at(-1), 'waiting no channels');
    stream.add(['c']);
    await pass(0);
    assert.equal(heard.states.at(-1), 'open');
});

test('a channel that is added when there are none starts anew', async () => {
    const {stream, heard} = await open();
    await last().answer.write('id: 6-0-n\ndata: 1\n\n');
    stream.remove(stream.channels);
    await pass(3_600_000);
    const before = requests.length;
    stream.add('c');
    await pass(0);
    assert.equal(heard.states.at(-1), 'open');
    assert.equal(requests.length, before + 1, 'it needs no position of its own');
    assert.equal(query().get('lastEventId'), null, 'the history may not reach back so far');
    assert.deepEqual(heard.gaps, []);
});

test('closed is closed', async () => {
    const {stream, heard} = await open();
    stream.on('message', () => stream.close());
    await last().answer.write('id: 6-0-n\ndata: 1\n\nid: 7-0-n\ndata: 2\n\n');
    assert.deepEqual(heard.events.map((event) => event.data), ['1']);
    assert.equal(last().signal.aborted, true);
    await pass(100_000);
    assert.equal(requests.length, 1);
    assert.equal(heard.states.at(-1), 'stopped closed');
});

test('ids of another server are taken as they come', async () => {
    const {heard} = await open();
    await last().answer.write('id: 9-0-n\ndata: 1\n\nid: 1-0-m\ndata: 2\n\nid: x\ndata: 3\n\nid: y\ndata: 4\n\n');
    assert.equal(heard.events.length, 4);
});
