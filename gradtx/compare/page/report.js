"use strict";
// Without this script the page is whole: all rows are unfolded, figures are switched by the style
// sheet. It adds what is read off figures, what is highlighted, sorting and folding.

const status = document.createElement("div");
status.className = "status";
status.setAttribute("role", "status");
document.body.append(status);

const make = (tag, parent, className = "", text = "") => {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  parent.append(element);
  return element;
};

/** As `wording.number` of Python writes numbers: 0.012, 250, 2×10⁻⁷. */
function number(value) {
  const size = Math.abs(value);
  if (value === 0 || (size >= 1e-3 && size < 1e5))
    return size < 1000 ? String(Number(value.toPrecision(3))) : value.toFixed(0);
  const [mantissa, exponent] = value.toExponential(2).split("e");
  const power = "10" + String(Number(exponent)).replace(/[-\d]/g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] ?? "⁻");
  return Number(mantissa) === 1 ? power : `${Number(mantissa)}×${power}`;
}

const said = (value, form) => {
  if (value === null || value === undefined) return "diverged";
  return form.replace("{}", form.endsWith("%") ? value.toFixed(1) : number(value));
};

/* What is highlighted: one optimizer in a section, everywhere; while the pointer is there, or pinned. */

class Highlight {
  constructor(section) {
    this.section = section;
    this.pinned = null;
    this.marks = [...section.querySelectorAll("[data-opt]")];
    section.addEventListener("pointerover", (event) => {
      const mark = event.target.closest?.("[data-opt]");
      if (event.pointerType !== "touch") this.show(mark ? mark.dataset.opt : null);
    });
    section.addEventListener("pointerleave", () => this.show(null));
    for (const mark of this.marks)
      mark.addEventListener("click", (event) => {
        if (event.target.closest(".plot") && this.reads?.(event)) return;
        if (!mark.matches("tr") || event.target.closest("button.name")) this.pin(mark.dataset.opt);
      });
  }

  name(opt) {
    return this.section.querySelector(`tr[data-opt="${opt}"] .name`).textContent.trim();
  }

  /** Highlight `opt`, or what is pinned if it is null. */
  show(opt) {
    opt = opt ?? this.pinned;
    if (opt === this.shown) return;
    this.shown = opt;
    this.section.classList.toggle("focus", opt !== null);
    for (const mark of this.marks) mark.classList.toggle("on", mark.dataset.opt === opt);
  }

  /** Keep `opt` highlighted; what is pinned already, or null, lets go. */
  pin(opt) {
    this.pinned = opt === this.pinned ? null : opt;
    for (const button of this.section.querySelectorAll("button.name"))
      button.setAttribute("aria-pressed", button.closest("tr").dataset.opt === this.pinned);
    this.show(this.pinned);
    status.textContent = this.pinned === null ? "" : `${this.name(this.pinned)} is highlighted`;
    if (this.pinned !== null) {
      const all = make("button", status, "", "show all");
      all.type = "button";
      all.addEventListener("click", unpin);
    }
  }
}

/* What is read off a figure: the values at a place, by pointer, touch or keys. */

const NEAR = 14; // pixels within which a line is meant

class Plot {
  constructor(element, numbers, highlight) {
    Object.assign(this, { element, numbers, highlight, place: null, pinned: false });
    this.svg = element.querySelector("svg");
    const [, , width, height] = this.svg.getAttribute("viewBox").split(" ").map(Number);
    Object.assign(this, { width, height });
    this.panels = JSON.parse(element.dataset.panels).map((panel) => this.placed(panel));
    this.all = this.panels.flatMap((panel) => panel.lines.map((line) => ({ panel, line })));
    if (!this.all.length) return;
    this.cursor = make("div", element, "cursor");
    const label = `${element.dataset.label}: values. Left and right along a line, up and down to another`;
    for (const [key, value] of Object.entries({
      role: "slider", tabindex: 0, "aria-label": label, "aria-valuenow": 0, "aria-valuemin": 0,
      "aria-valuetext": "none yet",
    })) this.cursor.setAttribute(key, value);
    element.addEventListener("pointermove", (event) => this.pinned || this.follow(event));
    element.addEventListener("pointerdown", (event) => this.pinned || this.follow(event));
    element.addEventListener("pointerleave", () => this.pinned || this.clear());
    element.addEventListener("click", (event) => this.click(event));
    this.cursor.addEventListener("keydown", (event) => this.key(event));
    this.cursor.addEventListener("focus", () => {
      if (!this.place && this.cursor.matches(":focus-visible")) this.start();
    });
    this.cursor.addEventListener("blur", () => this.pinned || this.clear());
  }

  /** A panel whose lines know where their points are in the picture. */
  placed(panel) {
    const [left, top, width, height] = panel.box;
    const part = (value, [low, high, log]) =>
      log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
    const { arrays, lines, names } = this.numbers;
    const array = (place) => (place === null ? undefined : arrays[place]);
    return {
      ...panel,
      lines: panel.lines.map((place) => {
        const [opt, hue, ...kept] = lines[place];
        const [x, y, low, high, at, value] = kept.map(array);
        return {
          opt: String(opt), name: names[opt], hue,
          low, high, at: at ?? x, value: value ?? y,
          px: x.map((v) => left + width * part(v, panel.x)),
          // What diverged stands at the top, and what is off the axis at its edge.
          py: y.map((v) => v === null ? top + 0.045 * height
            : top + height * Math.min(1, Math.max(0, 1 - part(v, panel.y)))),
        };
      }),
    };
  }

  /** Where the pointer is in the picture, and over which panel, if over one. */
  spot(event) {
    const box = this.svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * this.width;
    const y = ((event.clientY - box.top) / box.height) * this.height;
    const inside = ({ box: [left, top, width, height] }) =>
      x >= left - 4 && x <= left + width + 4 && y >= top - 4 && y <= top + height + 4;
    return { x, y, panel: this.panels.find(inside), scale: box.width / this.width };
  }

  /** The line and the point of it that is nearest to the pointer. */
  nearest({ x, y, panel, scale }) {
    if (!panel?.lines.length) return null;
    const [left, , width] = panel.box;
    const whole = panel.read !== "point";
    let found = null;
    for (const line of panel.lines) {
      for (const i of whole ? [closest(line.px, x)] : line.px.keys()) {
        if (whole && line.px[i] > left + width + 1) continue;
        const across = whole ? 0 : line.px[i] - x;
        const away = Math.hypot(across, line.py[i] - y) * scale;
        if (!found || away < found.away) found = { panel, line, i, away };
      }
    }
    return found;
  }

  follow(event) {
    const found = this.nearest(this.spot(event));
    if (!found) return this.clear();
    this.read(found);
    const meant = found.away < NEAR && found.panel.lines.length > 1 && found.panel.read !== "cell";
    this.highlight.show(meant ? found.line.opt : null);
  }

  /** Pin what is read; the same place again, or what is no place, lets go. */
  click(event) {
    if (event.target.closest(".readout")) return;
    const found = this.nearest(this.spot(event));
    if (!found) return;
    const again = this.pinned && found.i === this.place.i && found.panel === this.place.panel;
    unpin();
    if (again) return;
    this.read(found);
    this.cursor.classList.add("quiet");
    this.cursor.focus({ preventScroll: true });
    const sure = found.away < NEAR || found.panel.lines.length === 1;
    this.keep(sure ? found.line.opt : null);
  }

  keep(opt) {
    this.pinned = true;
    this.box.classList.add("pinned");
    if (opt !== null && this.highlight.pinned !== opt) this.highlight.pin(opt);
    if (opt === null) this.highlight.show(null);
    if (!status.textContent) make("span", status, "unseen", `Pinned. ${this.text}`);
  }

  start() {
    const last = this.all[0].line.px.length - 1;
    this.read({ ...this.all[0], i: last });
    this.highlight.show(this.all[0].line.opt);
  }

  key(event) {
    this.cursor.classList.remove("quiet");
    if (event.key === "Enter" || event.key === " ") {
      const { pinned, place } = this;
      unpin();
      if (!pinned && place) (this.read(place), this.keep(place.line.opt));
      return event.preventDefault();
    }
    const way = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1, Home: -Infinity,
      End: Infinity, PageUp: -10, PageDown: 10 }[event.key];
    if (!way) return;
    event.preventDefault();
    if (!this.place) return this.start();
    let { panel, line, i } = this.place;
    if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      const at = this.all.findIndex((one) => one.line === line) + way;
      const next = this.all[(at + this.all.length) % this.all.length];
      i = closest(next.line.px, line.px[i] - panel.box[0] + next.panel.box[0]);
      ({ panel, line } = next);
    } else i = Math.min(line.px.length - 1, Math.max(0, i + way));
    if (this.pinned) unpin();
    this.read({ panel, line, i });
    this.highlight.show(line.opt);
  }

  /** Show the values at a point: of all lines at its x, or of its line alone. */
  read({ panel, line, i }) {
    this.clear();
    this.place = { panel, line, i };
    const [left, top, width, height] = panel.box;
    const x = line.px[i];
    const column = panel.read === "column";
    const lines = column ? panel.lines : [line];
    const rows = lines.map((one) => ({ one, k: one === line ? i : closest(one.px, x) }))
      .filter(({ one, k }) => one.px[k] <= left + width + 1)
      .sort((a, b) => a.one.py[a.k] - b.one.py[b.k]);
    const at = (element, x, y) => {
      element.style.left = `${(100 * x) / this.width}%`;
      element.style.top = `${(100 * y) / this.height}%`;
    };
    this.shown = [];
    if (column) {
      const rule = make("div", this.element, "line");
      at(rule, x, top);
      rule.style.height = `${(100 * height) / this.height}%`;
      this.shown.push(rule);
    }
    for (const { one, k } of rows) {
      const point = make("div", this.element, one === line ? "point near" : "point");
      point.style.background = one.hue;
      at(point, one.px[k], one.py[k]);
      this.shown.push(point);
    }
    const box = (this.box = make("div", this.element, "readout"));
    this.shown.push(box);
    box.setAttribute("aria-hidden", "true");
    const head = make("p", box, "", "");
    make("span", head, "", said(line.at[i], panel.say[0]));
    const close = make("button", head, "unpin", "×");
    Object.assign(close, { type: "button", tabIndex: -1, onclick: unpin });
    const table = make("table", box);
    for (const { one, k } of rows) {
      const row = make("tr", table, one === line ? "near" : "");
      const name = make("td", row);
      make("span", name, "dot").style.background = one.hue;
      name.append(one.name);
      make("td", row, "value", said(one.value[k], panel.say[1]));
      make("small", make("td", row), "", one.low ? spread(one, k, panel.say[1]) : "");
    }
    box.classList.add(x < this.width / 2 ? "after" : "before");
    box.style.setProperty("--x", `${(100 * x) / this.width}%`);
    box.style.setProperty("--y", `${(100 * top) / this.height}%`);
    const value = said(line.value[i], panel.say[1]);
    this.text = `${said(line.at[i], panel.say[0])}: ${line.name} ${value}`;
    this.cursor.setAttribute("aria-valuemax", line.px.length - 1);
    this.cursor.setAttribute("aria-valuenow", i);
    this.cursor.setAttribute("aria-valuetext", this.text);
  }

  clear() {
    for (const element of this.shown ?? []) element.remove();
    Object.assign(this, { shown: [], place: null, box: null, pinned: false });
    this.highlight.show(null);
  }
}

const spread = (line, k, form) => {
  const edge = (value) => said(value, form).replace(" %", "");
  return `${edge(line.low[k])} – ${edge(line.high[k])}`;
};

/** The place of the number nearest to `x`, of numbers that rise. */
function closest(numbers, x) {
  let low = 0, high = numbers.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (numbers[middle] < x) low = middle;
    else high = middle;
  }
  return x - numbers[low] <= numbers[high] - x ? low : high;
}

/* Tables: sorted within families, and these by their first; families fold. */

function sorts(table) {
  const heads = [...table.querySelectorAll("thead th")];
  const value = (row, column) => {
    const { value } = row.cells[column].dataset;
    return value === undefined ? null : column === 0 ? value : Number(value);
  };
  const compared = (column, way) => (a, b) => {
    const [one, other] = [value(a, column), value(b, column)];
    if (one === null || other === null) return (one === null) - (other === null);
    return way * (column === 0 ? one.localeCompare(other) : one - other);
  };
  heads.forEach((head, column) =>
    head.querySelector("button")?.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const first = "down" in head.dataset ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = before === first ? other : first;
      for (const one of heads) if (one.ariaSort) one.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", order);
      const way = order === "ascending" ? 1 : -1;
      const bodies = [...table.tBodies];
      for (const body of bodies)
        body.append(...[...body.querySelectorAll("tr.opt")].sort(compared(column, way)));
      const best = (body) => body.querySelector("tr.opt");
      table.append(...bodies.sort((a, b) => compared(column, way)(best(a), best(b))));
    }));
  for (const button of table.querySelectorAll("tr.family button"))
    button.addEventListener("click", () => {
      const folded = button.closest("tbody").classList.toggle("folded");
      button.setAttribute("aria-expanded", !folded);
    });
}

/* All together */

const highlights = [...document.querySelectorAll("section")].map((one) => new Highlight(one));
const plots = highlights.flatMap((highlight) =>
  [...highlight.section.querySelectorAll("figure")].flatMap((figure) => {
    const numbers = JSON.parse(figure.querySelector("script").textContent);
    return [...figure.querySelectorAll(".plot")].map((one) => new Plot(one, numbers, highlight));
  }));
for (const highlight of highlights)
  highlight.reads = (event) => plots.some((plot) =>
    plot.element.contains(event.target) && plot.all.length && plot.nearest(plot.spot(event)));
document.querySelectorAll(".scroll > table").forEach(sorts);

function unpin() {
  for (const plot of plots) plot.clear?.();
  for (const highlight of highlights) highlight.pinned = null, highlight.pin(null);
}

document.addEventListener("keydown", (event) => event.key === "Escape" && unpin());
document.addEventListener("change", (event) => event.target.matches(".switch input") && unpin());
for (const link of document.querySelectorAll('a[href^="#"]'))
  link.addEventListener("click", (event) => {
    if (window === window.parent) return;
    event.preventDefault(); // in a notebook "#here" would be that of the notebook
    document.querySelector(link.getAttribute("href")).scrollIntoView();
  });
