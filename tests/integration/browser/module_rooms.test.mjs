// States, presence, and events that do not go back to who published them, also where tabs share a connection.

import assert from 'node:assert/strict';
import {test} from 'node:test';

import {connect} from '../../../media/cyclone-sse.js';
import {Answer, answerWith, last, open, pass, passed, presence, query, requests, settle} from './module_harness.mjs';
import {installTabs} from './module_tabs.mjs';

const event = (id, channel, data) => `id: ${id}-0-n\nchannel: ${channel}\ndata: ${data}\n\n`;
const answerAt = (position, text) => ({signal}) => {
    const answer = new Answer(signal, {'Last-Event-ID': `${position}-0-n`});
    answer.control.enqueue(new TextEncoder().encode(text));
    last().answer = answer;
    return answer.response;
};

function listen(stream) {
    const rooms = [];
    stream.on('presence', (room) => rooms.push(room));
    return rooms;
}

const dataOf = ({heard}) => heard.events.map(({data, channels}) => `${channels} ${data}`);

// ---- States ----

test('states come first, and are told once', async () => {
    answerWith(answerAt(9, `\n\n${event(3, 'a', 's3')}${event(5, 'b', 's5')}id: 9-0-n\n\n${event(10, 'a', 'e10')}`));
    const opened = await open({channels: ['a', 'b'], state: true});
    assert.equal(query().get('state'), '1');
    assert.deepEqual(dataOf(opened), ['a s3', 'b s5', 'a e10']);
    assert.equal(opened.stream.lastEventId, '10-0-n');
    await last().answer.break();
    answerWith(answerAt(10, `\n\n${event(11, 'b', 'e11')}`));
    await pass(1000);
    assert.deepEqual([query().get('lastEventId'), query().get('state')], ['10-0-n', '1']);
    assert.deepEqual(dataOf(opened).slice(3), ['b e11']);
});

test('polls with states', async () => {
    answerWith(answerAt(9, `\n\n${event(3, 'a', 's3')}id: 9-0-n\n\n`));
    const opened = await open({state: true, poll: true});
    assert.equal(query().get('state'), '1');
    await last().answer.end();
    assert.deepEqual([dataOf(opened), query().get('lastEventId')], [['a s3'], '9-0-n']);
    await last().answer.write(event(10, 'a', 'e10'));
    assert.deepEqual([dataOf(opened), requests.map(({method}) => method)], [['a s3', 'a e10'], ['GET', 'GET']]);
});

test('a break between the states and the position', async () => {
    answerWith(answerAt(9, `\n\n${event(3, 'a', 's3')}`));
    const opened = await open({channels: ['a', 'b'], state: true});
    await last().answer.break();
    answerWith(answerAt(12, `\n\n${event(3, 'a', 's3')}${event(7, 'b', 's7')}id: 12-0-n\n\n`));
    await pass(1000);
    assert.equal(query().get('lastEventId'), null, 'the states are requested again');
    assert.deepEqual(dataOf(opened), ['a s3', 'b s7']);
    assert.deepEqual(opened.heard.gaps, []);
    await last().answer.break();
    await pass(2000);
    assert.equal(query().get('lastEventId'), '12-0-n');
});

for (const way of ['end', 'break']) {
    test(`a long poll whose states ${way} before the position`, async () => {
        answerWith(answerAt(9, `\n\n${event(3, 'a', 's3')}`));
        const opened = await open({channels: ['a', 'b'], state: true, poll: true});
        await last().answer[way]();
        answerWith(answerAt(12, `\n\n${event(3, 'a', 's3')}${event(7, 'b', 's7')}id: 12-0-n\n\n`));
        await pass(1000);
        assert.equal(query().get('lastEventId'), null, 'the states are requested again');
        assert.deepEqual(dataOf(opened), ['a s3', 'b s7']);
        await last().answer.end();
        await pass(2000);
        assert.equal(query().get('lastEventId'), '12-0-n');
        assert.deepEqual(opened.heard.gaps, []);
    });
}

test('the states after a gap', async () => {
    answerWith(answerAt(2, '\n\nid: 2-0-n\n\n'));
    const opened = await open({channels: ['a', 'b'], state: true});
    await last().answer.break();
    answerWith(answerAt(2, '\n\nevent: sse-gap\ndata: {"channels": ["a"]}\n\nchannel: a\ndata: s12\n\nid: 20-0-n\n\n' +
        event(21, 'a', 'e21')));
    await pass(1000);
    assert.deepEqual(opened.heard.gaps, [['a']]);
    assert.deepEqual(dataOf(opened), ['a s12', 'a e21']);
    assert.equal(opened.stream.lastEventId, '21-0-n');
});

test('states that come slowly are all told', async () => {
    answerWith(answerAt(9, '\n\nid: 9-0-n\n\n'));
    const opened = await open({state: true});
    answerWith(answerAt(12, `\n\n${event(3, 'b', 's3')}`), answerAt(9, '\n\n'));
    opened.stream.add(['b', 'c']);
    await passed(20_000);
    await last().answer.write(`${event(7, 'c', 's7')}id: 12-0-n\n\n`);
    await passed(100);
    assert.deepEqual(dataOf(opened), ['b s3', 'c s7']);
    assert.equal(opened.heard.states.at(-1), 'open');
});

for (const [what, react] of [['close()', ({close}) => close()], ["remove('c')", ({remove}) => remove('c')]]) {
    test(`${what} in a handler of a state is the end of those that follow`, async () => {
        answerWith(answerAt(9, '\n\nid: 9-0-n\n\n'));
        const opened = await open({state: true});
        opened.stream.on('message', () => react(opened.stream));
        answerWith(answerAt(12, `\n\n${event(3, 'b', 's3')}${event(7, 'c', 's7')}id: 12-0-n\n\n`), answerAt(9, '\n\n'));
        opened.stream.add(['b', 'c']);
        await passed(2000);
        assert.deepEqual(dataOf(opened), ['b s3']);
    });
}

test('states that stop coming are requested again', async () => {
    answerWith(answerAt(9, '\n\nid: 9-0-n\n\n'));
    const opened = await open({state: true});
    answerWith(
        answerAt(12, `\n\n${event(3, 'b', 's3')}`),
        answerAt(13, `\n\n${event(3, 'b', 's3')}${event(7, 'c', 's7')}id: 13-0-n\n\n`), answerAt(9, '\n\n')
    );
    opened.stream.add(['b', 'c']);
    await passed(70_000);
    assert.deepEqual(dataOf(opened), ['b s3', 'c s7']);
    assert.equal(opened.heard.states.at(-1), 'open');
});

test('the state of a channel that comes later', async () => {
    answerWith(answerAt(9, `\n\n${event(3, 'a', 's3')}id: 9-0-n\n\n`));
    const opened = await open({state: true});
    answerWith(
        answerAt(12, `\n\n${event(3, 'a', 's3')}${event(7, 'b', 's7')}id: 12-0-n\n\n`),
        answerAt(9, `\n\n${event(11, 'b', 'before')}${event(12, 'a', 'e12')}${event(13, 'b', 'e13')}`)
    );
    opened.stream.add(['b']);
    await passed(100);
    assert.deepEqual(dataOf(opened), ['a s3', 'b s7', 'a e12', 'b e13']);
});

test('each tab hears the states of its channels', async () => {
    installTabs();
    answerWith(answerAt(9, `\n\n${event(3, 'a', 's3')}id: 9-0-n\n\n`));
    const first = await open({channels: ['a'], state: true, shared: true});
    await passed(200);
    await last().answer.write(event(10, 'a', 'e10'));
    answerWith(answerAt(10, `\n\n${event(10, 'a', 'e10')}id: 10-0-n\n\n`));
    const second = await open({channels: ['a'], state: true, shared: true});
    await passed(200);
    assert.deepEqual([dataOf(first), dataOf(second)], [['a s3', 'a e10'], ['a e10']]);
    const stream = requests.find((request) => request.answer && !request.answer.aborted);
    await stream.answer.write(event(11, 'a', 'e11'));
    assert.deepEqual([dataOf(first).at(-1), dataOf(second).at(-1)], ['a e11', 'a e11']);
    assert.deepEqual([first, second].map(({heard}) => heard.states.at(-1)), ['open', 'open']);
});

// Opens the tab that connects for all; returns its request.
async function openLeader() {
    installTabs();
    answerWith(answerAt(5, '\n\nid: 5-0-n\n\n'));
    await open({channels: ['a'], state: true, shared: true});
    await passed(200);
    return last();
}

test('states that are cut off are requested again', async () => {
    await openLeader();
    answerWith(answerAt(9, `\n\n${event(3, 'b', 's3')}`), answerAt(9, `\n\n${event(3, 'b', 's3')}${event(4, 'c', 's4')}id: 9-0-n\n\n`));
    const second = await open({channels: ['b', 'c'], state: true, shared: true});
    await passed(200);
    await last().answer.end();
    assert.deepEqual(dataOf(second), []);
    await passed(2000);
    assert.deepEqual(dataOf(second), ['b s3', 'c s4']);
});

test('states that come slowly are read to the end', async () => {
    await openLeader();
    answerWith(answerAt(9, '\n\n'));
    const second = await open({channels: ['b', 'c'], state: true, shared: true});
    await passed(200);
    const {answer} = last();
    await passed(2000);
    await answer.write(event(3, 'b', 's3'));
    await passed(2000);
    await answer.write(`${event(4, 'c', 's4')}id: 9-0-n\n\n`);
    await passed(200);
    assert.deepEqual(dataOf(second), ['b s3', 'c s4']);
});

test('states that come for longer than the silence of a stream are read to the end', async () => {
    const stream = await openLeader(), numbers = Array.from({length: 30}, (_, number) => number + 1);
    answerWith(answerAt(99, '\n\n'));
    const second = await open({channels: ['b'], state: true, shared: true});
    await passed(200);
    const {answer} = last();
    for (const number of numbers) {
        await passed(2500);
        await stream.answer.write(': ping\n\n');
        await answer.write(event(number, 'b', `s${number}`));
    }
    await answer.write('id: 99-0-n\n\n');
    await passed(200);
    assert.deepEqual(dataOf(second), numbers.map((number) => `b s${number}`));
});

// Opens a tab whose connection has brought one of its two states.
async function openInTheMiddle() {
    installTabs();
    answerWith(answerAt(9, `\n\n${event(3, 'a', 's3')}`));
    const opened = await open({channels: ['a', 'b'], state: true, shared: true});
    await passed(200);
    assert.deepEqual([opened.heard.states, dataOf(opened)], [['connecting'], []]);
    return {...opened, request: last()};
}

const bothStates = answerAt(13, `\n\n${event(3, 'a', 's3')}${event(5, 'b', 's5')}id: 13-0-n\n\n${event(14, 'b', 'e14')}`);

for (const how of ['break', 'end']) {
    test(`a connection that ${how}s between the states`, async () => {
        const opened = await openInTheMiddle();
        answerWith(bothStates);
        await opened.request.answer[how]();
        await passed(3000);
        assert.equal(query().get('lastEventId'), null, 'the states are requested again');
        assert.deepEqual(dataOf(opened), ['a s3', 'b s5', 'b e14']);
        assert.deepEqual([opened.heard.gaps, opened.heard.states.at(-1)], [[], 'open']);
    });
}

test('a tab that comes between the states of another has all of its own', async () => {
    const first = await openInTheMiddle();
    const second = await open({channels: ['a', 'c'], state: true, shared: true});
    await passed(200);
    answerWith(
        answerAt(12, `\n\n${event(3, 'a', 's3')}id: 12-0-n\n\n`),     // for the second tab
        answerAt(9, `\n\n${event(10, 'b', 'e10')}${event(13, 'a', 'e13')}${event(14, 'c', 'e14')}`)
    );
    await first.request.answer.write(`${event(5, 'b', 's5')}id: 9-0-n\n\n`);
    await passed(200);
    assert.deepEqual([query().getAll('channels'), query().get('lastEventId')], [['a', 'b', 'c'], '9-0-n']);
    assert.deepEqual([first, second].map(dataOf), [['a s3', 'b s5', 'b e10', 'a e13'], ['a s3', 'a e13', 'c e14']]);
    assert.deepEqual([first, second].map(({heard}) => heard.states.at(-1)), ['open', 'open']);
});

test('the tab that leads closes before another has its states', async () => {
    const first = await openInTheMiddle();
    const second = await open({channels: ['a', 'b'], state: true, shared: true});
    await passed(200);
    answerWith(bothStates);
    first.stream.close();
    await passed(1000);
    assert.equal(query().get('lastEventId'), null);
    assert.deepEqual([first, second].map(dataOf), [[], ['a s3', 'b s5', 'b e14']]);
});

test('the members that come with the states', async () => {
    answerWith(answerAt(9, `\n\n${event(3, 'a', 's3')}${presence({channel: 'a', members: {42: {}}, anonymous: 0})}id: 9-0-n\n\n`));
    const opened = connect('http://server/sse/', {channels: 'a', state: true}), rooms = listen(opened);
    await settle();
    await pass(0);
    assert.deepEqual(rooms.map(({members}) => Object.keys(members)), [['42']]);
    opened.close();
});

// ---- Presence ----

test('the whole list is kept', async () => {
    const {stream} = await open({channels: ['a', 'b']});
    assert.equal(query().get('presence'), null);
    const rooms = listen(stream);
    await pass(0);
    assert.equal(query().get('presence'), '1');
    await last().answer.write(presence({channel: 'a', members: {42: {name: 'Ann'}}, anonymous: 3}));
    await last().answer.write(presence({channel: 'a', joined: {43: {name: 'Bob'}}, left: [], anonymous: 2}));
    await last().answer.write(presence({channel: 'a', joined: {}, left: ['42'], anonymous: 2}));
    assert.deepEqual(rooms, [
        {channel: 'a', members: {42: {name: 'Ann'}}, count: 1, anonymous: 3, joined: {}, left: []},
        {channel: 'a', members: {42: {name: 'Ann'}, 43: {name: 'Bob'}}, count: 2, anonymous: 2, joined: {43: {name: 'Bob'}}, left: []},
        {channel: 'a', members: {43: {name: 'Bob'}}, count: 1, anonymous: 2, joined: {}, left: ['42']}
    ]);
    await last().answer.break();
    await pass(1000);
    await last().answer.write(presence({channel: 'a', members: {43: {}, 44: {}}, anonymous: 0}));
    assert.deepEqual(rooms.at(-1), {channel: 'a', members: {43: {}, 44: {}}, count: 2, anonymous: 0, joined: {44: {}}, left: []});
});

test('a change that the list has already is none', async () => {
    const {stream} = await open({channels: ['a']}), rooms = listen(stream);
    await pass(0);
    await last().answer.write(presence({channel: 'a', members: {42: {}}, anonymous: 0}));
    await last().answer.write(presence({channel: 'a', joined: {42: {}}, left: ['43'], anonymous: 0}));
    assert.deepEqual(rooms[1], {channel: 'a', members: {42: {}}, count: 1, anonymous: 0, joined: {}, left: []});
});

test('the members of a channel that was removed are forgotten', async () => {
    const {stream} = await open({channels: ['a', 'b']}), rooms = listen(stream);
    await pass(0);
    await last().answer.write(presence({channel: 'b', members: {42: {}}, anonymous: 0}));
    stream.remove('b');
    await passed(1000);
    assert.deepEqual(query().getAll('channels'), ['a']);
    stream.add('b');
    await passed(1000);
    await last().answer.write(presence({channel: 'b', members: {43: {}}, anonymous: 0}));
    assert.deepEqual(rooms.at(-1), {channel: 'b', members: {43: {}}, count: 1, anonymous: 0, joined: {}, left: []});
});

test('it is no event, and other names of members do no harm', async () => {
    const opened = await open({channels: ['a']}), rooms = listen(opened.stream), all = [];
    opened.stream.on('*', ({type}) => all.push(type));
    await pass(0);
    await last().answer.write(`event: sse-presence\ndata: {"channel": "a", "members": {"__proto__": {}, "toString": {}}, "anonymous": 0}\n\n`);
    await last().answer.write(presence({channel: 'a', joined: {constructor: {}}, left: ['toString'], anonymous: 0}));
    assert.deepEqual(Object.keys(rooms[1].members), ['__proto__', 'constructor']);
    assert.deepEqual([rooms[1].left, all], [['toString'], []]);
});

test('a room of more members than the server names', async () => {
    const {stream} = await open({channels: ['a']}), rooms = listen(stream);
    await pass(0);
    await last().answer.write(presence({channel: 'a', count: 1001, anonymous: 5}));
    await last().answer.write(presence({channel: 'a', joined: {}, left: ['1', '2'], anonymous: 5}));
    await last().answer.write(presence({channel: 'a', members: {3: {}}, anonymous: 0}));
    assert.deepEqual(rooms.map(({members, count}) => [Object.keys(members).length, count]), [[0, 1001], [0, 999], [1, 1]]);
});

test('a list that cannot be read ends nothing', async () => {
    const {stream, heard} = await open({channels: ['a']}), rooms = listen(stream);
    await pass(0);
    await last().answer.write('event: sse-presence\ndata: {"chan\n\n' + event(6, 'a', 1));
    assert.deepEqual([rooms, heard.events.length, heard.states.at(-1)], [[], 1, 'open']);
});

test('a tab that comes later has the list at once', async () => {
    installTabs();
    const first = await open({channels: ['a'], shared: true}), rooms = listen(first.stream);
    await passed(200);
    await last().answer.write(presence({channel: 'a', members: {42: {}}, anonymous: 0}));
    const asked = requests.length;
    const second = await open({channels: ['a'], shared: true}), others = listen(second.stream);
    const third = await open({channels: ['a'], shared: true});
    await passed(200);
    assert.equal(requests.length, asked);
    assert.deepEqual(others.map(({members}) => members), [{42: {}}]);
    await last().answer.write(presence({channel: 'a', joined: {43: {}}, left: [], anonymous: 0}));
    assert.deepEqual([rooms, others].map((list) => list.at(-1).count), [2, 2]);
    assert.deepEqual([third.heard.events, third.heard.states.at(-1)], [[], 'open']);
    second.stream.close();
});

test('after a change of the leading tab, the others are told who joined and left', async () => {
    installTabs();
    const first = await open({channels: ['a'], shared: true});
    listen(first.stream);
    const second = await open({channels: ['a'], shared: true}), rooms = listen(second.stream);
    await passed(200);
    await last().answer.write(presence({channel: 'a', members: {42: {}, 43: {}}, anonymous: 0}));
    first.stream.close();
    await passed(5000);
    await last().answer.write(presence({channel: 'a', members: {43: {}, 44: {}}, anonymous: 0}));
    assert.deepEqual(rooms.at(-1), {channel: 'a', members: {43: {}, 44: {}}, count: 2, anonymous: 0, joined: {44: {}}, left: ['42']});
    second.stream.close();
    await settle();
});

// ---- Not to the sender ----

test('what is published except for this client', async () => {
    const opened = await open();
    assert.equal(query().get('client'), opened.stream.client);
    assert.match(opened.stream.client, /^[0-9a-z]{1,64}$/);
    await last().answer.write(`except: ${opened.stream.client}\n${event(6, 'a', 'mine')}except: other\n${event(7, 'a', 'else')}`);
    assert.deepEqual(dataOf(opened), ['a else']);
});

test('other tabs of the same connection hear it', async () => {
    installTabs();
    const tabs = [await open({shared: true}), await open({shared: true})];
    await passed(200);
    assert.equal(query().get('client'), null);
    assert.notEqual(tabs[0].stream.client, tabs[1].stream.client);
    await last().answer.write(`except: ${tabs[0].stream.client}\n${event(6, 'a', 'x')}`);
    assert.deepEqual(tabs.map(dataOf), [[], ['a x']]);
    await settle();
});
