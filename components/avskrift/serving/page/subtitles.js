// A transcript as plain text, SubRip or WebVTT, by the rules of avskrift/serving/formats.py: a test compares the two.

const WHITE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/g; // what Python's str.split takes for white
const ENDS = /^ +| +$/g;

export const FORMATS = {
  txt: { type: "text/plain", render: ({ text }) => `${text}\n` },
  srt: {
    type: "application/x-subrip",
    render: (transcript) => cues(transcript).map((cue, index) => `${index + 1}\n${times(cue, ",")}\n${cue.text}\n\n`).join(""),
  },
  vtt: {
    type: "text/vtt",
    render: (transcript) => "WEBVTT\n\n" + cues(transcript).map((cue) => `${times(cue, ".")}\n${escape(cue.text)}\n\n`).join(""),
  },
};

// Cues whose starts rise by at least 1 ms and which end after their start and by the next one's start.
function cues({ text, duration, segments }) {
  const whole = { start: 0, end: duration, text };
  const spoken = (segments.length ? segments : [whole]).map((one) => ({ ...one, text: oneLine(one.text) })).filter((one) => one.text);
  const starts = [];
  for (const { start } of spoken) starts.push(Math.max(milliseconds(start, duration), starts.length ? starts.at(-1) + 1 : 0));
  return spoken.map((one, index) => {
    const end = Math.max(milliseconds(one.end, duration), starts[index] + 1);
    return { start: starts[index], end: Math.min(end, starts[index + 1] ?? end), text: one.text };
  });
}

function milliseconds(seconds, longest) {
  return Number.isFinite(seconds) ? Math.round(1000 * Math.max(0, Math.min(seconds, longest))) : 0;
}

// Text that cannot end a cue or start another.
function oneLine(text) {
  const line = text.replace(WHITE, " ").replace(ENDS, "");
  return line.replace(/\p{Cc}/gu, "").replaceAll("-->", "→").replace(ENDS, "");
}

function escape(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function times(cue, mark) {
  return `${stamp(cue.start, mark)} --> ${stamp(cue.end, mark)}`;
}

function stamp(milliseconds, mark) {
  const digits = (number, count = 2) => String(number).padStart(count, "0");
  const seconds = Math.floor(milliseconds / 1000);
  const clock = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60].map((part) => digits(part)).join(":");
  return `${clock}${mark}${digits(milliseconds % 1000, 3)}`;
}
