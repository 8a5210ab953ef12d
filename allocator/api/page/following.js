// Uploads followed live. Whatever changes is told to all parts of the page as an `object` event of `changes`.

import { call } from "./api.js";
import { pause } from "./dom.js";

/** Gets an `object` event, whose detail is an object as the API shows it, for each change; `ended` for each upload. */
export const changes = new EventTarget();

// A browser has six connections to a server; the others are for sending and looking.
const AT_A_TIME = 2;

const waiting = [];
let running = 0;

/** Follow an upload until all of it has ended; uploads take turns, in order. */
export function follow(uploadId) {
  if (!waiting.includes(uploadId)) waiting.push(uploadId);
  next();
}

function next() {
  while (running < AT_A_TIME && waiting.length) {
    running += 1;
    followOne(waiting.shift()).finally(() => {
      running -= 1;
      next();
    });
  }
}

async function followOne(uploadId) {
  const path = `/api/v1/ingest/${encodeURIComponent(uploadId)}/events`;
  let lastId = "";
  let retryMs = 2000;
  for (let ended = false; !ended; ) {
    try {
      // Not EventSource, which cannot send a key.
      const response = await call(path, { headers: lastId ? { "Last-Event-ID": lastId } : {} });
      ended = response.status === 204;
      for await (const event of eventsOf(response)) {
        lastId = event.id ?? lastId;
        retryMs = Number(event.retry) || retryMs;
        if (event.event === "object") changes.dispatchEvent(new CustomEvent("object", { detail: JSON.parse(event.data) }));
        ended ||= event.event === "end";
      }
    } catch (problem) {
      // Nobody answers, or not now; other problems do not pass: its objects have been deleted, say.
      if (problem.status && !problem.passes) break;
    }
    if (!ended) await pause(retryMs);
  }
  changes.dispatchEvent(new CustomEvent("ended", { detail: uploadId }));
}

/** The events of a stream, each with the fields that it has. */
export async function* eventsOf(response) {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = {};
      for (const line of block.split("\n")) {
        const colon = line.indexOf(": ");
        if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
      }
      yield fields;
    }
  }
}
