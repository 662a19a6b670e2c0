// The microphone as a WAV file of at most so many seconds and bytes.

import { HEADER_BYTES, SAMPLE_BYTES, wav } from "./wav.js";

const RATE = 16000; // what the model hears; more would be sent for nothing
const LAST_WORD_MS = 500; // a phone call may have put the audio thread to sleep: what was recorded is not lost for it

// What `error` means to a person, as a key of the texts.
export function microphoneError(error) {
  if (!globalThis.isSecureContext) return "error_microphone_insecure";
  if (error.name === "NotAllowedError" || error.name === "SecurityError") return "error_microphone_denied";
  if (error.name === "NotFoundError") return "error_microphone_missing";
  return "error_microphone_failed";
}

// Starts at once; onBlock gets (seconds so far, peak from 0 to 1), onEnd is called when the recording is full or the microphone gone.
export async function startRecording({ mostSeconds, mostBytes, onBlock, onEnd }) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  const closeStream = () => stream.getTracks().forEach((track) => track.stop());
  try {
    const { context, source } = openContext(stream);
    const longest = longestSeconds(mostSeconds, mostBytes, context.sampleRate);
    await context.audioWorklet.addModule(new URL("microphone.js", import.meta.url));
    const microphone = new AudioWorkletNode(context, "microphone", { channelCount: 1, channelCountMode: "explicit" });
    const blocks = [];
    let room = Math.floor(longest * context.sampleRate);
    let samples = 0;
    let finished;
    const ended = new Promise((resolve) => (finished = resolve));
    microphone.port.onmessage = ({ data }) => {
      if (data === null) return finished();
      const block = data.subarray(0, room);
      if (!block.length) return;
      blocks.push(block);
      room -= block.length;
      samples += block.length;
      onBlock(samples / context.sampleRate, block.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0) / 32767);
      if (!room) onEnd();
    };
    stream.getTracks().forEach((track) => track.addEventListener("ended", onEnd));
    source.connect(microphone).connect(context.destination); // it plays nothing; what is not connected may not run
    context.resume(); // Safari starts some asleep
    const lock = await navigator.wakeLock?.request("screen").catch(() => null); // a phone that sleeps stops recording

    const stop = async () => {
      microphone.port.postMessage("stop");
      await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, LAST_WORD_MS))]);
      closeStream();
      await Promise.allSettled([context.close(), lock?.release()]);
      return samples ? wav(blocks, context.sampleRate) : null;
    };
    return { longest, stop };
  } catch (error) {
    closeStream();
    throw error;
  }
}

function longestSeconds(mostSeconds, mostBytes, rate) {
  return Math.min(mostSeconds, (mostBytes - HEADER_BYTES) / (SAMPLE_BYTES * rate));
}

function openContext(stream) {
  const context = new AudioContext({ sampleRate: RATE });
  try {
    return { context, source: context.createMediaStreamSource(stream) };
  } catch {
    context.close();
    const own = new AudioContext(); // Firefox does not resample a microphone; the server does
    return { context: own, source: own.createMediaStreamSource(stream) };
  }
}
