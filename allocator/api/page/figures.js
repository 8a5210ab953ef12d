// Figures of the queue, looked at often while something happens and seldom otherwise.

import { get, waitedForKeyMs } from "./api.js";
import { at } from "./dom.js";
import { changes } from "./following.js";

const BUSY_MS = 1000;
const CALM_MS = 5000;

// However slow the server counts, most of its time is its own.
const REST_RATIO = 5;
const MOST_REST_MS = 30_000;
const PATIENCE_MS = 10_000;

let dead = null;
let timer = null;
let tookMs = 0;
let isBusy = false;

/** Show them from now on; `onDead` is called when the number of dead letters has changed, `onAnswer` at every answer. */
export function showFigures(onDead, onAnswer) {
  const told = { onDead, onAnswer };
  for (const change of ["object", "ended"]) {
    changes.addEventListener(change, () => {
      if (!isBusy && timer !== null) rest(BUSY_MS, told);
      isBusy = true;
    });
  }
  return look(told);
}

async function look(told) {
  const began = performance.now() - waitedForKeyMs();
  try {
    const figures = await get("/api/v1/queue", { patienceMs: PATIENCE_MS });
    isBusy = show(figures);
    at("trouble").hidden = true;
    if (dead !== null && dead !== figures.counts.dead) told.onDead();
    dead = figures.counts.dead;
    told.onAnswer();
  } catch (problem) {
    isBusy = false;
    at("trouble").textContent = problem.status
      ? `The queue cannot be looked at: ${problem.message}`
      : "The server does not answer. This page goes on by itself when it does.";
    at("trouble").hidden = false;
  }
  tookMs = performance.now() - waitedForKeyMs() - began;
  rest(isBusy ? BUSY_MS : CALM_MS, told);
}

function rest(ms, told) {
  clearTimeout(timer);
  const go = () => {
    timer = null;
    whenSeen(() => look(told));
  };
  timer = setTimeout(go, Math.max(ms, Math.min(tookMs * REST_RATIO, MOST_REST_MS)));
}

function show({ counts, supervisor }) {
  const said = {
    waiting: counts.ready + counts.scheduled,
    working: counts.leased,
    done: counts.done,
    dead: counts.dead,
  };
  for (const [name, count] of Object.entries(said)) at(`figure-${name}`).textContent = count.toLocaleString("en");
  at("figure-workers").textContent = supervisor ? told(supervisor.workers) : "elsewhere";
  return said.waiting + said.working > 0;
}

function told(states) {
  const busy = states.filter((state) => state === "running").length;
  const missing = states.filter((state) => state === "stuck" || state === "gone").length;
  return `${busy} of ${states.length} busy${missing ? `, ${missing} missing` : ""}`;
}

/** A page that nobody sees asks for nothing. */
function whenSeen(go) {
  if (!document.hidden) go();
  else document.addEventListener("visibilitychange", go, { once: true });
}
