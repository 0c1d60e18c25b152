// The demo's page: what it shows, and what its buttons do. How messages come and go is the packaged client's business.

const byId = (id) => document.getElementById(id);
const NAMES = { websocket: 'WebSocket', sse: 'event stream', poll: 'long-poll' };
const CHAT = 'chat.lobby';
const SHOW = { [CHAT]: showSaid, ticker: showPrice, orders: showOrder };
const AWAY = 3000;
const MINUTE = 60;
const MAX_LINES = 200;

/** Over the chosen transport, and no other. */
let live;
/** Per channel: the last number this page knows ({epoch, seq, id}), whichever client heard it, and what was lost before. */
const positions = new Map();

function connect(transport) {
  live?.close();
  const client = live = new Outrigger({ transports: [transport] });
  // One that was left for another transport has nothing to say any more.
  client.on('status', (status) => client === live && showStatus(status, transport));
  client.on('error', (error) => notice(error.message));
  for (const name of Object.keys(SHOW)) follow(client.channel(name));
  client.channel(CHAT).presence.on('change', (members) => showMembers([...members.keys()], client.channel(CHAT).presence.total));
}

function follow(channel) {
  channel.on('message', (_, message) => {
    moved(channel);
    SHOW[channel.name](message);
  });
  channel.on('subscribed', (reply) => subscribed(channel, reply));
  channel.on('gap', () => lost(channel));
}

/** A client goes on from where it was. A new one does not know where that is: the history tells what came meanwhile. */
async function subscribed(channel, { recovered, epoch }) {
  if (recovered) return resumed(channel);
  const before = positions.get(channel.name);
  const since = before?.epoch === epoch && recovered === undefined && !channel.isConflated ? before : undefined;
  if (!before || since || channel.isConflated) moved(channel);
  else if (recovered === undefined) lost(channel);
  const history = await channel.history({ since, limit: 50 }).catch(() => null); // Lost again: so it is asked again.
  for (const message of history?.messages ?? []) SHOW[channel.name](message);
  if (history && since) (history.complete ? resumed : lost)(channel);
}

function resumed(channel) {
  moved(channel);
  byId('resumed').textContent ||= 'Resumed: nothing was lost.';
}

function lost(channel) {
  const isAnew = positions.get(channel.name).epoch !== channel.position.epoch;
  moved(channel, 1);
  byId('resumed').textContent = isAnew ? 'The server started anew and forgot the past.' : `Some of ${channel.name} was lost, and it says so.`;
}

/** Keeps where the channel is. What is left out of a ticker on purpose is no loss. */
function moved(channel, losses = 0) {
  const { epoch, seq, id } = channel.position;
  const { gaps = 0, leftOut = 0, ...before } = positions.get(channel.name) ?? {};
  const skipped = channel.isConflated && before.epoch === epoch ? Math.max(0, seq - before.seq - 1) : 0;
  const position = { epoch, seq, id, gaps: gaps + losses, leftOut: leftOut + skipped };
  positions.set(channel.name, position);
  showPosition(channel, position);
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
function insert(list, { epoch }, { id, seq }, line) {
  if ([...list.children].some((it) => it.dataset.id === id)) return;
  Object.assign(line.dataset, { id, seq, epoch });
  const later = [...list.children].find((it) => it.dataset.epoch === epoch && Number(it.dataset.seq) > seq);
  atTheEnd(list, () => {
    list.insertBefore(line, later ?? null);
    while (list.children.length > MAX_LINES) list.firstElementChild.remove();
  });
}

/** Whoever reads the newest line still does after the change. */
function atTheEnd(list, change) {
  const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  change();
  if (isAtEnd) list.scrollTop = list.scrollHeight;
}

function named(name) {
  const it = element('b', { textContent: name });
  it.style.setProperty('--hue', [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7) * 137 % 360);
  return it;
}

function showSaid(message) {
  const { from = 'somebody', text = '' } = message.data ?? {};
  const who = element('div', { className: 'who' }, named(String(from)), ' ', time(message.timestamp));
  const line = element('li', {}, who, element('p', { textContent: String(text) }));
  line.classList.toggle('own', message.userId !== undefined && message.userId === nick);
  insert(byId('chat'), positions.get(CHAT), message, line);
}

/** Of a crowd only the number is known. */
function showMembers(names, total) {
  const chips = names.sort((one, other) => one.localeCompare(other)).map((name) => element('li', {}, named(name), name === nick ? ' (you)' : ''));
  if (names.length < total) chips.push(element('li', { textContent: `${total} people` }));
  byId('here').replaceChildren(...chips);
}

function showOrder(message) {
  const { number = '', item = '', price = '', by = 'somebody' } = message.data ?? {};
  const line = element('li', {},
    element('span', {}, element('b', { textContent: item }), ` for ${by}`),
    element('span', { className: 'dim' }, `#${number} · $${price} · `, time(message.timestamp)));
  insert(byId('orders'), positions.get('orders'), message, line);
}

const prices = [];
let latestPrice = 0;

function showPrice(message) {
  const price = Number(message.data?.price);
  if (!Number.isFinite(price) || message.timestamp <= latestPrice) return;
  latestPrice = message.timestamp;
  prices.push(price);
  if (prices.length > MINUTE) prices.shift();
  const before = prices.at(-2) ?? price;
  byId('symbol').textContent = message.data.symbol ?? '';
  byId('price').textContent = price.toFixed(2);
  const change = byId('change');
  change.textContent = `${price < before ? '▼' : '▲'} ${Math.abs(price - before).toFixed(2)}`;
  change.className = price < before ? 'down' : 'up';
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

function showStatus({ state, delay, close, connectionId, userId = null }, transport) {
  const isLeft = state === 'closed' && close.code === 1000;
  const said = {
    connecting: 'Connecting…',
    connected: `Live over ${NAMES[transport]}`,
    reconnecting: delay > 1500 ? `Trying again in ${Math.round(delay / 1000)} s` : 'Reconnecting…',
    closed: isLeft ? 'Away…' : `Refused: ${close?.reason}`,
  };
  byId('state').dataset.state = isLeft ? 'away' : state;
  byId('state').textContent = said[state];
  if (state !== 'connected') return;
  byId('connection').textContent = `…${connectionId.slice(-8)} as ${userId ?? 'nobody'}`;
  if (positions.size > 0) byId('resumed').textContent = '';
  if (nick !== null && userId === null) notice('You were logged out: choose a name again.');
  signedInAs(userId);
}

function showPosition({ name, isConflated }, { epoch, seq, gaps, leftOut }) {
  const rows = byId('positions');
  let row = rows.querySelector(`[data-channel="${name}"]`);
  if (!row) {
    row = element('tr', {}, element('th', { scope: 'row', textContent: name }), ...[0, 1, 2].map(() => element('td')));
    row.dataset.channel = name;
    rows.append(row);
  }
  const [seqCell, epochCell, gapsCell] = row.querySelectorAll('td');
  seqCell.textContent = seq;
  epochCell.textContent = `${epoch.slice(0, 6)}…`;
  epochCell.title = epoch;
  gapsCell.textContent = leftOut > 0 ? `${gaps} (${leftOut} skipped)` : gaps;
  gapsCell.title = isConflated ? 'Only the latest is sent to whoever falls behind.' : 'Times something was lost.';
  gapsCell.classList.toggle('lost', gaps > 0);
}

let hideNotice;

function notice(text) {
  clearTimeout(hideNotice);
  byId('notice').textContent = text;
  atTheEnd(byId('chat'), () => { byId('notice').hidden = false; });
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
      notice(error.code === 'closed' ? 'Not connected right now.' : error.message);
    }
  });
}

/** Who we are is asked by the connect webhook, with our cookie: a new name takes a new connection. */
async function becomeWhoever(path, form) {
  signedInAs((await post(path, form)).nick);
  live.close();
  live.connect();
  byId(nick === null ? 'name' : 'text').focus();
}

onSubmit('login', (form) => becomeWhoever('/login', form));
onSubmit('logout', () => becomeWhoever('/logout', {}));
onSubmit('order', (form) => post('/orders', form));
onSubmit('say', async (form, it) => {
  it.reset();
  const text = form.get('text');
  try {
    await live.channel(CHAT).publish({ text });
  } catch (error) {
    byId('text').value ||= text;
    throw error;
  }
});

for (const choice of document.getElementsByName('transport')) {
  choice.addEventListener('change', () => connect(choice.value));
}

byId('leave').addEventListener('click', ({ target }) => {
  if (target.ariaDisabled === 'true') return; // It stays in the order of the keyboard, so it is not really disabled.
  target.ariaDisabled = 'true';
  live.close();
  byId('resumed').textContent = 'Away. Buy something meanwhile.';
  setTimeout(() => {
    target.ariaDisabled = 'false';
    live.connect();
  }, AWAY);
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
connect(document.querySelector('[name=transport]:checked').value);
