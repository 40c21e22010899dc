// A film at several resolutions, and how its values become gray.

export const WHITE = 65535;

// One level: `values` are rows × columns, each covering step × step pixels of the film, whose
// corner lies at `origin` (x, y).
async function fetchLevel(address) {
  const answer = await fetch(address, { redirect: "manual" });
  if (answer.type === "opaqueredirect" || answer.status === 401) {
    throw new Error("Your session is over: load the page again to log in.");
  }
  if (!answer.ok) throw new Error(await answer.text());
  const level = JSON.parse(answer.headers.get("X-Level"));
  const all = new Uint16Array(await answer.arrayBuffer()); // little-endian, as every browser is
  level.windowCurve = level.curve > 0 ? all.subarray(0, level.curve) : null;
  level.values = all.subarray(level.curve);
  return level;
}

export class Film {
  constructor(data) {
    this.data = data;
    this.levels = new Map();
    this.pending = new Set();
    this.windowCurve = null;
  }

  get isLoaded() {
    return this.levels.size > 0;
  }

  // Loads a level once; resolves to whether it is new.
  async load(halvings) {
    if (this.levels.has(halvings) || this.pending.has(halvings)) return false;
    this.pending.add(halvings);
    try {
      const level = await fetchLevel(`${this.data.film}/${halvings}`);
      this.windowCurve ??= level.windowCurve;
      this.levels.set(halvings, level);
      return true;
    } finally {
      this.pending.delete(halvings);
    }
  }

  // The number of halvings whose pixels are no larger than a pixel of the screen.
  wanted(screenPerFilm) {
    const halvings = Math.floor(Math.log2(1 / screenPerFilm) + 0.01);
    return Math.min(this.data.first, Math.max(this.data.finest, halvings));
  }

  // Of the loaded levels the one nearest to what is wanted, a finer one before a coarser one.
  best(screenPerFilm) {
    const wanted = this.wanted(screenPerFilm);
    const loaded = [...this.levels.keys()].sort((a, b) => a - b);
    const finer = loaded.filter((halvings) => halvings <= wanted);
    return this.levels.get(finer.length > 0 ? finer.at(-1) : loaded[0]);
  }

  // Values below which so large a share of the film lies, border and background left out.
  percentiles(...shares) {
    const level = this.levels.get(Math.max(...this.levels.keys()));
    const counts = new Uint32Array(WHITE + 1);
    let total = 0;
    for (const value of level.values) {
      if (value > 0) {
        counts[value] += 1;
        total += 1;
      }
    }
    return shares.map((share) => {
      let seen = 0;
      for (let value = 0; value <= WHITE; value += 1) {
        seen += counts[value];
        if (seen >= share * total) return value;
      }
      return WHITE;
    });
  }
}

// The windows that the viewer offers: [name, low, high]; null for what the header asks for.
export function presetsOf(film) {
  const [low, high] = film.percentiles(0.02, 0.995);
  const range = Math.max(1, high - low);
  const presets = [
    ["automatic", low, high],
    ["bone", low + 0.35 * range, high + 0.1 * range],
    ["soft tissue", low - 0.1 * range, low + 0.6 * range],
    ["full range", 0, WHITE],
  ];
  return film.windowCurve ? [["as sent", null, null], ...presets] : presets;
}

// Where the header's window begins and ends, to go on from there by hand.
export function endsOfCurve(curve) {
  const at = (share) => curve.findIndex((value) => value >= share * WHITE);
  const scale = WHITE / (curve.length - 1);
  const low = Math.max(0, at(0.02)) * scale;
  const found = at(0.98);
  return [low, Math.max(low + scale, (found < 0 ? curve.length - 1 : found) * scale)];
}

// The gray of each value as a pixel of ImageData, (65536,).
export function grays({ low, high, curve, inverted }) {
  const table = new Uint32Array(WHITE + 1);
  for (let value = 0; value <= WHITE; value += 1) {
    let white;
    if (curve) {
      const place = (value / WHITE) * (curve.length - 1);
      const before = Math.floor(place);
      const after = Math.min(curve.length - 1, before + 1);
      white = (curve[before] + (curve[after] - curve[before]) * (place - before)) / WHITE;
    } else {
      white = Math.min(1, Math.max(0, (value - low) / Math.max(1, high - low)));
    }
    const gray = Math.round(255 * (inverted ? 1 - white : white));
    table[value] = 0xff000000 | (gray << 16) | (gray << 8) | gray;
  }
  return table;
}

// Fills an image with a level, bilinearly; `toFilm` are [x0, dx by column, dx by row, y0, …].
export function sample(image, level, toFilm, table) {
  const out = new Uint32Array(image.data.buffer);
  const { values, rows, columns, step, origin } = level;
  const [x0, xc, xr, y0, yc, yr] = toFilm;
  const background = 0xff000000;
  let target = 0;
  for (let row = 0; row < image.height; row += 1) {
    let x = (x0 + xr * row - origin[0]) / step - 0.5;
    let y = (y0 + yr * row - origin[1]) / step - 0.5;
    const dx = xc / step;
    const dy = yc / step;
    for (let column = 0; column < image.width; column += 1, x += dx, y += dy, target += 1) {
      if (x < -0.5 || y < -0.5 || x > columns - 0.5 || y > rows - 0.5) {
        out[target] = background;
        continue;
      }
      const left = x < 0 ? 0 : Math.floor(x);
      const top = y < 0 ? 0 : Math.floor(y);
      const right = left + 1 < columns ? left + 1 : left;
      const bottom = top + 1 < rows ? top + 1 : top;
      const u = x < 0 ? 0 : x - left;
      const v = y < 0 ? 0 : y - top;
      const upper = values[top * columns + left] * (1 - u) + values[top * columns + right] * u;
      const lower = values[bottom * columns + left] * (1 - u) + values[bottom * columns + right] * u;
      out[target] = table[(upper * (1 - v) + lower * v) | 0];
    }
  }
}
