/*
 * The script of demo.html: subscribe, publish and watch. It needs a browser with EventSource and nothing else.
 *
 * The page is served at /demo, or at /sse/demo behind a proxy: every address is taken relative to it.
 */
(function () {
    'use strict';

    const KEPT = 100;           // events in the list
    const SECONDS = 60;         // width of the chart
    const CHART_HEIGHT = 20;    // of its viewBox
    const SUMMARY_SECONDS = 5;  // a screen reader is told of new events at most this often
    const STATS_INTERVAL = 2000;    // ms
    const RETRY = 2000;             // ms, when the browser has given up

    const $ = (id) => document.getElementById(id);
    const base = new URL('./', document.location);
    const perSecond = new Array(SECONDS).fill(0);

    let source = null;
    let retry = 0;
    let lastEventId = '';
    let received = 0;
    let thisSecond = 0;
    let summarised = 0;
    let seconds = 0;

    function names(text) {
        return text.split(',').map((name) => name.trim()).filter(Boolean);
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
        $('disconnect').disabled = state === 'closed';
    }

    function connect(channels) {
        const address = new URL(base);
        channels.forEach((name) => address.searchParams.append('channels', name));
        if (lastEventId) {
            address.searchParams.set('lastEventId', lastEventId);
        }
        show('connecting', 'Connecting');
        source = new EventSource(address);
        source.onopen = () => show('open', 'Connected to ' + channels.join(', '));
        source.onmessage = (event) => arrive(event, event.data, '');
        source.addEventListener('sse-gap', (event) => {
            arrive(event, 'Events were lost in: ' + JSON.parse(event.data).channels.join(', '), 'gap');
        });
        source.onerror = () => {
            show('lost', 'Connection lost, trying again');
            if (source.readyState === EventSource.CLOSED) {
                retry = setTimeout(connect, RETRY, channels);
            }
        };
    }

    function disconnect() {
        clearTimeout(retry);
        if (source) {
            source.close();
        }
        source = null;
        show('closed', 'Not connected');
    }

    function arrive(event, text, kind) {
        const item = element('li', '', {className: kind});
        lastEventId = event.lastEventId || lastEventId;
        received += 1;
        thisSecond += 1;
        item.append(
            element('time', new Date().toLocaleTimeString()),
            element('span', event.lastEventId, {className: 'id'}),
            element('pre', text)
        );
        $('events').prepend(item);
        if ($('events').childElementCount > KEPT) {
            $('events').lastElementChild.remove();
        }
        $('nothing').hidden = true;
        $('count').textContent = received.toLocaleString();
    }

    $('subscribe').addEventListener('submit', (event) => {
        event.preventDefault();
        const channels = names($('channels').value);
        disconnect();
        lastEventId = '';   // other channels: a new beginning
        if (channels.length) {
            connect(channels);
        }
    });

    $('disconnect').addEventListener('click', () => {
        disconnect();
        $('channels').focus();
    });

    // ---- Publish ----

    async function publish() {
        const form = new URLSearchParams({message: $('message').value});
        names($('target').value).forEach((name) => form.append('channel', name));
        if ($('key').value) {
            form.set('key', $('key').value);
        }
        try {
            const answer = await fetch(new URL('publish', base), {method: 'POST', body: form});
            const told = await answer.json().catch(() => ({}));
            return answer.ok ? '' : told.reason || 'The server answers ' + answer.status;
        } catch (exception) {
            return 'The server does not answer';
        }
    }

    $('publish').addEventListener('submit', async (event) => {
        event.preventDefault();
        const fault = await publish();
        $('answer').textContent = fault || 'Published at ' + new Date().toLocaleTimeString();
        $('answer').classList.toggle('bad', Boolean(fault));
    });

    $('message').addEventListener('keydown', (event) => {
        if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
            event.preventDefault();
            $('publish').requestSubmit();
        }
    });

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
        let rows;
        try {
            const answer = await fetch(new URL('stats', base));
            const stats = await answer.json();
            rows = stats.sort().map(([name, count]) => {
                const row = document.createElement('tr');
                row.append(element('td', name), element('td', count.toLocaleString()));
                return row;
            });
        } catch (exception) {
            rows = [];
        }
        if (!rows.length) {
            const row = document.createElement('tr');
            row.append(element('td', 'None', {colSpan: 2}));
            rows = [row];
        }
        $('stats').replaceChildren(...rows);
        setTimeout(showStats, STATS_INTERVAL);
    }

    draw();
    setInterval(tick, 1000);
    showStats();
}());
