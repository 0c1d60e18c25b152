// The frame around the views: navigation, the key, the theme, and the one stream of numbers all of them share.

import { Reading } from './numbers.js';
import { forgetKey, get, key, listen, onKeyWanted, useKey } from './node.js';
import { el, trouble } from './page.js';
import channels from './channels.js';
import config from './config.js';
import connections from './connections.js';
import dead from './dead.js';
import explain from './explain.js';
import overview from './overview.js';
import tail from './tail.js';

const VIEWS = { overview, channels, connections, tail, explain, dead, config };
/** Two minutes of readings. */
const KEPT = 120;

const at = (id) => document.getElementById(id);

/** The numbers: readings, oldest first, and who wants to hear of a new one. */
const live = {
  readings: [],
  listeners: new Set(),
  watch(listener) {
    this.listeners.add(listener);
    if (this.readings.length > 0) listener(this.readings);
    return () => this.listeners.delete(listener);
  },
};

let close = () => {};

async function show() {
  const [name, ...rest] = location.hash.slice(1).split('/').map(decodeURIComponent);
  const view = VIEWS[name] ?? overview;
  for (const item of at('views').children) {
    if (item.hash === `#${Object.keys(VIEWS).find((it) => VIEWS[it] === view)}`) item.setAttribute('aria-current', 'page');
    else item.removeAttribute('aria-current');
  }
  document.title = `${view.title} · Outrigger`;
  close();
  close = () => {};
  const root = el('div.view');
  at('view').replaceChildren(root);
  try {
    close = (await view.open(root, live, ...rest)) ?? (() => {});
  } catch (error) {
    root.replaceChildren(trouble(error));
  }
}

function navigation() {
  at('views').append(...Object.entries(VIEWS).map(([name, view]) => el('a', { href: `#${name}` }, view.title)));
  addEventListener('hashchange', show);
  addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest('input, textarea, select, dialog')) return;
    const name = Object.keys(VIEWS)[Number(event.key) - 1];
    if (name) location.hash = name;
    if (event.key === '/') {
      at('view').querySelector('input')?.focus();
      event.preventDefault();
    }
  });
}

function theme() {
  const choices = ['auto', 'light', 'dark'];
  const apply = (choice) => {
    document.documentElement.dataset.theme = choice;
    at('theme').textContent = `Theme: ${choice}`;
  };
  const kept = localStorage.getItem('outrigger.theme');
  apply(choices.includes(kept) ? kept : 'auto');
  at('theme').addEventListener('click', () => {
    const next = choices[(choices.indexOf(document.documentElement.dataset.theme) + 1) % choices.length];
    localStorage.setItem('outrigger.theme', next);
    apply(next);
  });
}

function keys() {
  let asking = null;
  const dialog = at('ask');
  const open = (why) => {
    asking ??= new Promise((resolve) => {
      const usual = at('ask-why').textContent;
      if (why) at('ask-why').textContent = why;
      at('ask-key').value = '';
      at('ask-out').hidden = !key();
      dialog.returnValue = '';
      dialog.showModal();
      dialog.addEventListener('close', () => {
        at('ask-why').textContent = usual;
        asking = null;
        resolve(dialog.returnValue === 'used');
      }, { once: true });
    });
    return asking;
  };
  dialog.querySelector('form').addEventListener('submit', (event) => {
    event.preventDefault();
    useKey(at('ask-key').value.trim(), at('ask-keep').checked);
    dialog.close('used');
  });
  at('ask-cancel').addEventListener('click', () => dialog.close());
  at('ask-out').addEventListener('click', () => {
    forgetKey();
    dialog.close();
    show();
  });
  at('key').addEventListener('click', async () => {
    if (await open('')) show();
  });
  onKeyWanted(open);
}

function numbers() {
  const state = (name, text) => {
    at('state').dataset.state = name;
    at('state').textContent = text;
  };
  listen('/metrics', {
    signal: new AbortController().signal,
    state: (isThere) => state(isThere ? 'connected' : 'lost', isThere ? 'Live' : 'Not reachable'),
    heard: (text) => {
      live.readings.push(new Reading(text, performance.now()));
      live.readings.splice(0, live.readings.length - KEPT);
      for (const listener of live.listeners) listener(live.readings);
    },
  });
  get('/healthz').then(
    (health) => (at('node').textContent = `${health.node ?? ''} ${health.version}`.trim()),
    () => {},
  );
}

navigation();
theme();
keys();
numbers();
show();
