// Reads the OpenMetrics text of a node, and says numbers the way people do.

/** One reading: what every series stood at, and when. */
export class Reading {
  constructor(text, at) {
    this.at = at;
    this.series = new Map();
    for (const line of text.split('\n')) {
      const found = /^([a-z_0-9]+)(?:\{(.*)\})? (\S+)/i.exec(line);
      if (!found || line.startsWith('#')) continue;
      const [, name, labels = '', value] = found;
      if (!this.series.has(name)) this.series.set(name, []);
      this.series.get(name).push({ labels: labelsOf(labels), value: Number(value) });
    }
  }

  has(name) {
    return this.series.has('outrigger_' + name);
  }

  /** All series of a name whose labels are these, summed up. */
  sum(name, labels = {}) {
    const all = this.series.get('outrigger_' + name) ?? [];
    const wanted = Object.entries(labels);
    return all.filter((it) => wanted.every(([key, value]) => it.labels[key] === value)).reduce((sum, it) => sum + it.value, 0);
  }

  /** By one label: [value of the label, sum], the largest first. */
  by(name, label) {
    const sums = new Map();
    for (const { labels, value } of this.series.get('outrigger_' + name) ?? []) {
      sums.set(labels[label], (sums.get(labels[label]) ?? 0) + value);
    }
    return [...sums].sort((a, b) => b[1] - a[1]);
  }

  /** Buckets of a histogram: [upper bound, count], in order. */
  buckets(name) {
    const sums = new Map();
    for (const { labels, value } of this.series.get(`outrigger_${name}_bucket`) ?? []) {
      const bound = labels.le === '+Inf' ? Infinity : Number(labels.le);
      sums.set(bound, (sums.get(bound) ?? 0) + value);
    }
    return [...sums].sort((a, b) => a[0] - b[0]);
  }
}

function labelsOf(text) {
  const labels = {};
  for (const [, name, value] of text.matchAll(/([a-z_0-9]+)="((?:[^"\\]|\\.)*)"/gi)) {
    labels[name] = value.replace(/\\(.)/g, (_, it) => (it === 'n' ? '\n' : it));
  }
  return labels;
}

/** Per second between two readings; a counter that went back belongs to a new process. */
export function rate(before, now, name, labels) {
  if (!before || now.at <= before.at) return 0;
  const grown = now.sum(name, labels) - before.sum(name, labels);
  return grown < 0 ? 0 : grown / ((now.at - before.at) / 1000);
}

/** Seconds below which a share of what happened between two readings lies: the bucket's bound. None if nothing did. */
export function quantile(before, now, name, share) {
  const old = new Map(before?.buckets(name) ?? []);
  const grown = now.buckets(name).map(([bound, count]) => [bound, count - (old.get(bound) ?? 0)]);
  const all = grown.at(-1)?.[1] ?? 0;
  return all > 0 ? grown.find(([, count]) => count >= all * share)[0] : undefined;
}

const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

export const count = (value) => (Math.abs(value) < 100_000 ? whole.format(value) : short.format(value));

export const perSecond = (value) => (value < 10 && value > 0 ? value.toFixed(1) : count(value)) + '/s';

export function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) {
    value /= 1024;
    at += 1;
  }
  return `${at === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[at]}`;
}

export function seconds(value) {
  if (value === Infinity) return 'over 10 s';
  return value < 1 ? `${+(value * 1000).toPrecision(3)} ms` : `${+value.toPrecision(3)} s`;
}

/** How long ago, from milliseconds since the epoch. */
export function ago(timestamp) {
  const passed = Math.max(0, (Date.now() - timestamp) / 1000);
  const [value, unit] = passed < 60 ? [passed, 's'] : passed < 3600 ? [passed / 60, 'min'] : passed < 86_400 ? [passed / 3600, 'h'] : [passed / 86_400, 'd'];
  return `${Math.floor(value)} ${unit}`;
}

export const clock = (timestamp) => new Date(timestamp).toLocaleTimeString('en-GB', { hour12: false });
