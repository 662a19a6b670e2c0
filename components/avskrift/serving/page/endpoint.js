// Asks the endpoint for a transcript, and again where it is busy and says for how long.

import { readEvents } from "./event_stream.js";

export const MOST_RETRIES = 5;
const BUSY = [429, 503];
const MEANINGS = { 413: "error_too_large", 415: "error_unsupported", 422: "error_undecodable", 429: "error_busy", 503: "error_busy" };

// `key` is a key of the texts; `detail` is what the server said, in English.
export class EndpointError extends Error {
  constructor(key, { status = 0, detail = "" } = {}) {
    super(key);
    this.key = key;
    this.status = status;
    this.detail = detail;
  }
}

// Yields {type: "segment", segment} in order, then {type: "done", text, language, duration, segments}.
// onWait gets (the retry's number, seconds left) once a second while the server is busy, and 0 seconds when it is asked again.
// Raises EndpointError, or the signal's AbortError.
export async function* transcribe(file, name, { task, language }, { signal, onWait }) {
  const response = await askUntilFree(file, name, { task, language }, { signal, onWait });
  if (!response.ok) throw await refusal(response);
  if (response.headers.get("content-type")?.startsWith("application/json")) {
    const answer = await response.json();
    for (const segment of answer.segments ?? []) yield { type: "segment", segment };
    yield { ...answer, type: "done" };
    return;
  }
  yield* readAnswer(response.body, signal);
}

async function askUntilFree(file, name, choices, { signal, onWait }) {
  for (let retry = 1; ; retry++) {
    const response = await ask(file, name, choices, signal);
    const seconds = BUSY.includes(response.status) ? secondsToWait(response.headers.get("retry-after")) : null;
    if (seconds === null || retry > MOST_RETRIES) return response;
    await response.body?.cancel();
    for (let left = seconds; left > 0; left--) {
      onWait(retry, left);
      await oneSecond(signal);
    }
    onWait(retry, 0);
  }
}

async function ask(file, name, { task, language }, signal) {
  const form = new FormData();
  form.append("response_format", "verbose_json");
  form.append("stream", "true");
  if (language && task === "transcribe") form.append("language", language); // OpenAI's translations take none
  form.append("file", file, name);
  const route = task === "translate" ? "translations" : "transcriptions";
  try {
    return await fetch(`openai/v1/audio/${route}`, { method: "POST", body: form, signal });
  } catch (error) {
    signal.throwIfAborted();
    throw new EndpointError("error_unreachable", { detail: error.message });
  }
}

async function* readAnswer(body, signal) {
  try {
    for await (const event of readEvents(body)) {
      if (event.type === "transcript.text.segment") yield { type: "segment", segment: event };
      if (event.type === "error") throw new EndpointError("error_failed", { detail: event.error?.message });
      if (event.type === "transcript.text.done") {
        yield { ...event, type: "done" };
        return;
      }
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error instanceof EndpointError ? error : new EndpointError("error_cut_off", { detail: error.message });
  }
  throw new EndpointError("error_cut_off");
}

async function refusal(response) {
  const { status } = response;
  const body = await response.json().catch(() => ({}));
  const key = MEANINGS[status] ?? (status < 500 ? "error_refused" : "error_failed");
  return new EndpointError(key, { status, detail: body.error?.message });
}

// Retry-After is a number of seconds or a date; null where it is neither.
function secondsToWait(header) {
  if (/^\d+$/.test(header ?? "")) return Number(header);
  const until = Date.parse(header ?? "");
  return Number.isNaN(until) ? null : Math.max(0, Math.ceil((until - Date.now()) / 1000));
}

function oneSecond(signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, 1000);
    signal.addEventListener("abort", stop, { once: true });
  });
}
