// Tabs that share connections: what one of them does wrong takes no other with it.

import assert from 'node:assert/strict';
import {mock, test} from 'node:test';

import {open, passed, requests} from './module_harness.mjs';
import {many, openLinks, publish, setRules, tab} from './module_server.mjs';

// Tokens of one user: only their times differ, so that they share.
const jwt = (exp) => `x.${btoa(JSON.stringify({sub: 'ann', exp}))}.y`;

test('401 for the token of the leader stops the leader alone', async () => {
    const [old, good] = [jwt(1), jwt(2)];
    const leader = await tab({channels: ['a'], token: old});
    const other = await tab({channels: ['b'], token: good});
    assert.equal(openLinks().length, 1);
    setRules((names, token) => token === `Bearer ${old}` ? 401 : 200);
    await openLinks()[0].answer.break();
    await passed(2000);
    assert.equal(leader.heard.states.at(-1), 'stopped refused 401');
    assert.equal(other.heard.states.at(-1), 'open');
    await publish('6-0-n', 'b', 1);
    assert.deepEqual(other.heard.events.map((event) => event.data), ['1']);
    assert.ok(!other.heard.states.some((state) => state.startsWith('stopped')));
});

test('204 stops one tab after another', async () => {
    const tabs = [await tab({}), await tab({})];
    setRules(() => 204);
    await openLinks()[0].answer.break();
    await passed(5000);
    assert.deepEqual(tabs.map(({heard}) => heard.states.at(-1)), Array(2).fill('stopped HTTP 204 204'));
});

for (const how of ['throws', 'never comes']) {
    test(`a leader's token that ${how} stalls no other`, async () => {
        let asked = 0;
        const fail = () => how === 'throws' ? Promise.reject(new Error('login is down')) : new Promise(() => {});
        const token = () => (asked += 1) > 1 ? fail() : jwt(1);
        const leader = await tab({channels: ['a'], token});
        const other = await tab({channels: ['b'], token: () => jwt(2)});
        await openLinks()[0].answer.break();
        await passed(how === 'throws' ? 3000 : 63_000);
        assert.deepEqual([leader.heard.states.at(-1), other.heard.states.at(-1)], ['open', 'open']);
        await publish('6-0-n', 'a', 1);
        assert.deepEqual(leader.heard.events.map((event) => event.data), ['1']);
        assert.equal(openLinks().length, 1);
    });
}

test('tokens that no tab can have are asked for with growing pauses', async () => {
    let isDown = false, asked = 0;
    const token = async () => {
        asked += 1;
        if (isDown) {
            throw new Error('login is down');
        }
        return jwt(1);
    };
    const tabs = [await tab({token}), await tab({token}), await tab({token})];
    isDown = true;
    asked = 0;
    await openLinks()[0].answer.break();
    await passed(60_000);
    assert.ok(asked < 40, String(asked));
    isDown = false;
    await passed(70_000);
    assert.deepEqual(tabs.map(({heard}) => heard.states.at(-1)), ['open', 'open', 'open']);
});

test('a lock that the browser refuses is requested again after a pause', async () => {
    let asked = 0;
    const {locks} = navigator, grant = locks.request;
    const refusing = mock.method(locks, 'request', (name, how, callback) => {
        if (!how.signal) {  // the lock by which others notice that the tab has gone
            return grant(name, how, callback);
        }
        asked += 1;
        return asked > 100 ? new Promise(() => {}) : Promise.reject(new DOMException('not allowed', 'SecurityError'));
    });
    await tab({});
    await passed(2000);
    assert.ok(asked > 2 && asked < 8, `${asked} times in two seconds`);
    refusing.mock.restore();
    await passed(1000);
    assert.equal(openLinks().length, 1);
});

test('tabs whose channels are too many for one request have several', async () => {
    const sets = [many('a', 300), many('b', 300), many('c', 450), many('d', 20)];
    const tabs = [];
    for (const channels of sets) {
        tabs.push(await tab({channels}));
    }
    assert.equal(openLinks().length, 3);
    assert.deepEqual(tabs.map(({heard}) => heard.states.at(-1)), Array(4).fill('open'));
    for (const [number, name] of ['a-0', 'b-299', 'c-449', 'd-0'].entries()) {
        await publish(`${number + 6}-0-n`, name, number);
    }
    assert.deepEqual(tabs.map(({heard}) => heard.events.map((event) => event.data)), [['0'], ['1'], ['2'], ['3']]);
    assert.ok(requests.every((request) => request.url.length < 8000));
});

test('a server that accepts fewer channels', async () => {
    const refuse = (names) => names.length > 25 ? 400 : 200;
    setRules(refuse);
    const tabs = [];
    for (const name of ['a', 'b', 'c', 'd', 'e']) {
        tabs.push(await tab({channels: many(name, 10)}));
        await passed(1000);
    }
    assert.deepEqual(tabs.map(({heard}) => heard.states.at(-1)), Array(5).fill('open'));
    assert.equal(openLinks().length, 3);
    for (const [number, name] of ['a-0', 'b-9', 'c-9', 'd-0', 'e-5'].entries()) {
        await publish(`${number + 6}-0-n`, name, number);
    }
    assert.deepEqual(tabs.map(({heard}) => heard.events.length), [1, 1, 1, 1, 1]);
    const asked = requests.length;
    await passed(20_000);
    assert.equal(requests.length, asked);   // nothing is tried again and again
});

test('tabs that open at once send few requests to a server that accepts fewer channels', async () => {
    setRules((names) => names.length > 12 ? 400 : 200);
    const tabs = [];
    for (const name of many('tab', 20)) {
        tabs.push(await open({channels: many(name, 5), shared: true}));
    }
    await passed(20_000);
    assert.deepEqual(tabs.map(({heard}) => heard.states.at(-1)), Array(20).fill('open'));
    assert.ok(requests.length < 150, `${requests.length}`);
});

test('tabs with the same channels share a connection, however many these are', async () => {
    await tab({channels: many('a', 450)});
    await tab({channels: many('a', 450)});
    assert.equal(openLinks().length, 1);
});

test('a tab that has no channels at the moment is not asked for when another is refused', async () => {
    setRules((names) => names.length ? names.includes('bad') ? 403 : 200 : 400);
    const one = await tab({channels: ['a']}), two = await tab({channels: ['b']});
    two.stream.remove('b');
    await passed(3000);
    const bad = await tab({channels: ['bad'], lastEventId: '3-0-n'});
    await passed(3000);
    two.stream.add('b');
    await passed(3000);
    assert.deepEqual([one, two, bad].map(({heard}) => heard.states.at(-1)), ['open', 'open', 'stopped refused 403']);
});

test('a tab with a name that the server never accepts stops alone', async () => {
    setRules((names) => names.includes('bad') ? 400 : 200);
    const first = await tab({channels: ['a']});
    const bad = await tab({channels: ['bad']});
    const third = await tab({channels: ['c']});
    await passed(2000);
    const states = [first, bad, third].map(({heard}) => heard.states.at(-1));
    assert.deepEqual(states, ['open', 'stopped refused 400', 'open']);
    assert.equal(openLinks().length, 1);
});

test('a channel of two links comes once, in order', async () => {
    const one = await tab({channels: ['all', ...many('a', 300)]});
    const two = await tab({channels: ['all', ...many('b', 300)]});
    await publish('6-0-n', 'a-1', 1);
    await openLinks()[1].answer.write('id: 9-0-n\nchannel: all\ndata: 3\n\n');
    await openLinks()[0].answer.write('id: 8-0-n\nchannel: a-2\ndata: 2\n\nid: 9-0-n\nchannel: all\ndata: 3\n\n');
    assert.deepEqual(one.heard.events.map((event) => event.data), ['1', '2', '3']);
    assert.deepEqual(two.heard.events.map((event) => event.data), ['3']);
    one.stream.add(many('a2', 100));
    await passed(500);
    assert.deepEqual([one, two].map(({heard}) => heard.states.at(-1)), ['open', 'open']);
});

test('a tab that leaves gives its link up', async () => {
    const [one, two] = [await tab({channels: many('a', 300)}), await tab({channels: many('b', 300)})];
    two.stream.close();
    await passed(2000);
    assert.equal(openLinks().length, 1);
    one.stream.close();
    await passed(2000);
    assert.equal(openLinks().length, 0);
});

test('tabs of another version share nothing', async () => {
    const names = [];
    const {request} = navigator.locks;
    navigator.locks.request = (name, ...rest) => { names.push(name); return request(name, ...rest); };
    await tab({});
    navigator.locks.request = request;
    assert.ok(names.length && names.every((name) => JSON.parse(/^\[.*\]/.exec(name)[0])[1] === 3));
});

test('what a tab has sent to an earlier leader is out of date', async () => {
    const names = new Set(), {request} = navigator.locks;
    navigator.locks.request = (name, ...rest) => { names.add(name); return request(name, ...rest); };
    const tabs = [await tab({channels: ['a']}), await tab({channels: ['b']})];
    navigator.locks.request = request;
    const channel = new BroadcastChannel([...names].find((name) => name.endsWith(']')));
    channel.onmessage = () => {};
    channel.postMessage({from: tabs[1].stream.client, to: 1, wants: {marks: {old: '3-0-n'}, presence: false}});
    channel.close();
    await passed(2000);
    await publish('6-0-n', 'b', 1);
    assert.deepEqual(openLinks().map((link) => link.names), [['a', 'b']]);
    assert.equal(tabs[1].heard.events.length, 1);
});
