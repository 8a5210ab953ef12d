// Files on their way to the server, a few at a time in one request, tried again for as long as that may help.

import { Problem, credentials, keyAfter } from "./api.js";
import { pause } from "./dom.js";

const REQUESTS_AT_A_TIME = 2;
const FILES_A_REQUEST = 100;
const BYTES_A_REQUEST = 64e6;

// A server that is busy is waited for longer than one that cannot be reached: about a minute, as for a restart.
const BUSY_TRIES = 60;
const BROKEN_TRIES = 8;

const waiting = [];
let running = 0;

/**
 * Send items, which have `file` and `name`, with the fields of the form.
 *
 * Of `told`, `sending(item, share)` is called with the share that has gone, `later(item, text)` when it must wait,
 * `refused(item, text)` when it is given up, and `accepted(items, answer)` when the server has it.
 */
export function send(items, fields, told) {
  for (const batch of batches(items)) waiting.push({ items: batch, fields, told, key: newKey() });
  next();
}

/** Whether something would be lost if the page were closed now. */
export const isSending = () => running > 0 || waiting.length > 0;

function* batches(items) {
  let batch = [];
  let size = 0;
  for (const item of items) {
    if (batch.length === FILES_A_REQUEST || (batch.length && size + item.file.size > BYTES_A_REQUEST)) {
      yield batch;
      [batch, size] = [[], 0];
    }
    batch.push(item);
    size += item.file.size;
  }
  if (batch.length) yield batch;
}

/** An idempotency key: a request whose answer was lost is sent again, and is the same upload. */
function newKey() {
  // Not randomUUID, which browsers have only for https and for this machine.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function next() {
  while (running < REQUESTS_AT_A_TIME && waiting.length) {
    running += 1;
    sendOne(waiting.shift()).finally(() => {
      running -= 1;
      next();
    });
  }
}

async function sendOne(request) {
  const { items, told } = request;
  for (let tries = 1; ; tries += 1) {
    try {
      told.accepted(items, await post(request));
      return;
    } catch (problem) {
      const broken = !(problem instanceof Problem);
      const lost = broken ? await unreadable(items) : [];
      if (lost.length) {
        for (const item of lost) told.refused(item, "your browser cannot read it any more");
        const rest = items.filter((item) => !lost.includes(item));
        if (rest.length) waiting.unshift({ ...request, items: rest, key: newKey() });
        return;
      }
      if (broken ? tries < BROKEN_TRIES : problem.passes && tries < BUSY_TRIES) {
        const seconds = problem.retryAfterS ?? 2 ** Math.min(tries - 1, 4);
        for (const item of items) told.later(item, `${problem.message} (again in ${seconds} s)`);
        await pause(seconds * 1000);
      } else if (!broken && problem.status < 500 && items.length > 1) {
        // Only what is refused by itself is refused.
        waiting.unshift(...items.map((item) => ({ ...request, items: [item], key: newKey() })));
        for (const item of items) told.later(item, "one of its neighbours was refused, so it is sent by itself");
        return;
      } else {
        for (const item of items) told.refused(item, problem.message);
        return;
      }
    }
  }
}

/** Those whose files have gone or changed since they were chosen: a browser reports that as a broken connection. */
async function unreadable(items) {
  const reads = await Promise.allSettled(items.map(({ file }) => (file.size ? file.slice(0, 1) : file).arrayBuffer()));
  return items.filter((_, index) => reads[index].status === "rejected");
}

async function post({ items, fields, told, key }) {
  for (;;) {
    const sent = credentials();
    try {
      return await postOnce(items, fields, told, { ...sent, "Idempotency-Key": key });
    } catch (problem) {
      if (problem.status !== 401) throw problem;
      await keyAfter(sent.Authorization, problem);
    }
  }
}

function postOnce(items, fields, told, headers) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value) form.append(name, value);
  for (const item of items) form.append("files[]", item.file, item.name);
  return new Promise((resolve, reject) => {
    // Not fetch, which does not tell how much has gone.
    const request = new XMLHttpRequest();
    request.open("POST", "/api/v1/ingest");
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded }) => share(items, loaded, told);
    request.onload = () => {
      if (request.status === 202) resolve(JSON.parse(request.responseText));
      else reject(Problem.of(request.status, request.responseText, request.getResponseHeader("Retry-After")));
    };
    request.onerror = () => reject(new Error("the server cannot be reached, or the connection broke"));
    request.send(form);
  });
}

/** Files go one after the other; what has gone belongs to the first ones. */
function share(items, loaded, told) {
  let left = loaded;
  for (const item of items) {
    told.sending(item, item.file.size ? Math.max(0, Math.min(1, left / item.file.size)) : Number(left > 0));
    left -= item.file.size;
  }
}
