// What was sent from this page, file by file, from the disk of its owner to its place in the library.

import { at, announce, bytes, counted, foreign, make, shape, visible } from "./dom.js";
import { changes, follow } from "./following.js";
import { send } from "./sending.js";

const MAX_ROWS = 100;
const MAX_OPEN = 12;

const WORDS = {
  waiting: "Waiting to be sent",
  sending: "Sending",
  queued: "Sent; waits for a worker",
  processing: "Being identified",
  done: "Placed",
  failed: "Failed",
};

const byObject = new Map();

/** Send these and show how they fare. */
export function upload(chosen, fields) {
  if (!chosen.length) return;
  at("uploads-empty").hidden = true;
  const drop = new Drop(chosen);
  at("uploads").prepend(drop.element);
  drop.send(drop.items, fields);
}

changes.addEventListener("object", ({ detail }) => byObject.get(detail.id)?.hear(detail));

/** All that was dropped or chosen together. */
class Drop {
  constructor(chosen) {
    const size = chosen.reduce((sum, { file }) => sum + (file?.size ?? 0), 0);
    this.summary = make("span", { class: "counts" });
    this.bar = make("progress", { max: chosen.length, value: 0, "aria-label": "Files that have ended" });
    this.again = make("button", { type: "button", hidden: true }, "Send again what was refused");
    this.rows = make("ul", { class: "plain files" });
    this.more = make("p", { class: "quiet", hidden: chosen.length <= MAX_ROWS });
    const title = `${counted(chosen.length, "file")} · ${bytes(size)}`;
    this.element = make(
      "details",
      { class: "drop card", open: chosen.length <= MAX_OPEN },
      make("summary", {}, make("span", { class: "name" }, title), this.summary, this.bar),
      this.rows,
      this.more,
      this.again,
    );
    this.items = chosen.map(({ file, path }) => new Item(this, file, path));
    for (const item of this.items.slice(0, MAX_ROWS)) this.rows.append(item.row());
    this.more.textContent = `and ${counted(chosen.length - MAX_ROWS, "more file")}, counted above; what fails is shown.`;
    this.count();
  }

  send(items, fields) {
    this.again.hidden = true;
    this.again.onclick = () => this.send(this.items.filter((item) => item.refused), fields);
    for (const item of items) {
      item.refused = false;
      if (!item.file) item.show("failed", "Not sent: your browser cannot read it");
    }
    const readable = items.filter((item) => item.file);
    send(readable, fields, {
      sending: (item, share) => item.show("sending", share < 1 ? `Sending, ${Math.floor(share * 100)} %` : "Sent; being stored", share),
      later: (item, text) => item.show("waiting", `Waits: ${text}`),
      refused: (item, text) => {
        item.refused = true;
        this.again.hidden = false;
        item.show("failed", `Not sent: ${text}`);
      },
      accepted: (sent, answer) => {
        sent.forEach((item, index) => {
          byObject.set(answer.system_ids[index], item);
          item.show("queued");
        });
        follow(answer.job_id);
      },
    });
  }

  /** Say how many are where; not for each of them, as they come by the thousand. */
  count() {
    this.counting ??= requestAnimationFrame(() => {
      this.counting = null;
      const counts = { done: 0, failed: 0 };
      for (const { state } of this.items) counts[state] = (counts[state] ?? 0) + 1;
      const under_way = this.items.length - counts.done - counts.failed;
      const said = [];
      if (under_way) said.push(`${under_way.toLocaleString("en")} under way`);
      if (counts.done) said.push(`${counts.done.toLocaleString("en")} placed`);
      if (counts.failed) said.push(`${counts.failed.toLocaleString("en")} failed`);
      this.summary.textContent = said.join(" · ");
      this.bar.value = counts.done + counts.failed;
      this.bar.hidden = !under_way;
      if (!under_way) announce(`${counted(this.items.length, "file")}: ${this.summary.textContent}`);
    });
  }
}

/** One file. */
class Item {
  constructor(drop, file, path) {
    this.drop = drop;
    this.file = file;
    this.path = path;
    // The last part: the folders of its owner's disk are not the library's.
    this.name = path.split("/").at(-1);
    this.state = "waiting";
    this.text = WORDS.waiting;
  }

  /** What the API says of it. */
  hear({ state, error, path }) {
    if (state === "done") this.show("done", `Placed in ${visible(path)}`);
    else if (state === "failed") this.show("failed", `Given up: ${visible(error)}`);
    else this.show(state, error ? `${WORDS[state]}; the last try failed: ${visible(error)}` : WORDS[state]);
  }

  show(state, text = WORDS[state], share = null) {
    const changed = this.state !== state;
    [this.state, this.text, this.share] = [state, text, share];
    if (!this.element && state === "failed") this.drop.rows.append(this.row());
    else if (this.element) this.draw();
    if (changed) this.drop.count();
  }

  row() {
    this.mark = make("span", { class: "mark" });
    this.said = make("span", { class: "said" });
    this.element = make(
      "li",
      {},
      this.mark,
      make("span", { class: "what" }, foreign(this.path, { class: "name" }), this.said),
      make("span", { class: "size" }, this.file ? bytes(this.file.size) : ""),
    );
    this.draw();
    return this.element;
  }

  draw() {
    this.element.className = this.state;
    if (this.drawn !== this.state) this.mark.replaceChildren(shape(this.state));
    this.drawn = this.state;
    this.said.textContent = this.text;
  }
}
