// Calls of the API, and the key that some servers ask for.

import { at, visible } from "./dom.js";

const KEPT_AS = "allocator-key";

let asking = null;
let askedMs = 0;

/** How long, in all, a key was waited for. */
export const waitedForKeyMs = () => askedMs;

/** What the API says when it cannot do what it is asked (RFC 9457). */
export class Problem extends Error {
  constructor(status, detail, retryAfterS = null) {
    super(detail);
    this.status = status;
    this.retryAfterS = retryAfterS;
  }

  /** Whether it passes by itself. */
  get passes() {
    // 502 and 504 are said by a proxy whose server starts again.
    return [408, 429, 502, 503, 504, 507].includes(this.status);
  }

  /** From the parts of a response. */
  static of(status, text, retryAfter) {
    let detail = `the server answered ${status}`;
    try {
      detail = JSON.parse(text).detail || detail;
    } catch {
      // No problem of this API: a proxy's page, say.
    }
    return new Problem(status, detail, retryAfter ? Number(retryAfter) || null : null);
  }
}

/** Headers that carry the key, if there is one. */
export function credentials() {
  const key = sessionStorage.getItem(KEPT_AS);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** Whether a plain link cannot get at files: it carries no key. */
export const hasKey = () => sessionStorage.getItem(KEPT_AS) !== null;

/**
 * Fetch a path; throws Problem where it is refused, another error where nobody answers, within `patienceMs` if that is
 * given. Waits for a key if one is needed.
 */
export async function call(path, { patienceMs, ...options } = {}) {
  for (;;) {
    const sent = credentials();
    const signal = patienceMs ? AbortSignal.timeout(patienceMs) : undefined;
    const response = await fetch(path, { ...options, signal, headers: { ...options.headers, ...sent } });
    if (response.ok) return response;
    const problem = Problem.of(response.status, await response.text(), response.headers.get("Retry-After"));
    if (problem.status !== 401) throw problem;
    await keyAfter(sent.Authorization, problem);
  }
}

/** The JSON at a path. */
export const get = async (path, options) => (await call(path, options)).json();

/** Resolves when there is another key than the one that was refused. */
export function keyAfter(refused, problem) {
  if (credentials().Authorization !== refused) return Promise.resolve();
  const began = performance.now();
  asking ??= ask(refused, problem).finally(() => {
    asking = null;
    askedMs += performance.now() - began;
  });
  return asking;
}

function ask(refused, problem) {
  const form = at("key-form");
  at("key-refused").textContent = refused ? `The key was refused: ${visible(problem.message)}` : "";
  form.hidden = false;
  at("key").focus();
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      // What is no ASCII cannot be in a header, and is no key.
      const key = at("key").value.replace(/[^\x21-\x7e]/g, "");
      at("key").value = "";
      if (!key) {
        at("key-refused").textContent = "That is no key: it has no letter or digit.";
        return;
      }
      sessionStorage.setItem(KEPT_AS, key);
      form.hidden = true;
      offerToForget();
      resolve();
    };
  });
}

/** Show how to get rid of the key, and hide what a link, which carries none, cannot open. */
export function offerToForget() {
  at("forget").hidden = !hasKey();
  at("description").hidden = hasKey();
  at("forget").onclick = () => {
    sessionStorage.removeItem(KEPT_AS);
    location.reload();
  };
}
