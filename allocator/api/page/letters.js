// Dead letters: what was given up, why, and back again.

import { call, get } from "./api.js";
import { announce, at, counted, foreign, make, shape, visible, when } from "./dom.js";
import { changes, follow } from "./following.js";

const PAGE = 20;
const SURE_MS = 5000;

const path = "/api/v1/dead-letters";
const rows = new Map();
const objects = new Map();

let letters = [];
let wanted = PAGE;
let looking = null;
let again = false;
let isBroken = false;

const NONE = at("letters-empty").textContent;

/** Look at the dead letters again; who asks while one looks gets what a further look finds. */
export function reload() {
  if (looking) again = true;
  looking ??= look()
    .then(() => (isBroken = false))
    .catch((problem) => {
      isBroken = true;
      say(`The dead letters cannot be shown: ${problem.message}`);
    })
    .finally(() => {
      looking = null;
      if (again) {
        again = false;
        reload();
      }
    });
  return looking;
}

/** Look again where the last look has failed. */
export const retry = () => isBroken && reload();

/** In the place of the list, and to those who do not see it. */
function say(text) {
  at("letters-empty").textContent = text;
  at("letters-empty").hidden = false;
  announce(text);
}

async function look() {
  const page = await get(`${path}?limit=${wanted}`);
  await Promise.all(page.dead_letters.map(learn));
  letters = page.dead_letters;
  const seen = new Set();
  for (const [index, letter] of letters.entries()) {
    // Given up anew, it has other attempts to tell of.
    const id = `${letter.job_id} ${letter.dead_at}`;
    seen.add(id);
    if (!rows.has(id)) rows.set(id, row(letter));
    // One that is moved loses the focus.
    const there = at("letters").children[index];
    if (there !== rows.get(id)) at("letters").insertBefore(rows.get(id), there ?? null);
  }
  for (const [id, element] of rows) {
    if (seen.has(id)) continue;
    if (element.contains(document.activeElement)) at("letters-title").focus();
    element.remove();
    rows.delete(id);
  }
  at("letters-empty").textContent = NONE;
  at("letters-empty").hidden = rows.size > 0;
  at("letters-all").hidden = rows.size < 2;
  at("letters-more").hidden = page.next === null;
}

/** What a letter is about has a name, which the letter itself has not. */
async function learn({ object_id }) {
  if (!object_id || objects.has(object_id)) return;
  try {
    objects.set(object_id, await get(`/api/v1/objects/${encodeURIComponent(object_id)}`));
  } catch {
    // Its object has been deleted meanwhile.
  }
}

function row(letter) {
  const object = objects.get(letter.object_id);
  const name = object ? visible(object.name) : `Job ${letter.job_id}`;
  const back = make("button", { type: "button", "aria-label": `Put back ${name}` }, "Put back");
  const remove = make("button", { type: "button", class: "quiet", "aria-label": `Delete the dead letter of ${name}` }, "Delete");
  const tries = counted(letter.attempt_count, "attempt");
  const said = make("span", { class: "said" }, `${tries}, given up ${when(letter.dead_at)}`);
  const element = make(
    "li",
    { class: "letter card failed" },
    make("span", { class: "mark" }, shape("failed")),
    make("span", { class: "what" }, foreign(name, { class: "name" }), foreign(letter.error, { class: "reason" }), said),
    make("span", { class: "buttons" }, back, remove),
  );
  const job = `${path}/${encodeURIComponent(letter.job_id)}`;
  const act = async (request, done) => {
    // What is disabled cannot keep it.
    if (element.contains(document.activeElement)) at("letters-title").focus();
    back.disabled = remove.disabled = true;
    try {
      await request();
      announce(done);
    } catch (problem) {
      back.disabled = remove.disabled = false;
      // 404: somebody else was faster, which the next look shows.
      if (problem.status !== 404) said.textContent = `Not done: ${problem.message}`;
    }
    await reload();
  };
  back.onclick = () =>
    act(async () => {
      await call(`${job}/requeue`, { method: "POST" });
      if (object) follow(object.upload_id);
    }, `${name} was put back`);
  remove.onclick = () => {
    if (!remove.dataset.sure) {
      remove.dataset.sure = "asked";
      remove.textContent = "Really delete?";
      remove.setAttribute("aria-label", `Really delete the dead letter of ${name}? Its file stays`);
      remove.title = "The job is forgotten; the file stays as it was sent";
      setTimeout(() => {
        delete remove.dataset.sure;
        remove.textContent = "Delete";
        remove.setAttribute("aria-label", `Delete the dead letter of ${name}`);
      }, SURE_MS);
      return;
    }
    act(() => call(job, { method: "DELETE" }), `The dead letter of ${name} was deleted`);
  };
  return element;
}

changes.addEventListener("object", ({ detail }) => detail.state === "failed" && reload());
changes.addEventListener("ended", reload);

/** Show them, and more of them. */
export function showLetters() {
  at("letters-more").onclick = () => {
    wanted = Math.min(wanted + 5 * PAGE, 1000);
    reload();
  };
  at("letters-all").onclick = async () => {
    at("letters-all").disabled = true;
    let refused = null;
    try {
      const { count } = await (await call(`${path}/requeue?all=true`, { method: "POST" })).json();
      announce(`${counted(count, "dead letter")} put back`);
      for (const { object_id } of letters) if (objects.has(object_id)) follow(objects.get(object_id).upload_id);
    } catch (problem) {
      refused = `Not put back: ${problem.message}`;
    }
    at("letters-all").disabled = false;
    await reload();
    if (refused) say(refused);
  };
  return reload();
}
