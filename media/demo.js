/*
 * The script of demo.html: subscribe, publish, watch, and show how to do the same elsewhere.
 *
 * The page is served at /demo, or at /sse/demo behind a proxy: every address is taken relative to it.
 */
import {connect} from './cyclone-sse.js';

const KEPT = 25;            // events in the list
const SECONDS = 60;         // width of the chart
const CHART_HEIGHT = 20;    // of its viewBox
const SUMMARY_SECONDS = 5;  // a screen reader is told of new events at most this often
const STATS_INTERVAL = 2000;    // ms
const STATE_PAUSE = 300;        // ms after an event before the states are asked for

const $ = (id) => document.getElementById(id);
const base = new URL('./', document.location);
const perSecond = new Array(SECONDS).fill(0);

let stream = null;
let received = 0;
let thisSecond = 0;
let summarised = 0;
let seconds = 0;
let asking = 0;     // timer

// A pattern has no state.
const hasPattern = (channels) => channels.some((name) => name.includes('*'));

// The channels in the fields of this name.
function channelsIn(name) {
    const fields = document.querySelectorAll(`input[name=${name}]`);
    return [...new Set([...fields].map((field) => field.value.trim()).filter(Boolean))];
}

function element(name, text, attributes) {
    const made = document.createElement(name);
    made.textContent = text;
    Object.assign(made, attributes);
    return made;
}

// ---- Subscribe ----

function show(state, text) {
    $('state').dataset.state = state;
    $('state').textContent = text;
    $('disconnect').disabled = !stream;
}

function changed({state, reason, status}) {
    if (state === 'connecting') {
        show('connecting', 'Connecting');
    } else if (state === 'open') {
        show('open', 'Connected to ' + stream.channels.join(', '));
        showStates();
    } else if (state === 'waiting' && reason === 'expired') {
        list('The token has expired', {kind: 'gap'});
    } else if (state === 'waiting') {
        show('lost', 'Connection lost, trying again' + (status ? ': ' + reason : ''));
    } else if (status) {
        stream = null;
        show('lost', `The server refuses: ${reason} (${status})`);
    }
}

function subscribe(channels) {
    const state = !hasPattern(channels);
    stream = connect(base, {channels, token: $('token').value, shared: true, state});
    stream.on('state', changed);
    stream.on('presence', showMembers);
    stream.on('gap', (gap) => list('Events were missed in: ' + gap.channels.join(', '), {kind: 'gap'}));
    stream.on('*', (event) => {
        received += 1;
        thisSecond += 1;
        $('count').textContent = received.toLocaleString();
        list(event.data, event);
        clearTimeout(asking);
        asking = setTimeout(showStates, STATE_PAUSE);
    });
}

function disconnect() {
    const closed = stream;
    stream = null;
    closed?.close();
    $('members').replaceChildren();
    $('states').replaceChildren();
    $('no-members').hidden = $('no-state').hidden = false;
    show('closed', 'Not connected');
}

function list(text, {kind = '', type = 'message', channels = [], lastEventId = ''}) {
    const item = element('li', '', {className: kind});
    item.append(
        element('time', new Date().toLocaleTimeString()),
        element('span', channels.join(', ')),
        element('span', type === 'message' ? '' : type, {className: 'type'}),
        element('span', lastEventId, {className: 'id'}),
        element('pre', text)
    );
    $('events').prepend(item);
    if ($('events').childElementCount > KEPT) {
        $('events').lastElementChild.remove();
    }
    $('nothing').hidden = true;
}

$('subscribe').addEventListener('submit', (event) => {
    event.preventDefault();
    const channels = channelsIn('channels');
    disconnect();
    if (channels.length) {
        subscribe(channels);
    }
});

$('disconnect').addEventListener('click', () => {
    disconnect();
    $('channels').focus();
});

// There is always an empty field for another channel.
function grow(fieldset) {
    const last = fieldset.lastElementChild;
    if (last.value.trim()) {
        const field = last.cloneNode();
        field.removeAttribute('id');
        Object.assign(field, {value: '', required: false});
        fieldset.append(field);
    }
}

document.querySelectorAll('[data-grows]').forEach((fieldset) => {
    grow(fieldset);
    fieldset.addEventListener('input', () => grow(fieldset));
});

// ---- Members and state ----

function entry(name, text) {
    return [element('dt', name), element('dd', text)];
}

// One entry for each channel that has members.
function showMembers({channel, members, count, anonymous}) {
    const names = Object.keys(members);
    const text = [count && `${count}: ${names.join(', ') || 'too many to name'}`, anonymous && `${anonymous} without a name`];
    const [title, value] = entry(channel, text.filter(Boolean).join(', and ') || 'no members');
    const known = [...$('members').children].find((other) => other.tagName === 'DT' && other.textContent === channel);
    if (known) {
        known.nextElementSibling.replaceWith(value);
    } else {
        $('members').append(title, value);
    }
    $('no-members').hidden = true;
}

async function showStates() {
    const address = new URL('state', base), token = $('token').value;
    (stream?.channels || []).forEach((name) => address.searchParams.append('channel', name));
    try {
        const answer = await fetch(address, {headers: token ? {Authorization: 'Bearer ' + token} : {}});
        const states = answer.ok && stream ? Object.entries(await answer.json()) : [];
        $('states').replaceChildren(...states.flatMap(([name, {data}]) => entry(name, data)));
        $('no-state').hidden = states.length > 0;
    } catch { /* the server is away: the page says so elsewhere */ }
}

// ---- Publish ----

function fields() {
    const given = channelsIn('channel').map((name) => ['channel', name]);
    given.push(['message', $('message').value]);
    if ($('keep').checked) {
        given.push(['keep', '1']);
    }
    if ($('except').checked && stream) {
        given.push(['except', stream.client]);
    }
    for (const [name, id] of [['event', 'type'], ['key', 'key']]) {
        if ($(id).value) {
            given.push([name, $(id).value]);
        }
    }
    return given;
}

// Without a key the token may allow to publish.
function headers() {
    return $('token').value && !$('key').value ? {Authorization: 'Bearer ' + $('token').value} : {};
}

async function publish() {
    try {
        const form = new URLSearchParams(fields());
        const answer = await fetch(new URL('publish', base), {method: 'POST', body: form, headers: headers()});
        const told = await answer.json().catch(() => ({}));
        return answer.ok ? '' : told.reason || 'The server answered with ' + answer.status;
    } catch {
        return 'The server did not answer';
    }
}

$('publish').addEventListener('submit', async (event) => {
    event.preventDefault();
    const fault = await publish();
    $('answer').textContent = fault || 'Published at ' + new Date().toLocaleTimeString();
    $('answer').classList.toggle('bad', Boolean(fault));
    const {top} = $('arrived').getBoundingClientRect();
    if (!fault && stream && top > window.innerHeight / 2) {    // on a phone the list is further down
        $('arrived').scrollIntoView({block: 'nearest'});
    }
});

$('message').addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        $('publish').requestSubmit();
    }
});

// ---- The same in your own code ----

const inShell = (text) => "'" + text.replaceAll("'", "'\\''") + "'";
const inScript = (text) => "'" + text.replace(/[\\']/g, '\\$&') + "'";

function curl() {
    const words = ['curl'];
    for (const [name, value] of Object.entries(headers())) {
        words.push('-H', inShell(`${name}: ${value}`));
    }
    for (const [name, value] of fields()) {
        words.push('--data-urlencode', inShell(`${name}=${value}`));
    }
    return [...words, inShell(new URL('publish', base).href)].join(' ');
}

function native() {
    const address = new URL(base), type = $('type').value || 'message';
    channelsIn('channels').forEach((name) => address.searchParams.append('channels', name));
    if ($('token').value) {
        address.searchParams.set('access_token', $('token').value);
    }
    return `const source = new EventSource(${inScript(address.href)});\n` +
        `source.addEventListener(${inScript(type)}, (event) => console.log(event.data));`;
}

function module() {
    const token = $('token').value ? `token: ${inScript($('token').value)}, ` : '';
    const channels = channelsIn('channels').map(inScript).join(', ');
    const state = hasPattern(channelsIn('channels')) ? '' : ', state: true';
    return `import {connect} from ${inScript(new URL('media/cyclone-sse.js', base).href)};\n` +
        `const stream = connect(${inScript(base.href)}, {channels: [${channels}], ${token}shared: true${state}});\n` +
        `stream.on(${inScript($('type').value || 'message')}, (event) => console.log(event.json ?? event.data));\n` +
        "stream.on('gap', ({channels}) => console.log('events were lost in', channels));";
}

function showCode() {
    const parameters = new URLSearchParams(channelsIn('channels').map((name) => ['channels', name]));
    $('address').textContent = new URL(base).pathname + '?' + parameters;
    $('curl').textContent = curl();
    $('native').textContent = native();
    $('module').textContent = module();
}

document.addEventListener('input', showCode);
document.querySelectorAll('[data-copies]').forEach((button) => button.addEventListener('click', async () => {
    const text = $(button.dataset.copies);
    try {
        await navigator.clipboard.writeText(text.textContent);
        $('copied').textContent = button.textContent = 'Copied';
        setTimeout(() => { $('copied').textContent = ''; button.textContent = 'Copy'; }, 2000);
    } catch {   // not allowed, or not over HTTPS: it is selected at least
        getSelection().selectAllChildren(text);
    }
}));

// ---- The chart and the figures ----

function draw() {
    const peak = Math.max(...perSecond);
    $('chart').replaceChildren(...perSecond.map((count, second) => {
        const bar = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
        const height = peak ? CHART_HEIGHT * count / peak : 0;
        const place = {x: second + 0.1, y: CHART_HEIGHT - height, width: 0.8, height: height};
        Object.entries(place).forEach(([name, value]) => bar.setAttribute(name, value));
        return bar;
    }));
    $('chart').setAttribute('aria-label', 'Events in each of the last 60 seconds, at most ' + peak);
    $('peak').textContent = peak ? 'highest: ' + peak : '';
}

function tick() {
    perSecond.shift();
    perSecond.push(thisSecond);
    $('rate').textContent = thisSecond.toLocaleString();
    thisSecond = 0;
    draw();
    seconds += 1;
    if (seconds % SUMMARY_SECONDS === 0 && received > summarised) {
        $('summary').textContent = 'New events: ' + (received - summarised);
        summarised = received;
    }
}

async function showStats() {
    let rows = [];
    try {
        const stats = await (await fetch(new URL('stats', base))).json();
        rows = stats.sort().map(([name, count]) => {
            const row = document.createElement('tr');
            row.append(element('td', name), element('td', count.toLocaleString()));
            return row;
        });
    } catch { /* closed, or the server is away */ }
    if (!rows.length) {
        const row = document.createElement('tr');
        row.append(element('td', 'None', {colSpan: 2}));
        rows = [row];
    }
    $('stats').replaceChildren(...rows);
    setTimeout(showStats, STATS_INTERVAL);
}

showCode();
draw();
setInterval(tick, 1000);
showStats();
