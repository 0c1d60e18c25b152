// Building blocks of a page. Text only ever becomes text: nothing that a client or a backend sent is read as HTML.

/** `el('p.dim', {title: 'why'}, 'text', child)`: an element with classes, properties and children. */
export function el(name, properties = {}, ...children) {
  const [tag, ...classes] = name.split('.');
  const element = document.createElement(tag);
  element.className = classes.join(' ');
  for (const [property, value] of Object.entries(properties)) {
    if (property in element && property !== 'list') element[property] = value;
    else element.setAttribute(property, value);
  }
  element.append(...children.flat(Infinity).filter((it) => it !== null && it !== undefined && it !== false));
  return element;
}

/** A table that becomes a list of cards on a narrow screen. `columns`: [{name, cell: row => node or text, number?}]. */
export function table(columns, rows, empty) {
  if (rows.length === 0) return el('p.empty', {}, empty);
  const head = el('tr', {}, columns.map((it) => el(it.number ? 'th.number' : 'th', { scope: 'col' }, it.name)));
  const cell = (column, row) =>
    el(column.number ? 'td.number' : 'td', { 'data-name': column.name }, column.cell(row) ?? '–');
  const body = rows.map((row) => el('tr', {}, columns.map((column) => cell(column, row))));
  return el('div.scroll', {}, el('table', {}, el('thead', {}, head), el('tbody', {}, body)));
}

/** Names and values, side by side. */
export function facts(pairs) {
  return el('dl.facts', {}, pairs.map(([name, value]) => [el('dt', {}, name), el('dd', {}, value ?? '–')]));
}

export function card(title, ...children) {
  return el('section.card', {}, title && el('h2', {}, title), children);
}

/** A labelled field; `input` is the element itself. */
export function field(label, input) {
  return el('label.field', {}, el('span', {}, label), input);
}

export function link(text, ...path) {
  return el('a', { href: '#' + path.map(encodeURIComponent).join('/') }, text);
}

/** A JSON value: on one line where it fits, else indented. */
export function json(value) {
  const line = typeof value === 'string' ? value : JSON.stringify(value);
  return el('pre', { tabIndex: 0 }, line.length > 80 && typeof value !== 'string' ? JSON.stringify(value, null, 2) : line);
}

/** What went wrong, where it is read; `said` is an Error or a sentence. */
export function trouble(said) {
  return el('p.trouble', { role: 'alert' }, said.message ?? said);
}

/** The course of a number: a line over its own range, drawn to scale from zero. */
export function sparkline(values, label) {
  const ns = 'http://www.w3.org/2000/svg';
  const [width, height] = [120, 32];
  const svg = document.createElementNS(ns, 'svg');
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
  svg.setAttribute('preserveAspectRatio', 'none');
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', label);
  const most = Math.max(...values, 1e-9);
  const x = (at) => (values.length < 2 ? width : (at / (values.length - 1)) * width);
  const y = (value) => height - 2 - (value / most) * (height - 5);
  const points = values.map((value, at) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`);
  const draw = (className, path) => {
    const element = document.createElementNS(ns, 'path');
    element.setAttribute('class', className);
    element.setAttribute('d', path);
    svg.append(element);
  };
  if (points.length > 1) {
    draw('area', `M0,${height}L${points.join('L')}L${width},${height}Z`);
    draw('line', `M${points.join('L')}`);
  }
  return svg;
}

/** Calls `work` now and every `ms` while the page is seen; the answer stops it. */
export function every(ms, work) {
  let timer;
  const turn = async () => {
    if (!document.hidden) await work();
    if (timer !== null) timer = setTimeout(turn, ms);
  };
  timer = setTimeout(turn, 0);
  return () => {
    clearTimeout(timer);
    timer = null;
  };
}
