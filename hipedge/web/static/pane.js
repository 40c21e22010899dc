// A part of the canvas that shows the film: where it looks, and how points get from one to the
// other. Points of the screen are in pixels of the canvas, relative to its upper left corner.

export class Pane {
  constructor(shown) {
    const film = shown.data;
    this.shown = shown;
    this.film = film;
    this.hips = film.hips; // those whose boxes and maps are drawn
    this.frame = { x: 0, y: 0, width: 1, height: 1 };
    this.centre = [film.columns / 2, film.rows / 2];
    this.scale = 1; // pixels of the canvas for each pixel of the film
    this.turns = 0; // quarter turns clockwise
    this.flipped = false;
  }

  // Shows a part of the film, [x0, y0, x1, y1], as large as it fits.
  fit(box) {
    const [width, height] = [box[2] - box[0], box[3] - box[1]];
    const [across, down] = this.turns % 2 ? [height, width] : [width, height];
    this.scale = Math.min(this.frame.width / across, this.frame.height / down);
    this.centre = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
  }

  // A direction on the screen as one on the film, without scale: the inverse of flip, then turn.
  toFilmDirection(dx, dy) {
    for (let turn = 0; turn < this.turns; turn += 1) [dx, dy] = [dy, -dx];
    return [this.flipped ? -dx : dx, dy];
  }

  toScreenDirection(dx, dy) {
    if (this.flipped) dx = -dx;
    for (let turn = 0; turn < this.turns; turn += 1) [dx, dy] = [-dy, dx];
    return [dx, dy];
  }

  toFilm([x, y]) {
    const { frame, centre, scale } = this;
    const [dx, dy] = this.toFilmDirection(
      x - frame.x - frame.width / 2,
      y - frame.y - frame.height / 2,
    );
    return [centre[0] + dx / scale, centre[1] + dy / scale];
  }

  toScreen([x, y]) {
    const { frame, centre, scale } = this;
    const [dx, dy] = this.toScreenDirection((x - centre[0]) * scale, (y - centre[1]) * scale);
    return [frame.x + frame.width / 2 + dx, frame.y + frame.height / 2 + dy];
  }

  // For `sample`: the film's coordinates at the centre of the frame's first pixel, and their steps.
  get toFilmMap() {
    const [x, y] = this.toFilm([this.frame.x + 0.5, this.frame.y + 0.5]);
    const [xc, yc] = this.toFilmDirection(1 / this.scale, 0);
    const [xr, yr] = this.toFilmDirection(0, 1 / this.scale);
    return [x, xc, xr, y, yc, yr];
  }

  contains([x, y]) {
    const { frame } = this;
    return (
      x >= frame.x && y >= frame.y && x < frame.x + frame.width && y < frame.y + frame.height
    );
  }

  move(dx, dy) {
    const [fx, fy] = this.toFilmDirection(dx, dy);
    const clamp = (value, length) => Math.min(length, Math.max(0, value));
    this.centre = [
      clamp(this.centre[0] - fx / this.scale, this.film.columns),
      clamp(this.centre[1] - fy / this.scale, this.film.rows),
    ];
  }

  // Changes the size and keeps a point of the screen where it is.
  zoom(factor, point) {
    const before = this.toFilm(point);
    const whole = Math.min(
      this.frame.width / this.film.columns,
      this.frame.height / this.film.rows,
    );
    this.scale = Math.min(16, Math.max(whole / 2, this.scale * factor));
    const after = this.toFilm(point);
    this.centre = [
      this.centre[0] + before[0] - after[0],
      this.centre[1] + before[1] - after[1],
    ];
  }
}
