// The transcript out of the page: to the clipboard, or as a file. Nothing is asked of the server.

import { FORMATS } from "./subtitles.js";

export function offerCopy(button, transcript, onCopied) {
  button.addEventListener("click", async () => onCopied(await copy(transcript().text)));
}

// The button's data-download names the format; the file is called as the recording.
export function offerDownload(button, current, onDownload) {
  button.addEventListener("click", () => {
    const { transcript, name } = current();
    const ending = button.dataset.download;
    const { type, render } = FORMATS[ending];
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([render(transcript)], { type: `${type};charset=utf-8` }));
    link.download = `${name.replace(/\.[^.]*$/, "")}.${ending}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser reads it after the click
    onDownload(link.download);
  });
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text); // without HTTPS there is no clipboard to write to
  }
}

function copySelected(text) {
  const before = document.activeElement;
  const field = document.createElement("textarea");
  field.className = "unseen";
  field.value = text;
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  before.focus();
  return copied;
}
