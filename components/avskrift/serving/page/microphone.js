// Runs on the browser's audio thread: passes on what the microphone hears in blocks of 16-bit samples, 20 a second.

class Microphone extends AudioWorkletProcessor {
  #block = new Int16Array(Math.round(sampleRate / 20));
  #filled = 0;
  #open = true;

  constructor() {
    super();
    // Any message asks for the end: the samples that do not fill a block yet, then null as the last word.
    this.port.onmessage = () => {
      this.#open = false;
      this.#pass();
      this.port.postMessage(null);
    };
  }

  process([input]) {
    if (!this.#open) return false;
    for (const sample of input[0] ?? []) {
      this.#block[this.#filled++] = Math.round(32767 * Math.max(-1, Math.min(1, sample)));
      if (this.#filled === this.#block.length) this.#pass();
    }
    return true;
  }

  #pass() {
    if (this.#filled) this.port.postMessage(this.#block.slice(0, this.#filled));
    this.#filled = 0;
  }
}

registerProcessor("microphone", Microphone);
