// A film as the viewer shows it: its levels, the window by which its values become gray, and what was
// measured on it.

import { endsOfCurve, Film, grays, presetsOf, WHITE } from "./film.js";

export class Shown {
  constructor(data) {
    this.data = data;
    this.film = new Film(data);
    this.window = { low: 0, high: WHITE, curve: null };
    this.presets = [];
    this.rulers = [];
    this.table = null;
  }

  get isReady() {
    return this.film.isLoaded && this.table !== null;
  }

  // Loads the first level; shows it in a window of this name, or in the first one there is.
  async open(preset, inverted) {
    await this.film.load(this.data.first);
    this.presets = presetsOf(this.film);
    this.usePreset(preset);
    this.invert(inverted);
  }

  usePreset(name) {
    const [, low, high] = this.presets.find(([one]) => one === name) ?? this.presets[0];
    this.window = { low, high, curve: low === null ? this.film.windowCurve : null };
  }

  // Makes the window narrower or wider, and moves it: by shares of its own width.
  adjust(widen, move) {
    if (this.window.curve) {
      const [low, high] = endsOfCurve(this.window.curve);
      this.window = { low, high, curve: null };
    }
    const centre = (this.window.low + this.window.high) / 2;
    const width = this.window.high - this.window.low;
    const half = Math.min(WHITE, Math.max(64, width * Math.exp(widen))) / 2;
    const moved = Math.min(WHITE, Math.max(0, centre + move * width));
    this.window = { low: moved - half, high: moved + half, curve: null };
  }

  invert(inverted) {
    this.table = grays({ ...this.window, inverted });
  }

  lengthText([ax, ay], [bx, by]) {
    const { spacing, doubtful } = this.data;
    if (!spacing) return `${Math.hypot(bx - ax, by - ay).toFixed(0)} px (no scale)`;
    const length = Math.hypot((bx - ax) * spacing[1], (by - ay) * spacing[0]);
    return doubtful ? `≈ ${length.toFixed(0)} mm (scale doubtful)` : `${length.toFixed(1)} mm`;
  }
}
