// Tabs that share connections: each receives all events from its start on, once, whatever the others do meanwhile.

import assert from 'node:assert/strict';
import {test} from 'node:test';

import {answers, answerWith, open, passed, presence, query, reject, settle} from './module_harness.mjs';
import {dataOf, holdNextAnswer, many, openLinks, publish, serve, tab} from './module_server.mjs';

async function publishAll(channel, ...numbers) {
    for (const number of numbers) {
        await publish(`${number}-0-n`, channel);
    }
}

test('a tab that joins while the others reconnect misses no event', async () => {
    const one = await tab({channels: ['all']});
    const answer = holdNextAnswer();
    await openLinks()[0].answer.break();
    await passed(2000);
    const two = await open({channels: ['all', 'own'], shared: true, lastEventId: '3-0-n'});
    await answer();     // to a request without the channel `own`, after 5-0-n
    await publish('7-0-n', 'all');
    await passed(300);
    assert.deepEqual([query().getAll('channels'), query().get('lastEventId')], [['all', 'own'], '3-0-n']);
    await publish('4-0-n', 'own');
    await publish('5-0-n', 'all');
    await publish('6-0-n', 'own');
    await publish('7-0-n', 'all');
    await publish('8-0-n', 'own');
    assert.deepEqual(dataOf(two), ['e4', 'e5', 'e6', 'e7', 'e8']);
    assert.deepEqual(dataOf(one), ['e7']);
});

test('a channel that starts before the link has it misses no event', async () => {
    const [one, two] = [await tab({channels: ['all'], state: true}), await tab({channels: ['all'], state: true})];
    one.stream.add('x');
    two.stream.add('y');
    const held = [];    // the states of the second tab's channels; the first tab has its own
    const admits = (request) => query(request).getAll('channels').join() === 'all,y';
    answerWith(...many('', 20).map(() => (request) => admits(request) ?
        new Promise((resolve) => { held.push(() => resolve(serve(request))); }) : serve(request)));
    await passed(5000);
    await openLinks()[0].answer.write('id: 7-0-n\nchannel: all\ndata: e7\n\n');
    assert.deepEqual(dataOf(one), ['e7']);
    held.forEach((answer) => answer());
    await passed(5000);
    assert.deepEqual([query().getAll('channels'), query().get('lastEventId')], [['all', 'x', 'y'], '5-0-n']);
    await publish('6-0-n', 'x');
    await publish('7-0-n', 'all');
    await publish('8-0-n', 'x');
    assert.deepEqual(dataOf(one), ['e7', 'e6', 'e8']);
    assert.deepEqual(dataOf(two), ['e7']);
});

test('an event of a removed and of an added channel comes once', async () => {
    const {stream, heard} = await tab({channels: ['b']});
    const admit = holdNextAnswer();     // at 5-0-n
    stream.add('e');
    await passed(100);
    await publish('6-0-n', 'b');        // and in `e`
    stream.remove('b');
    await admit();
    await passed(300);
    assert.deepEqual([query().getAll('channels'), query().get('lastEventId')], [['e'], '5-0-n']);
    await publishAll('e', 6, 7, 8);
    assert.deepEqual(dataOf({heard}), ['e6', 'e7', 'e8']);
});

test('a tab that adds a channel of another tab has its members', async () => {
    const one = await tab({channels: ['a']}), two = await tab({channels: ['b']}), rooms = [];
    one.stream.on('presence', ({channel, members}) => rooms.push([channel, Object.keys(members)]));
    two.stream.on('presence', () => {});
    await passed(300);
    await openLinks()[0].answer.write(presence({channel: 'b', members: {42: {}}, anonymous: 0}));
    one.stream.add('b');
    await passed(300);
    assert.deepEqual(rooms, [['b', ['42']]]);
});

test('with states, a tab that comes later has the members', async () => {
    const one = await tab({channels: ['a'], state: true});
    one.stream.on('presence', () => {});
    await passed(300);
    await openLinks()[0].answer.write(presence({channel: 'a', members: {42: {}}, anonymous: 0}));
    const two = await open({channels: ['a'], state: true, shared: true}), rooms = [];
    two.stream.on('presence', ({channel, members}) => rooms.push([channel, Object.keys(members)]));
    await passed(5000);
    assert.equal(two.heard.states.at(-1), 'open');
    assert.deepEqual(rooms, [['a', ['42']]]);
});

test('a tab that opens together with one that starts at an older event starts with the next event', async () => {
    const one = await open({channels: ['a'], shared: true, lastEventId: '3-0-n'});
    const two = await open({channels: ['a'], shared: true});
    await passed(300);
    await publishAll('a', 4, 5, 6);
    assert.deepEqual(dataOf(one), ['e4', 'e5', 'e6']);
    assert.deepEqual(dataOf(two), ['e6']);
});

test('with states, a new tab that comes while another tab takes the lead starts', async () => {
    const one = await tab({channels: ['a'], state: true}), two = await tab({channels: ['a'], state: true});
    await passed(4000);
    one.stream.close();
    const three = await open({channels: ['a'], state: true, shared: true});
    await passed(20000);
    await publish('6-0-n', 'a');
    assert.equal(two.heard.states.at(-1), 'open');
    assert.equal(three.heard.states.at(-1), 'open');
    assert.deepEqual(dataOf(three), ['e6']);
});

test('alone, with states: a channel that is added before the stream with an id is open', async () => {
    const token = () => new Promise((resolve) => { setTimeout(resolve, 100, 't'); });
    const {stream, heard} = await open({channels: ['a'], state: true, lastEventId: '3-0-n', token});
    stream.add('b');
    await passed(20000);
    await publish('6-0-n', 'b');
    assert.equal(heard.states.at(-1), 'open');
    assert.equal(heard.events.length, 1);
});

test('with states, a channel that the link has, added while another is added', async () => {
    const one = await tab({channels: ['a'], state: true}), two = await tab({channels: ['x'], state: true});
    await passed(4000);
    const stream = openLinks().at(-1);
    assert.deepEqual(stream.names, ['a', 'x']);
    one.stream.add('x');
    two.stream.add('y');
    await settle();
    const states = holdNextAnswer({position: '6-0-n'});     // for one: x starts after 6
    await passed(100);
    await stream.answer.write('id: 7-0-n\nchannel: x\ndata: e7\n\n');
    const other = holdNextAnswer({position: '8-0-n'});      // for two
    await states();
    await passed(3300);
    await stream.answer.write('id: 8-0-n\nchannel: x\ndata: e8\n\n');
    await other();
    await passed(3300);
    assert.deepEqual([query().getAll('channels'), query().get('lastEventId')], [['a', 'x', 'y'], '6-0-n']);
    await publishAll('x', 7, 8, 9);
    assert.deepEqual(dataOf(two), ['e7', 'e8', 'e9']);
    assert.deepEqual(dataOf(one), ['e7', 'e8', 'e9']);
});

test('a page that the browser restores from its cache misses no event', async () => {
    const one = await tab({channels: ['a']});
    const target = new EventTarget();
    globalThis.addEventListener = target.addEventListener.bind(target);
    const two = await tab({channels: ['a']});
    delete globalThis.addEventListener;
    await publish('6-0-n', 'a');
    target.dispatchEvent(new Event('pagehide'));
    await passed(3000);
    await publish('7-0-n', 'a');
    await publish('8-0-n', 'a');
    target.dispatchEvent(Object.assign(new Event('pageshow'), {persisted: true}));
    await settle();
    await publish('9-0-n', 'a');
    await passed(1000);
    assert.equal(query().get('lastEventId'), '6-0-n');
    await publishAll('a', 7, 8, 9, 10);
    assert.deepEqual(dataOf(one), ['e6', 'e7', 'e8', 'e9', 'e10']);
    assert.deepEqual(dataOf(two), ['e6', 'e7', 'e8', 'e9', 'e10']);
});

test('a new leader receives nothing from the links of others', async () => {
    const zero = await tab({channels: ['all', ...many('z', 300)]});    // link 1
    const one = await tab({channels: ['all', ...many('a', 300)]});     // link 2
    const two = await tab({channels: ['all', ...many('b', 300)]});     // link 3
    await publish('6-0-n', 'all');
    zero.stream.close();        // one leads: now link 1, two link 2
    const answer = holdNextAnswer();
    await passed(200);
    assert.equal(openLinks().length, 1);
    await publish('8-0-n', 'all');
    await answer();
    await passed(200);
    const link = openLinks().find(({names}) => names.includes('a-0'));
    assert.ok(link);
    await link.answer.write('id: 7-0-n\nchannel: a-0\ndata: e7\n\nid: 8-0-n\nchannel: all\ndata: e8\n\n');
    assert.deepEqual(dataOf(two), ['e6', 'e8']);
    assert.deepEqual(dataOf(one), ['e6', 'e7', 'e8']);
});

test('a tab that changes its link misses nothing', async () => {
    const one = await tab({channels: ['all', ...many('a', 300)]});
    const two = await tab({channels: ['all', 'own']});
    assert.equal(openLinks().length, 1);
    const answer = holdNextAnswer();
    two.stream.add(many('b', 200));
    await passed(300);                  // its new link's answer is slow
    await passed(2000);                 // link 1 gives up `own`
    const first = openLinks()[0];
    assert.ok(!first.names.includes('own'));
    // 6: own, which no link has
    await publish('7-0-n', 'all');
    await answer();
    await passed(500);
    const link = openLinks().find(({names}) => names.includes('own'));
    await link.answer.write('id: 6-0-n\nchannel: own\ndata: e6\n\nid: 7-0-n\nchannel: all\ndata: e7\n\n');
    assert.deepEqual(dataOf(one), ['e7']);
    assert.deepEqual(dataOf(two).sort(), ['e6', 'e7']);
});

test('lastEventId does not go back when the link goes back for another tab', async () => {
    const one = await tab({channels: ['a']});
    await publish('10-0-n', 'a');
    const two = await tab({channels: ['b'], lastEventId: '3-0-n'});
    await publish('4-0-n', 'b');
    assert.deepEqual(dataOf(two), ['e4']);
    assert.equal(one.stream.lastEventId, '10-0-n');
});

test('the channels of a tab that leaves while the link connects are given up', async () => {
    const one = await tab({channels: ['a']}), two = await tab({channels: ['b']});
    const answer = holdNextAnswer();
    await openLinks()[0].answer.break();
    await passed(2000);
    two.stream.close();
    await answer();
    await passed(10000);
    assert.equal(one.heard.states.at(-1), 'open');
    assert.deepEqual(openLinks().map(({names}) => names), [['a']]);
});

test('a tab that is refused after it has left stops no other', async () => {
    const one = await tab({channels: ['a']});
    const refuse = holdNextAnswer({answer: reject(403, 'refused')});
    const two = await tab({channels: ['bad']});
    two.stream.close();
    await settle();
    await refuse();
    await passed(3000);
    assert.equal(one.heard.states.at(-1), 'open');
});

test('a connection that is refused after a tab has left stops no other', async () => {
    const one = await tab({channels: ['a']}), two = await tab({channels: ['b']});
    const refuse = holdNextAnswer({answer: reject(403, 'refused')});
    await openLinks()[0].answer.break();
    await passed(2000);
    two.stream.close();         // it has lost its right to `b`
    await settle();
    await refuse();
    await passed(3000);
    assert.equal(one.heard.states.at(-1), 'open');
});

test('a channel that is added again while the link goes back for another tab has no event twice', async () => {
    const one = await tab({channels: ['a', 'b']});
    await publishAll('a', 6, 7);
    const two = await tab({channels: ['a'], lastEventId: '5-0-n'});
    one.stream.remove('a');
    answers.unshift((request) => serve(request, '7-0-n'));
    one.stream.add('a');
    await passed(300);
    await publishAll('a', 6, 7, 8);
    assert.deepEqual(dataOf(two), ['e6', 'e7', 'e8']);
    assert.deepEqual(dataOf(one), ['e6', 'e7', 'e8']);
});

test('a tab that opens while the link goes through the history starts with the next event', async () => {
    const one = await tab({channels: ['a'], lastEventId: '3-0-n'});
    answers.unshift((request) => serve(request, '6-0-n'));
    const two = await tab({channels: ['a']});
    await publishAll('a', 4, 5, 6, 7);
    assert.deepEqual(dataOf(one), ['e4', 'e5', 'e6', 'e7']);
    assert.deepEqual(dataOf(two), ['e7']);
    assert.equal(openLinks().length, 1);
});

test('a connection that goes back twice has no event twice', async () => {
    const {stream, heard} = await open();
    await publish('8-0-n', 'a');
    for (const change of [() => stream.on('presence', () => {}), () => stream.add('b'), () => stream.add('c')]) {
        answers.unshift((request) => serve(request, '7-0-n'));
        change();
        await passed(300);
        await publish('8-0-n', 'a');
    }
    await publish('9-0-n', 'a');
    assert.equal(query().get('lastEventId'), '7-0-n');
    assert.deepEqual(dataOf({heard}), ['e8', 'e9']);
});

test('with states, a channel that the link has, added while its tab is being admitted', async () => {
    await tab({channels: ['a', 'b'], state: true});
    const states = holdNextAnswer();
    const two = await tab({channels: ['a'], state: true});
    two.stream.add('b');
    await states();
    await passed(2000);
    await publish('6-0-n', 'b');
    assert.deepEqual([dataOf(two), two.heard.states.at(-1)], [['e6'], 'open']);
});
