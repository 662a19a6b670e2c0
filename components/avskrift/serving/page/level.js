// The level of the microphone, drawn: bars that wander to the left, or one bar that stands still where motion is unwanted.

const BAR = 3;
const STEP = 6;

export class Level {
  #canvas;
  #peaks = [];

  constructor(canvas) {
    this.#canvas = canvas;
  }

  clear() {
    this.#peaks = [];
    this.#draw();
  }

  add(peak) {
    this.#peaks.push(Math.sqrt(peak)); // quiet speech must be seen to move too
    this.#draw();
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    this.#canvas.width = width * devicePixelRatio;
    this.#canvas.height = height * devicePixelRatio;
    const pen = this.#canvas.getContext("2d");
    pen.scale(devicePixelRatio, devicePixelRatio);
    pen.fillStyle = getComputedStyle(this.#canvas).color;
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
      pen.fillRect(0, height / 2 - BAR, Math.max(BAR, width * (this.#peaks.at(-1) ?? 0)), 2 * BAR);
      return;
    }
    this.#peaks = this.#peaks.slice(-Math.ceil(width / STEP));
    this.#peaks.forEach((peak, index) => {
      const tall = Math.max(BAR, height * peak);
      pen.beginPath();
      pen.roundRect(width - (this.#peaks.length - index) * STEP, (height - tall) / 2, BAR, tall, BAR / 2);
      pen.fill();
    });
  }
}
