// The configuration that runs, how the file differs from it, and taking the file.

import { call, get } from './node.js';
import { card, el, json, table, trouble } from './page.js';

export default {
  title: 'Configuration',
  async open(root) {
    const difference = el('div', { 'aria-live': 'polite' });
    const running = el('div');
    const look = el('button.plain', { type: 'button' }, 'Compare again');
    const take = el('button', { type: 'button' }, 'Take the file');
    root.append(card('The file', difference, el('div.buttons', {}, look, take)), card('What runs', running));
    const reload = async (dryRun) => {
      try {
        difference.replaceChildren(...report(await call('POST', dryRun ? '/reload?dry_run=true' : '/reload')));
      } catch (error) {
        difference.replaceChildren(trouble(error));
      }
      if (!dryRun) show();
    };
    const show = async () => {
      try {
        running.replaceChildren(json(await get('/config')));
      } catch (error) {
        running.replaceChildren(trouble(error));
      }
    };
    look.addEventListener('click', () => reload(true));
    take.addEventListener('click', () => reload(false));
    await Promise.all([reload(true), show()]);
  },
};

function report({ generation, dryRun, changes }) {
  const head = dryRun
    ? changes.length === 0 ? `The file says what runs (generation ${generation}).` : `Generation ${generation} runs; the file differs:`
    : `Generation ${generation} runs now.`;
  const columns = [
    { name: 'Key', cell: (it) => el('code', {}, it.key) },
    { name: dryRun ? 'Runs' : 'Was', cell: (it) => shown(it.from) },
    { name: dryRun ? 'File' : 'Is', cell: (it) => shown(it.to) },
    { name: '', cell: (it) => (it.needsRestart ? 'needs a restart' : '') },
  ];
  return [el(changes.length === 0 ? 'p.good' : 'p', {}, head), changes.length > 0 ? table(columns, changes, '') : ''];
}

const shown = (value) => (value === undefined ? '' : el('code', {}, JSON.stringify(value)));
