// The page: a recording or a file goes in, a transcript comes out. Each part is a module of its own; here they meet.

import { clock } from "./clock.js";
import { EndpointError, MOST_RETRIES, transcribe } from "./endpoint.js";
import { offerCopy, offerDownload } from "./export.js";
import { Level } from "./level.js";
import { languageCode, languageName, listLanguages } from "./languages.js";
import { Player } from "./player.js";
import { microphoneError, startRecording } from "./recorder.js";
import { TranscriptList } from "./transcript.js";
import { fill, loadWords } from "./words.js";

const MOST_SECONDS = 30 * 60; // of one recording by microphone, whatever the server would take
const SILENT_PEAK = 0.003;
const SILENT_SECONDS = 3;

const on = (id) => document.getElementById(id);
const words = await loadWords(navigator.languages);
fill(document, words);

const level = new Level(on("level"));
const player = new Player(on("audio"), (seconds) => list.mark(seconds));
const list = new TranscriptList(on("segments"), words, ({ start, end }) => player.play(start, end));
let endpoint = null; // what the server says of itself
let source = null; // {file, name}: what was heard last
let running = null; // the AbortController of the request in flight
let recording = null; // the promise of a recording, from the click on
let transcript = null; // {text, duration, segments}

async function setUp() {
  endpoint = await (await fetch(new URL("endpoint.json", import.meta.url))).json();
  listLanguages(on("language"), endpoint.languages, words.language);
  const [size, time] = [words.quantity(endpoint.max_upload_bytes / 2 ** 20, "megabyte"), words.duration(endpoint.max_audio_seconds)];
  on("limits").textContent = words.text("limits", { size, time });
  on("record-label").textContent = words.text("record");
  on("record").addEventListener("click", () => (recording ? stop() : record()));
  on("file").addEventListener("change", ({ target }) => {
    const [file] = target.files;
    target.value = ""; // so that the same file can be chosen again
    if (file) hear(file, file.name);
  });
  on("task").addEventListener("change", chooseTask);
  on("cancel").addEventListener("click", () => running?.abort());
  on("again").addEventListener("click", () => hear(source.file, source.name));
  on("audio").addEventListener("error", () => playable(false));
  on("audio").addEventListener("durationchange", showHowFar);
  offerCopy(on("copy"), () => transcript, (copied) => say(copied ? "copied" : "not_copied"));
  for (const button of document.querySelectorAll("[data-download]")) {
    offerDownload(button, () => ({ transcript, name: source.name }), (name) => say("downloaded", { name }));
  }
  acceptDrops();
}

// A translation takes no language: OpenAI's API has none there.
function chooseTask() {
  on("language").disabled = on("task").value === "translate";
  if (on("language").disabled) on("language").value = "";
}

function acceptDrops() {
  const carriesFile = (event) => event.dataTransfer.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    on("source").classList.add("over");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) on("source").classList.remove("over");
  });
  addEventListener("drop", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    on("source").classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file && !recording) hear(file, file.name);
  });
}

async function record() {
  running?.abort();
  running = null;
  working(false);
  player.pause();
  clearMessages();
  say("opening_microphone");
  let loudest = 0;
  recording = startRecording({
    mostSeconds: Math.min(MOST_SECONDS, endpoint.max_audio_seconds),
    mostBytes: endpoint.max_upload_bytes,
    onBlock: (seconds, peak) => {
      loudest = Math.max(loudest, peak);
      level.add(peak);
      on("elapsed").textContent = clock(seconds);
      if (seconds > SILENT_SECONDS) say(loudest < SILENT_PEAK ? "no_sound" : "recording_now");
    },
    onEnd: () => stop(),
  });
  try {
    const { longest } = await recording;
    showRecording(true);
    on("longest").textContent = words.text("longest", { time: clock(longest) });
    say("recording_now");
  } catch (error) {
    recording = null;
    say(null);
    complain(microphoneError(error));
  }
}

async function stop() {
  const opened = await recording?.catch(() => null); // record() tells why there is none
  if (!opened || !recording) return;
  recording = null;
  const file = await opened.stop();
  showRecording(false);
  if (!file) {
    say(null);
    complain("error_nothing_recorded");
    return;
  }
  const now = new Date(Date.now() - new Date().getTimezoneOffset() * 60_000).toISOString();
  await hear(file, `${words.text("recording_name")}-${now.slice(0, 16).replace("T", "-").replace(":", "")}.wav`);
}

function showRecording(shown) {
  on("source").classList.toggle("recording", shown);
  on("meter").hidden = !shown;
  on("again").hidden = shown || !source;
  on("elapsed").textContent = clock(0);
  on("record-label").textContent = words.text(shown ? "stop" : "record");
  level.clear();
}

// Sends the file and shows what comes back. A file that is sent meanwhile takes this one's place.
async function hear(file, name) {
  running?.abort();
  const request = new AbortController();
  running = request;
  source = { file, name };
  const choices = { task: on("task").value, language: on("language").value };
  clearMessages();
  showTranscript(choices.task);
  player.load(file);
  playable(true);
  working(true);
  say("sending");
  try {
    if (file.size > endpoint.max_upload_bytes) throw new EndpointError("error_too_large", { status: 413 });
    for await (const part of transcribe(file, name, choices, { signal: request.signal, onWait: showWait })) {
      if (running !== request) return;
      if (part.type === "segment") showSegment(part.segment);
      else finish(part, choices.task);
    }
  } catch (error) {
    if (running !== request) return;
    if (request.signal.aborted) say("cancelled");
    else fail(error);
  }
  running = null;
  working(false);
}

function showTranscript(task) {
  transcript = { text: "", duration: Infinity, segments: [] };
  list.clear();
  on("title").textContent = words.text(task === "translate" ? "translation" : "transcript");
  on("about").textContent = source.name;
  on("result").hidden = false;
  document.body.classList.add("heard");
  allowExport(false);
}

function showSegment(segment) {
  if (!list.segments.length) say("listening");
  list.add(segment);
  transcript.segments.push(segment);
  transcript.text = transcript.segments.map(({ text }) => text).join(" ");
  showHowFar();
  allowExport(true);
}

// The browser may know the recording's length before or after the first segment.
function showHowFar() {
  const { duration } = on("audio");
  const last = transcript?.segments.at(-1);
  if (last && Number.isFinite(duration) && !on("heard").hidden) on("heard").value = Math.min(1, last.end / duration);
}

function finish({ text, language, duration }, task) {
  transcript.text = text;
  transcript.duration = duration;
  if (text && !list.segments.length) showSegment({ start: 0, end: duration, text });
  const code = languageCode(endpoint.languages, language);
  list.spokenIn(task === "translate" ? "en" : code);
  on("about").textContent = [languageName(endpoint.languages, code, words.language), clock(duration), source.name].join(" · ");
  say(text ? "done" : "silent");
}

function fail(error) {
  say(null);
  if (error instanceof EndpointError) complain(error.key, { status: error.status }, error.detail);
  else complain("error_failed", {}, error.message); // an answer that is not what it should be
}

function working(busy) {
  const focused = document.activeElement;
  on("heard").removeAttribute("value");
  on("heard").hidden = !busy;
  on("cancel").hidden = !busy;
  on("again").hidden = busy || !source;
  on("countdown").textContent = "";
  if (focused === on("cancel") || focused === on("again")) on("title").focus(); // the button is gone; its focus must not be
}

function showWait(attempt, seconds) {
  if (seconds) say("busy", { attempt, most: MOST_RETRIES });
  else say("sending");
  on("countdown").textContent = seconds ? words.text("countdown", { seconds }) : "";
}

function allowExport(allowed) {
  for (const button of document.querySelectorAll(".actions button")) button.disabled = !allowed;
}

function playable(can) {
  on("audio").hidden = !can;
  on("unplayable").hidden = can;
}

// Only a text that changed is put there: a screen reader reads each one out.
function say(key, values) {
  const text = key ? words.text(key, values) : "";
  if (on("status").textContent !== text) on("status").textContent = text;
}

function complain(key, values, detail = "") {
  const lines = [words.text(key, values), detail].filter(Boolean).map((text) => {
    const line = document.createElement("p");
    line.textContent = text;
    return line;
  });
  if (lines[1]) lines[1].lang = "en";
  on("alert").replaceChildren(...lines);
}

function clearMessages() {
  on("alert").replaceChildren();
  say(null);
}

await setUp().catch((error) => complain("error_page", {}, error.message));
