// The viewer: draws the film with its findings, and answers to mouse, touch and keyboard.

import { sample, WHITE } from "./film.js";
import { Pane } from "./pane.js";
import { Shown } from "./shown.js";

const MAX_CANVAS_PIXELS = 4_000_000;
const MAGNIFIER = { radius: 120, factor: 2.5 };
// The palette of Okabe and Ito, which colour-blind readers tell apart.
const COLOURS = { urgent: "#ff8533", routine: "#f0e442", recorded: "#56b4e9", none: "#2fc79a" };
const HIDDEN_COLOUR = "#d0d7de";

class Viewer {
  constructor(root, data) {
    this.root = root;
    this.data = data;
    this.shown = new Shown(data);
    this.earlier = data.earlier ? new Shown(data.earlier) : null;
    this.canvas = root.querySelector("canvas");
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.message = root.querySelector("#message");
    this.readout = root.querySelector("#readout");
    this.preset = root.querySelector("#preset");
    this.opacity = root.querySelector("#opacity");
    this.tool = "window";
    this.on = { magnifier: false, invert: false, flip: false, both: false, boxes: true, heat: false, earlier: false };
    this.panes = [new Pane(this.shown)];
    this.pointers = new Map();
    this.pointer = null;
    this.isFitted = true;
    this.listen();
    new ResizeObserver(() => this.resize()).observe(this.canvas.parentElement);
    this.resize();
    this.open();
  }

  async open() {
    try {
      await this.shown.open("", this.on.invert);
    } catch (error) {
      this.fail(error);
      return;
    }
    this.preset.replaceChildren(
      ...this.shown.presets.map(([name], number) => new Option(`${number + 1} ${name}`, String(number))),
    );
    this.usePreset(0);
    this.message.hidden = true;
    this.draw();
    performance.mark("first-picture");
    this.canvas.dataset.state = "first";
    await this.refine();
    this.canvas.dataset.state = "ready";
  }

  // Shows the earlier film beside this one, in a window of the same name.
  async openEarlier() {
    try {
      const preset = this.shown.presets[Number(this.preset.value)]?.[0];
      if (!this.earlier.isReady) await this.earlier.open(preset, this.on.invert);
      this.message.hidden = true;
      this.draw();
      this.canvas.dataset.earlier = "ready";
    } catch (error) {
      this.message.hidden = false;
      this.message.textContent = `The earlier film: ${error.message || "it cannot be shown."}`;
      this.canvas.dataset.earlier = "failed";
    }
    this.refine();
    this.schedule();
  }

  fail(error) {
    this.message.hidden = false;
    this.message.setAttribute("role", "alert");
    this.message.textContent = error.message || "The film cannot be shown.";
    this.canvas.dataset.state = "failed";
  }

  // Loads the resolutions that the present sizes ask for.
  async refine() {
    const factor = this.on.magnifier ? MAGNIFIER.factor : 1;
    try {
      for (const shown of new Set(this.panes.map((pane) => pane.shown))) {
        if (!shown.isReady) continue;
        const scales = this.panes.filter((pane) => pane.shown === shown).map((pane) => pane.scale);
        if (await shown.film.load(shown.film.wanted(Math.max(...scales) * factor))) this.schedule();
      }
    } catch (error) {
      this.fail(error);
    }
  }

  resize() {
    const stage = this.canvas.parentElement;
    const { clientWidth: width, clientHeight: height } = stage;
    if (width === 0 || height === 0) return;
    const finest = Math.sqrt(MAX_CANVAS_PIXELS / (width * height));
    this.ratio = Math.min(devicePixelRatio || 1, finest);
    this.canvas.width = Math.round(width * this.ratio);
    this.canvas.height = Math.round(height * this.ratio);
    this.layOut();
    if (this.isFitted) this.fit();
    this.draw();
  }

  layOut() {
    const { width, height } = this.canvas;
    const share = width / this.panes.length;
    this.panes.forEach((pane, number) => {
      const x = Math.round(share * number);
      pane.frame = { x, y: 0, width: Math.round(share * (number + 1)) - x, height };
    });
  }

  fit() {
    const hips = this.on.both ? this.hipsFromLeft() : [];
    this.panes.forEach((pane, number) => {
      const { data } = pane.shown;
      pane.hips = this.on.both ? [hips[number]] : data.hips;
      pane.fit(this.on.both ? hips[number].box : [0, 0, data.columns, data.rows]);
    });
    this.isFitted = true;
  }

  // The two hips in the order in which they lie on the screen.
  hipsFromLeft() {
    const [pane] = this.panes;
    const place = (hip) => pane.toScreenDirection(hip.box[0], hip.box[1])[0];
    return [...this.data.hips].sort((a, b) => place(a) - place(b)).slice(0, 2);
  }

  usePreset(number) {
    if (number >= this.shown.presets.length) return;
    const [name] = this.shown.presets[number];
    for (const shown of this.opened()) shown.usePreset(name);
    this.preset.value = String(number);
    this.changeGrays();
  }

  opened() {
    return [this.shown, this.earlier].filter((shown) => shown?.presets.length > 0);
  }

  adjust(widen, move) {
    for (const shown of this.opened()) shown.adjust(widen, move);
    this.preset.value = "";
    this.changeGrays();
  }

  changeGrays() {
    for (const shown of this.opened()) shown.invert(this.on.invert);
    this.schedule();
  }

  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.draw();
    });
  }

  draw() {
    if (!this.shown.isReady) return;
    const { context } = this;
    for (const pane of this.panes) {
      const { x, y, width, height } = pane.frame;
      const image = context.createImageData(width, height);
      const { film, table, isReady } = pane.shown;
      if (isReady) sample(image, film.best(pane.scale), pane.toFilmMap, table);
      context.putImageData(image, x, y);
      context.save();
      context.beginPath();
      context.rect(x, y, width, height);
      context.clip();
      if (this.on.heat) this.drawHeat(pane);
      if (this.on.boxes) this.drawBoxes(pane);
      context.restore();
    }
    this.drawDivider();
    if (this.on.earlier) this.drawDates();
    if (this.on.magnifier && this.pointer) this.drawMagnifier();
    for (const pane of this.panes) this.drawRulers(pane);
    this.describe();
  }

  drawDivider() {
    if (this.panes.length < 2) return;
    this.context.fillStyle = "#3a434c";
    this.context.fillRect(this.panes[1].frame.x - 1, 0, 2, this.canvas.height);
  }

  // Which film is which, as long as there are two.
  drawDates() {
    for (const { frame, shown } of this.panes) {
      const which = shown === this.shown ? "this film" : "earlier film";
      const text = `${which}, ${shown.data.date || "date unknown"}`;
      this.label(text, frame.x + 8 * this.ratio, frame.height - 30 * this.ratio, "#ffffff");
    }
  }

  // Each cell of the map as the square that it is.
  drawHeat(pane) {
    const strength = Number(this.opacity.value) / 100;
    for (const { box, heat } of pane.hips) {
      if (!heat) continue;
      const [width, height] = [(box[2] - box[0]) / heat[0].length, (box[3] - box[1]) / heat.length];
      heat.forEach((cells, row) =>
        cells.forEach((value, column) => {
          if (value < 0.05) return;
          const a = pane.toScreen([box[0] + column * width, box[1] + row * height]);
          const b = pane.toScreen([box[0] + (column + 1) * width, box[1] + (row + 1) * height]);
          this.context.fillStyle = `rgb(255 70 0 / ${(strength * value).toFixed(3)})`;
          this.context.fillRect(
            Math.round(Math.min(a[0], b[0])),
            Math.round(Math.min(a[1], b[1])),
            Math.ceil(Math.abs(b[0] - a[0])),
            Math.ceil(Math.abs(b[1] - a[1])),
          );
        }),
      );
    }
  }

  drawBoxes(pane) {
    const { context, ratio } = this;
    for (const hip of pane.hips) {
      const [x0, y0] = pane.toScreen(hip.box.slice(0, 2));
      const [x1, y1] = pane.toScreen(hip.box.slice(2));
      const [left, top] = [Math.min(x0, x1), Math.min(y0, y1)];
      context.strokeStyle = hip.flagged ? COLOURS[hip.priority] : HIDDEN_COLOUR;
      context.lineWidth = (hip.flagged ? 2 : 1) * ratio;
      context.setLineDash(hip.flagged ? [] : [6 * ratio, 5 * ratio]);
      context.strokeRect(left, top, Math.abs(x1 - x0), Math.abs(y1 - y0));
      context.setLineDash([]);
      const colour = context.strokeStyle;
      const lines = [hip.category ? `${hip.side}: ${hip.category}` : hip.side];
      if (hip.reasons?.length) lines.push("flagged for", ...hip.reasons.map((one) => `  ${one}`));
      const inside = Math.max(left, pane.frame.x) + 5 * ratio;
      lines.forEach((line, number) => {
        this.label(line, inside, Math.max(top, 0) + 17 * (number + 1) * ratio, colour);
      });
    }
  }

  drawRulers(pane) {
    const { context, ratio } = this;
    context.save();
    context.beginPath();
    context.rect(pane.frame.x, 0, pane.frame.width, pane.frame.height);
    context.clip();
    for (const ruler of pane.shown.rulers) {
      const [a, b] = [pane.toScreen(ruler[0]), pane.toScreen(ruler[1] ?? pane.centre)];
      context.strokeStyle = "#7dd3fc";
      context.lineWidth = 1.5 * ratio;
      context.beginPath();
      context.moveTo(...a);
      context.lineTo(...b);
      context.stroke();
      for (const [x, y] of [a, b]) context.strokeRect(x - 3 * ratio, y - 3 * ratio, 6 * ratio, 6 * ratio);
      const text = pane.shown.lengthText(ruler[0], ruler[1] ?? pane.centre);
      this.label(text, b[0] + 8 * ratio, b[1] - 6 * ratio, "#7dd3fc");
    }
    context.restore();
  }

  label(text, x, y, colour) {
    const { context, ratio } = this;
    context.font = `600 ${13 * ratio}px system-ui, sans-serif`;
    context.lineWidth = 3 * ratio;
    context.strokeStyle = "#000";
    context.strokeText(text, x, y);
    context.fillStyle = colour;
    context.fillText(text, x, y);
  }

  drawMagnifier() {
    const pane = this.panes.find((one) => one.contains(this.pointer));
    if (!pane?.shown.isReady) return;
    const { context } = this;
    const radius = Math.round(MAGNIFIER.radius * this.ratio);
    const lens = Object.assign(new Pane(pane.shown), pane);
    lens.scale = pane.scale * MAGNIFIER.factor;
    lens.centre = pane.toFilm(this.pointer);
    lens.frame = { x: 0, y: 0, width: 2 * radius, height: 2 * radius };
    const image = context.createImageData(2 * radius, 2 * radius);
    sample(image, pane.shown.film.best(lens.scale), lens.toFilmMap, pane.shown.table);
    const picture = new OffscreenCanvas(2 * radius, 2 * radius);
    picture.getContext("2d").putImageData(image, 0, 0);
    const [x, y] = this.pointer;
    context.save();
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.clip();
    context.drawImage(picture, x - radius, y - radius);
    context.restore();
    context.strokeStyle = "#d0d7de";
    context.lineWidth = 2 * this.ratio;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.stroke();
  }

  describe() {
    const [pane] = this.panes;
    const { low, high, curve } = this.shown.window;
    const percent = (value) => `${((100 * value) / WHITE).toFixed(0)} %`;
    const window = curve
      ? "window as sent"
      : `window ${percent(high - low)} wide at ${percent((low + high) / 2)}`;
    const size = `${((100 * pane.scale) / this.ratio).toFixed(0)} %`;
    const reduced = this.data.finest > 0
      ? `, a large film: shown at 1/${2 ** this.data.finest} of its resolution`
      : "";
    const orientation = [
      ...(pane.turns ? [`rotated by ${90 * pane.turns}°`] : []),
      ...(pane.flipped ? ["flipped: left and right are reversed"] : []),
      ...(this.on.invert ? ["inverted"] : []),
    ];
    this.readout.textContent = [`size ${size}${reduced}`, window, ...orientation].join(" · ");
  }

  useTool(tool) {
    this.tool = tool;
    for (const button of this.root.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    }
  }

  toggle(name) {
    if (name === "both" && this.data.hips.length < 2) return;
    if (name === "earlier" && !this.earlier) return;
    // Either both hips or both films.
    const other = { both: "earlier", earlier: "both" }[name];
    if (this.on[other]) this.set(other, false);
    this.set(name, !this.on[name]);
    if (name === "invert") this.changeGrays();
    if (name === "flip") for (const pane of this.panes) pane.flipped = this.on.flip;
    if (other || (name === "flip" && this.on.both)) this.split();
    if (name === "earlier" && this.on.earlier) this.openEarlier();
    this.refine();
    this.schedule();
  }

  set(name, on) {
    this.on[name] = on;
    this.root.querySelector(`[data-toggle=${name}]`)?.setAttribute("aria-pressed", String(on));
  }

  split() {
    const [{ turns, flipped }] = this.panes;
    const second = { both: this.shown, earlier: this.earlier };
    const shown = [this.shown, ...["both", "earlier"].filter((name) => this.on[name]).map((name) => second[name])];
    this.panes = shown.map((one) => Object.assign(new Pane(one), { turns, flipped }));
    this.layOut();
    this.fit();
  }

  act(name) {
    const middle = (pane) => [
      pane.frame.x + pane.frame.width / 2,
      pane.frame.y + pane.frame.height / 2,
    ];
    if (name === "fit") this.fit();
    if (name === "in" || name === "out") {
      const factor = name === "in" ? 1.25 : 0.8;
      for (const pane of this.panes) pane.zoom(factor, middle(pane));
      this.isFitted = false;
    }
    if (name === "rotate") {
      for (const pane of this.panes) pane.turns = (pane.turns + 1) % 4;
      if (this.on.both) this.split();
      else this.fit();
    }
    if (name === "help") {
      const help = this.root.querySelector("#help");
      help.hidden = !help.hidden;
      this.root.querySelector("[data-action=help]").setAttribute("aria-expanded", String(!help.hidden));
    }
    this.refine();
    this.schedule();
  }

  // A point of the ruler at the centre of the view, for the keyboard.
  mark() {
    const [pane] = this.panes;
    const { rulers } = pane.shown;
    const open = rulers.find((ruler) => ruler.length === 1);
    if (open) open.push([...pane.centre]);
    else rulers.push([[...pane.centre]]);
    this.schedule();
  }

  listen() {
    for (const button of this.root.querySelectorAll("[data-tool]")) {
      button.addEventListener("click", () => this.useTool(button.dataset.tool));
    }
    for (const button of this.root.querySelectorAll("[data-toggle]")) {
      button.addEventListener("click", () => this.toggle(button.dataset.toggle));
    }
    for (const button of this.root.querySelectorAll("[data-action]")) {
      button.addEventListener("click", () => this.act(button.dataset.action));
    }
    this.preset.addEventListener("change", () => this.usePreset(Number(this.preset.value)));
    this.opacity.addEventListener("input", () => {
      if (!this.on.heat) this.toggle("heat");
      this.schedule();
    });
    this.canvas.addEventListener("pointerdown", (event) => this.press(event));
    this.canvas.addEventListener("pointermove", (event) => this.drag(event));
    for (const name of ["pointerup", "pointercancel"]) {
      this.canvas.addEventListener(name, (event) => this.release(event));
    }
    this.canvas.addEventListener("pointerleave", () => {
      this.pointer = null;
      if (this.on.magnifier) this.schedule();
    });
    this.canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    this.canvas.addEventListener("dblclick", () => this.act("fit"));
    this.canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    document.addEventListener("keydown", (event) => this.key(event));
  }

  at(event) {
    const bounds = this.canvas.getBoundingClientRect();
    return [(event.clientX - bounds.x) * this.ratio, (event.clientY - bounds.y) * this.ratio];
  }

  paneAt(point) {
    return this.panes.find((pane) => pane.contains(point)) ?? this.panes[0];
  }

  press(event) {
    const point = this.at(event);
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { point, pane: this.paneAt(point) });
    const moves = event.button !== 0 || event.shiftKey || this.pointers.size > 1;
    this.dragging = moves ? "pan" : this.tool;
    if (this.dragging === "ruler") {
      const pane = this.paneAt(point);
      const place = pane.toFilm(point);
      pane.shown.rulers.push([place, place]);
    }
  }

  drag(event) {
    const point = this.at(event);
    this.pointer = point;
    const held = this.pointers.get(event.pointerId);
    if (!held) {
      if (this.on.magnifier) this.schedule();
      return;
    }
    const { pane } = held;
    const [dx, dy] = [point[0] - held.point[0], point[1] - held.point[1]];
    if (this.pointers.size > 1) this.pinch(event.pointerId, point);
    else if (this.dragging === "pan") {
      pane.move(dx, dy);
      this.isFitted = false;
    } else if (this.dragging === "window") {
      this.adjust((3 * dx) / this.canvas.width, (1.5 * dy) / this.canvas.height);
    } else pane.shown.rulers.at(-1)[1] = pane.toFilm(point);
    held.point = point;
    this.schedule();
  }

  // Two fingers: their distance is the size, their middle moves the film.
  pinch(moved, point) {
    const [other] = [...this.pointers].find(([id]) => id !== moved) ?? [];
    const held = this.pointers.get(moved);
    const fixed = this.pointers.get(other).point;
    const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
    const middle = [(point[0] + fixed[0]) / 2, (point[1] + fixed[1]) / 2];
    held.pane.zoom(distance(point, fixed) / Math.max(1, distance(held.point, fixed)), middle);
    held.pane.move((point[0] - held.point[0]) / 2, (point[1] - held.point[1]) / 2);
    this.isFitted = false;
  }

  release(event) {
    this.pointers.delete(event.pointerId);
    // A click with the ruler measures nothing.
    for (const { shown } of this.panes) {
      shown.rulers = shown.rulers.filter(([a, b]) => !b || a[0] !== b[0] || a[1] !== b[1]);
    }
    this.refine();
    this.schedule();
  }

  wheel(event) {
    event.preventDefault();
    const point = this.at(event);
    this.paneAt(point).zoom(Math.exp(-event.deltaY / 500), point);
    this.isFitted = false;
    clearTimeout(this.refining);
    this.refining = setTimeout(() => this.refine(), 120);
    this.schedule();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, textarea, summary")) return;
    if (event.key === "Enter" && event.target !== this.canvas) return;
    const step = 40 * this.ratio;
    const move = (dx, dy) => () => {
      for (const pane of this.panes) pane.move(dx, dy);
      this.isFitted = false;
      this.schedule();
    };
    const keys = {
      w: () => this.useTool("window"),
      p: () => this.useTool("pan"),
      l: () => this.useTool("ruler"),
      m: () => this.toggle("magnifier"),
      i: () => this.toggle("invert"),
      f: () => this.toggle("flip"),
      s: () => this.toggle("both"),
      e: () => this.toggle("earlier"),
      b: () => this.toggle("boxes"),
      h: () => this.toggle("heat"),
      r: () => this.act("rotate"),
      "+": () => this.act("in"),
      "=": () => this.act("in"),
      "-": () => this.act("out"),
      0: () => this.act("fit"),
      "?": () => this.act("help"),
      "[": () => this.adjust(-0.1, 0),
      "]": () => this.adjust(0.1, 0),
      ",": () => this.adjust(0, 0.05),
      ".": () => this.adjust(0, -0.05),
      n: () => document.getElementById("next")?.click(),
      ArrowLeft: move(step, 0),
      ArrowRight: move(-step, 0),
      ArrowUp: move(0, step),
      ArrowDown: move(0, -step),
      Enter: () => this.tool === "ruler" && this.mark(),
      Delete: () => {
        for (const { shown } of this.panes) shown.rulers = [];
        this.schedule();
      },
    };
    const preset = "12345".indexOf(event.key);
    const action = preset >= 0 ? () => this.usePreset(preset) : keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }
}

// Choosing a category chooses the answer that it belongs to.
for (const list of document.querySelectorAll("select[data-chooses]")) {
  list.addEventListener("change", () => {
    if (list.value) document.getElementById(list.dataset.chooses).checked = true;
  });
}

const data = document.getElementById("film-data");
if (data) new Viewer(document.getElementById("viewer"), JSON.parse(data.textContent));
