// The demo's page: what it shows, and what its buttons do. How messages come and go is realtime.js.

import { Realtime } from './realtime.js';

const byId = (id) => document.getElementById(id);
const NAMES = { websocket: 'WebSocket', sse: 'event stream', poll: 'long-poll' };
const MINUTE = 60;
const MAX_LINES = 200;

const realtime = new Realtime(['chat.lobby', 'ticker', 'orders'], {
  message: (message) => show(message),
  history: (channel, messages) => messages.forEach((message) => show({ ...message, channel })),
  state: showState,
  position: showPosition,
  resumed: showResumed,
  error: (error) => notice(error.message),
});

const SHOWN = { 'chat.lobby': showSaid, ticker: showPrice, orders: showOrder };

function show(message) {
  SHOWN[message.channel]?.(message);
}

function element(name, properties = {}, ...children) {
  const it = Object.assign(document.createElement(name), properties);
  it.append(...children);
  return it;
}

function time(timestamp) {
  const date = new Date(timestamp);
  const text = date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  return element('time', { dateTime: date.toISOString(), textContent: text });
}

/** Puts a line where its number belongs; history may come after what is newer, and brings some lines again. */
function insert(list, message, line) {
  const epoch = realtime.positions.get(message.channel)?.epoch;
  const isSame = (it) => it.dataset.id === message.id;
  if ([...list.children].some(isSame)) return;
  Object.assign(line.dataset, { id: message.id, seq: message.seq, epoch });
  const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  const later = [...list.children].find((it) => it.dataset.epoch === epoch && Number(it.dataset.seq) > message.seq);
  list.insertBefore(line, later ?? null);
  while (list.children.length > MAX_LINES) list.firstElementChild.remove();
  if (isAtEnd) list.scrollTop = list.scrollHeight;
}

function showSaid(message) {
  const { from = 'somebody', text = '' } = message.data ?? {};
  const who = element('b', { textContent: from });
  who.style.setProperty('--hue', hue(String(from)));
  const line = element('li', {}, element('div', { className: 'who' }, who, ' ', time(message.timestamp)), String(text));
  line.classList.toggle('own', message.userId !== undefined && message.userId === nick);
  insert(byId('chat'), message, line);
}

function hue(text) {
  return [...text].reduce((sum, it) => (sum * 31 + it.codePointAt(0)) % 360, 7);
}

function showOrder(message) {
  const { number = '', item = '', price = '', by = 'somebody' } = message.data ?? {};
  const line = element('li', {},
    element('span', {}, element('b', { textContent: item }), ` for ${by}`),
    element('span', { className: 'dim' }, `#${number} · $${price} · `, time(message.timestamp)));
  insert(byId('orders'), message, line);
}

const prices = [];
let latestPrice = 0;

function showPrice(message) {
  const price = Number(message.data?.price);
  if (!Number.isFinite(price) || message.timestamp <= latestPrice) return;
  latestPrice = message.timestamp;
  prices.push(price);
  if (prices.length > MINUTE) prices.shift();
  const [last, before] = [price, prices.at(-2) ?? price];
  byId('symbol').textContent = message.data.symbol ?? '';
  byId('price').textContent = last.toFixed(2);
  const change = byId('change');
  change.textContent = `${last < before ? '▼' : '▲'} ${Math.abs(last - before).toFixed(2)}`;
  change.className = last < before ? 'down' : 'up';
  draw();
}

function draw() {
  const [low, high] = [Math.min(...prices), Math.max(...prices)];
  const x = (at) => 240 - (prices.length - 1 - at) * (240 / (MINUTE - 1));
  const y = (price) => 58 - ((price - low) / (high - low || 1)) * 52;
  const line = prices.map((price, at) => `${at ? 'L' : 'M'}${x(at).toFixed(1)} ${y(price).toFixed(1)}`).join('');
  byId('spark').setAttribute('d', line);
  byId('area').setAttribute('d', `${line}L240 64L${x(0).toFixed(1)} 64Z`);
}

function showState({ state, reason, delay, transport, connection }) {
  const name = NAMES[transport];
  const said = {
    connecting: `Connecting over ${name}…`,
    connected: `Live over ${name}`,
    reconnecting: delay > 1500 ? `Trying again in ${Math.round(delay / 1000)} s` : 'Reconnecting…',
    refused: `Refused: ${reason}`,
    away: 'Away for 3 seconds…',
  };
  byId('state').dataset.state = state;
  byId('state').textContent = said[state];
  if (connection) byId('connection').textContent = `…${connection.connectionId.slice(-8)} as ${connection.userId ?? 'anonymous'}`;
}

function showPosition(channel, { epoch, seq, gaps, left_out, conflated }) {
  const rows = byId('positions');
  let row = rows.querySelector(`[data-channel="${channel}"]`);
  if (!row) {
    row = element('tr', {}, element('th', { scope: 'row', textContent: channel }), ...[0, 1, 2].map(() => element('td')));
    row.dataset.channel = channel;
    rows.append(row);
  }
  const [seqCell, epochCell, gapsCell] = row.querySelectorAll('td');
  seqCell.textContent = seq ?? '–';
  epochCell.textContent = epoch ? `${String(epoch).slice(0, 6)}…` : '–';
  epochCell.title = epoch ?? '';
  gapsCell.textContent = left_out ? `${gaps} (${left_out} skipped)` : gaps;
  gapsCell.title = conflated ? 'Only the latest is sent to whoever falls behind.' : 'Times something was lost.';
  gapsCell.classList.toggle('lost', gaps > 0);
}

function showResumed(channel, isWhole) {
  byId('resumed').textContent = isWhole ? 'Resumed: nothing was lost.' : `Some of ${channel} was lost, and it says so.`;
}

let hideNotice;

function notice(text) {
  clearTimeout(hideNotice);
  byId('notice').textContent = text;
  byId('notice').hidden = false;
  hideNotice = setTimeout(() => { byId('notice').hidden = true; }, 6000);
}

let nick = null;

function signedInAs(name) {
  nick = name;
  byId('nick').textContent = name ?? '';
  byId('login').hidden = name !== null;
  byId('say').hidden = name === null;
  byId('logout').hidden = name === null;
}

async function post(path, fields) {
  const response = await fetch(path, { method: 'POST', body: new URLSearchParams(fields) });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw answer.error ?? { message: 'The server did not take that.' };
  return answer;
}

/** Runs what a form does, without letting the page go, and says what went wrong. */
function onSubmit(id, act) {
  byId(id).addEventListener('submit', async (event) => {
    event.preventDefault();
    try {
      await act(new FormData(event.target, event.submitter), event.target);
    } catch (error) {
      notice(error.message);
    }
  });
}

// Who we are is asked by the connect webhook, with our cookie: a new name takes a new connection.
onSubmit('login', async (form) => {
  signedInAs((await post('/login', form)).nick);
  realtime.use(realtime.transport);
  byId('text').focus();
});
onSubmit('logout', async () => {
  signedInAs((await post('/logout', {})).nick);
  realtime.use(realtime.transport);
});
onSubmit('say', async (form, it) => {
  await realtime.publish('chat.lobby', { text: form.get('text') });
  it.reset();
});
onSubmit('order', (form) => post('/orders', form));

for (const choice of document.getElementsByName('transport')) {
  choice.addEventListener('change', () => realtime.use(choice.value));
}

byId('break').addEventListener('click', ({ target }) => {
  target.disabled = true;
  realtime.leave();
  setTimeout(() => {
    target.disabled = false;
    realtime.use(realtime.transport);
  }, 3000);
});

function showCommands(commands) {
  byId('commands').replaceChildren(...commands.map((command) => {
    const copy = element('button', { type: 'button', className: 'link', textContent: 'Copy' });
    copy.addEventListener('click', async () => {
      await navigator.clipboard?.writeText(command);
      copy.textContent = 'Copied';
      setTimeout(() => { copy.textContent = 'Copy'; }, 1500);
    });
    return element('li', {}, element('code', { textContent: command, tabIndex: 0 }), copy);
  }));
}

const session = await fetch('/session').then((it) => it.json()).catch(() => ({ nick: null, commands: [] }));
signedInAs(session.nick);
showCommands(session.commands);
const chosen = document.querySelector('[name=transport]:checked');
realtime.use(chosen.value);
