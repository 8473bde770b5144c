/* The operator's page: reads one stream of figures from each worker, and draws the last two minutes. */
(function () {
'use strict';

const KEPT = 120; // seconds that the pictures show
const workers = new Map(); // port -> {figures, before, source}
const series = {subscribers: [], events: [], deliveries: [], subscribes: [], ends: [], memory: []};
const byId = (id) => document.getElementById(id);
const number = (value) => (value >= 100 || Number.isInteger(value) ? Math.round(value).toLocaleString('en') : value.toFixed(1));
const bytes = (value) => {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return (unit ? value.toFixed(1) : value) + ' ' + units[unit];
};
const duration = (seconds) => {
  const parts = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const at = parts.findIndex(([size]) => seconds >= size);
  if (at < 0) { return '0 s'; }
  const first = Math.floor(seconds / parts[at][0]) + ' ' + parts[at][1];
  const rest = at + 1 < parts.length ? Math.floor((seconds % parts[at][0]) / parts[at + 1][0]) : 0;
  return rest ? first + ' ' + rest + ' ' + parts[at + 1][1] : first;
};
const sum = (values) => values.reduce((total, value) => total + value, 0);

function show(id, text, bad) {
  const element = byId(id);
  element.textContent = text;
  element.classList.toggle('bad', Boolean(bad));
}

function rows(id, pairs) {
  byId(id).tBodies[0].replaceChildren(...pairs.map(([name, value]) => {
    const row = document.createElement('tr');
    row.insertCell().textContent = name;
    const cell = row.insertCell();
    cell.textContent = number(value);
    cell.className = 'number';
    return row;
  }));
}

function listen(port, url) {
  if (workers.has(port)) { return; }
  const worker = {figures: null, before: null, source: new EventSource(url)};
  workers.set(port, worker);
  worker.source.onmessage = (event) => {
    worker.before = worker.figures;
    worker.figures = JSON.parse(event.data);
    if (worker.figures.ports.length > 1) { meet(worker.figures.ports); }
  };
  worker.source.onerror = () => { worker.figures = worker.before = null; };
}

function meet(ports) {
  const own = Number(location.port) || 80;
  if (!ports.includes(own)) { return; } // behind a proxy: the others cannot be reached from here
  for (const port of ports) {
    if (port !== own) { listen(port, 'http://' + location.hostname + ':' + port + '/figures'); }
  }
  const which = byId('which');
  if (which.options.length !== ports.length + 1) {
    which.replaceChildren(which.options[0], ...ports.map((port, index) => new Option(String(index + 1), port)));
    byId('which-label').hidden = false;
  }
}

function chosen() {
  const which = byId('which').value;
  const all = [...workers].filter(([port]) => which === 'all' || String(port) === which || workers.size === 1);
  return all.map(([, worker]) => worker).filter((worker) => worker.figures);
}

function rate(list, value) {
  return sum(list.map(({figures, before}) => {
    const seconds = before ? figures.time - before.time : 0;
    return seconds > 0 ? Math.max(0, value(figures) - value(before)) / seconds : 0;
  }));
}

const ended = (figures) => sum(Object.values(figures.disconnects));

function draw() {
  const list = chosen();
  if (!list.length) {
    show('state', 'no answer from the server', true);
    return;
  }
  const total = (name) => sum(list.map(({figures}) => figures[name]));
  const now = {
    subscribers: total('subscribers'), memory: total('memory_bytes'),
    events: rate(list, (figures) => figures.events), deliveries: rate(list, (figures) => figures.deliveries),
    subscribes: rate(list, (figures) => figures.subscribes), ends: rate(list, ended),
  };
  for (const [name, values] of Object.entries(series)) {
    values.push(now[name]);
    values.splice(0, values.length - KEPT);
    show(name, name === 'memory' ? bytes(now.memory) : number(now[name]));
    chart(document.querySelector('[data-chart=' + name + ']'), values);
  }
  state(list, total);
  rows('reasons', Object.entries(merged(list, (figures) => Object.entries(figures.disconnects)))
    .sort((a, b) => b[1] - a[1]));
  rows('refusals', Object.entries(merged(list, (figures) => Object.entries(figures.refusals))));
  rows('top', Object.entries(merged(list, (figures) => figures.top)).sort((a, b) => b[1] - a[1]).slice(0, 10));
}

function merged(list, pairs) {
  const found = {};
  for (const {figures} of list) {
    for (const [name, value] of pairs(figures)) { found[name] = (found[name] || 0) + value; }
  }
  return found;
}

function state(list, total) {
  const {figures} = list[0];
  const reasons = [...new Set(list.flatMap((worker) => worker.figures.not_ready))];
  show('version', figures.version);
  show('state', reasons.length ? 'not ready: ' + reasons.join(', ') : 'ready', reasons.length);
  const connected = list.every((worker) => worker.figures.broker.connected);
  show('broker', figures.broker.name + (connected ? '' : ': away'), !connected);
  show('uptime', duration(Math.min(...list.map((worker) => worker.figures.time - worker.figures.started))));
  show('connections', number(total('connections')));
  // Workers have channels in common: their sum would count these twice.
  const channels = Math.max(...list.map((worker) => worker.figures.channels));
  show('channels', (list.length > 1 ? 'at least ' : '') + number(channels));
  const waiting = total('waiting_bytes');
  show('slow', number(total('slow')) + (waiting ? ', ' + bytes(waiting) + ' waiting' : ''), waiting);
  show('files', number(total('open_files')));
  const turn = Math.max(...list.map((worker) => worker.figures.longest_turn_seconds));
  show('turn', Math.round(1000 * turn) + ' ms in the last minute', turn > 0.25);
  show('history', number(total('history_events')) + ' events, ' + bytes(total('history_bytes')));
  show('processor', (100 * rate(list, (each) => each.processor_seconds)).toFixed(1) + ' % of a core');
  const left = figures.certificate_expires && figures.certificate_expires - figures.time;
  show('certificate', left ? (left > 0 ? 'expires in ' + duration(left) : 'has expired') : 'none', left && left < 14 * 86400);
}

function chart(canvas, values) {
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth * scale;
  const height = canvas.clientHeight * scale;
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const context = canvas.getContext('2d');
  const most = Math.max(...values) || 1;
  context.clearRect(0, 0, width, height);
  context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue('--accent');
  context.lineWidth = 1.5 * scale;
  context.beginPath();
  values.forEach((value, index) => {
    const x = width * (KEPT - values.length + index + 1) / KEPT;
    context.lineTo(x, height - 2 * scale - (height - 4 * scale) * value / most);
  });
  context.stroke();
}

// Whose streams?

function query(path) {
  const form = new FormData(byId('search'));
  const parts = ['user', 'channel'].filter((name) => form.get(name)).map((name) => name + '=' + encodeURIComponent(form.get(name)));
  return parts.length ? path + '?' + parts.join('&') : null;
}

function bases() {
  const own = Number(location.port) || 80;
  return [...workers.keys()].map((port) => (port === own ? '' : 'http://' + location.hostname + ':' + port));
}

async function find() {
  const path = query('/connections');
  if (!path) {
    show('found', 'Name a user or a channel.');
    return;
  }
  try {
    const answers = await Promise.all(bases().map(async (base) => (await fetch(base + path)).json()));
    const total = sum(answers.map((answer) => answer.total));
    const streams = answers.flatMap((answer) => answer.streams);
    show('found', total === 0 ? 'No streams found.' : number(total) + (total === 1 ? ' stream' : ' streams')
      + (streams.length < total ? ', the first ' + streams.length + ':' : ':'));
    list(streams);
    byId('end').disabled = total === 0 || path.includes('&');
  } catch (error) {
    show('found', 'The server did not answer: ' + error.message, true);
  }
}

function list(streams) {
  const table = byId('streams');
  table.hidden = !streams.length;
  table.tBodies[0].replaceChildren(...streams.map((stream) => {
    const row = document.createElement('tr');
    const since = new Date(1000 * stream.since).toLocaleString();
    for (const text of [stream.user ?? '–', stream.address, stream.channels.join(' '), since, bytes(stream.waiting_bytes), stream.last_id ?? '–']) {
      row.insertCell().textContent = text;
    }
    return row;
  }));
}

async function end() {
  const path = query('/disconnect');
  if (!path || !confirm('End these streams on all servers? Their clients reconnect and are authorised again.')) { return; }
  const answer = await (await fetch(path, {method: 'POST'})).json(); // it reaches all servers that share the broker
  show('found', answer.reason || 'These streams are ended on all servers.', answer.reason);
  list([]);
  byId('end').disabled = true;
}

byId('search').addEventListener('submit', (event) => { event.preventDefault(); find(); });
byId('search').addEventListener('input', () => { byId('end').disabled = true; });
byId('end').addEventListener('click', end);
byId('which').addEventListener('change', () => { for (const values of Object.values(series)) { values.length = 0; } });
listen(Number(location.port) || 80, '/figures');
setInterval(draw, 1000);
}());
