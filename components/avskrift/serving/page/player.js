// Plays the recording, whole or from one time to another.

export class Player {
  #audio;
  #onPlace;
  #until = Infinity;
  #watching = false;

  // onPlace gets the seconds that are heard now, or null while nothing is.
  constructor(audio, onPlace) {
    this.#audio = audio;
    this.#onPlace = onPlace;
    audio.addEventListener("playing", () => {
      if (!this.#watching) this.#watch();
    });
    audio.addEventListener("pause", () => (this.#until = Infinity));
  }

  load(file) {
    if (this.#audio.src) URL.revokeObjectURL(this.#audio.src);
    this.#until = Infinity;
    this.#audio.src = URL.createObjectURL(file);
  }

  pause() {
    this.#audio.pause();
  }

  play(start, end) {
    this.#audio.currentTime = start;
    this.#until = end;
    this.#audio.play().catch(() => {}); // a recording that cannot be played says so in its error event
  }

  // Once a frame: the audio element itself tells its place four times a second only, and would run into the next word.
  #watch() {
    if (this.#audio.currentTime >= this.#until) this.#audio.pause();
    this.#watching = !this.#audio.paused;
    this.#onPlace(this.#watching ? this.#audio.currentTime : null);
    if (this.#watching) requestAnimationFrame(() => this.#watch());
  }
}
