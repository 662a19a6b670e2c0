// The transcript on the page: a list of segments, each with a button that plays it. All of it is text, never markup.

import { clock } from "./clock.js";

export class TranscriptList {
  segments = [];
  #list;
  #words;
  #onPlay;
  #playing = null;

  constructor(list, words, onPlay) {
    this.#list = list;
    this.#words = words;
    this.#onPlay = onPlay;
  }

  clear() {
    this.segments = [];
    this.#playing = null;
    this.#list.replaceChildren();
    this.#list.removeAttribute("lang");
  }

  add(segment) {
    this.segments.push(segment);
    this.#list.append(this.#item(segment));
  }

  spokenIn(language) {
    this.#list.lang = language;
  }

  // Marks the segment that is heard at `seconds`; null for none.
  mark(seconds) {
    const index = seconds === null ? -1 : this.segments.findLastIndex(({ start }) => start <= seconds);
    const item = this.#list.children[index] ?? null;
    if (item === this.#playing) return;
    this.#playing?.removeAttribute("aria-current");
    item?.setAttribute("aria-current", "true");
    this.#playing = item;
  }

  #item(segment) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    const time = clock(segment.start);
    button.type = "button";
    button.textContent = time;
    button.setAttribute("aria-label", this.#words.text("play_from", { time }));
    button.lang = this.#words.language;
    const text = document.createElement("p");
    text.dir = "auto";
    text.textContent = segment.text;
    button.addEventListener("click", () => this.#onPlay(segment));
    text.addEventListener("click", () => {
      if (getSelection().isCollapsed) this.#onPlay(segment); // who selects text does not ask to hear it
    });
    item.append(button, text);
    return item;
  }
}
