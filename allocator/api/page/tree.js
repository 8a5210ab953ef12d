// The library as a tree of folders, as far as its objects have been looked at: the last received first.

import { call, get, hasKey } from "./api.js";
import { at, bytes, counted, foreign, make, order, visible, when } from "./dom.js";
import { changes } from "./following.js";

const PAGE = 200;
const OPEN_FOLDERS = 8;

// Of the objects that were placed while this page was open.
const fresh = new Set();

let root = null;
let text = "";
let next = null;
let looks = 0;
let found = 0;
let isBroken = false;

/** A folder; its rows are made when it is opened. */
class Folder {
  constructor(name, list = null) {
    this.name = name;
    this.folders = new Map();
    this.files = new Map();
    this.count = 0;
    this.list = list;
  }

  /** Put an object at the rest of its path; gives the folders that lead to it. */
  add(object, parts) {
    const [name, ...below] = parts;
    if (!below.length) {
      const known = this.files.get(name);
      // Two with the same bytes and path share one link: shown is the later one.
      if (known && known.received_at >= object.received_at) return { added: false, way: [] };
      this.files.set(name, object);
      if (this.list) this.place(fileRow(object, name), known);
      this.count += known ? 0 : 1;
      return { added: !known, way: [] };
    }
    let folder = this.folders.get(name);
    if (!folder) {
      folder = new Folder(name);
      this.folders.set(name, folder);
      if (this.list) this.place(folder.row());
    }
    const { added, way } = folder.add(object, below);
    this.count += added ? 1 : 0;
    folder.tell();
    return { added, way: [folder, ...way] };
  }

  /** Into the rows: folders first, then files, each by name. */
  place(row, replaced) {
    const rows = Array.from(this.list.children);
    if (replaced) {
      rows.find((other) => other.dataset.sort === row.dataset.sort)?.replaceWith(row);
      return;
    }
    this.list.insertBefore(row, rows.find((other) => order(other.dataset.sort, row.dataset.sort) > 0) ?? null);
  }

  row() {
    this.told = make("span", { class: "size" });
    this.details = make(
      "details",
      { ontoggle: () => this.details.open && this.fill() },
      make("summary", {}, foreign(this.name, { class: "name" }), this.told),
    );
    this.tell();
    const row = make("li", {}, this.details);
    row.dataset.sort = `0 ${this.name}`;
    return row;
  }

  tell() {
    if (this.told) this.told.textContent = counted(this.count, "file");
  }

  fill() {
    if (this.list) return;
    this.list = make("ul", { class: "plain tree" });
    const folders = [...this.folders.values()].sort((one, other) => order(one.name, other.name));
    const names = [...this.files.keys()].sort(order);
    this.list.append(
      ...folders.map((folder) => folder.row()),
      ...names.map((name) => fileRow(this.files.get(name), name)),
    );
    this.details.append(this.list);
  }

  open() {
    this.fill();
    this.details.open = true;
  }
}

function fileRow(object, name) {
  const link = make(
    "a",
    { href: `/api/v1/objects/${encodeURIComponent(object.id)}/content`, download: name, class: "name" },
    foreign(name),
  );
  link.onclick = (event) => {
    if (!hasKey()) return;
    event.preventDefault();
    save(link.href, name).catch((problem) => {
      at("library-note").textContent = `${visible(name)} cannot be fetched: ${problem.message}`;
    });
  };
  const facts = `${object.type ?? object.kind} · ${bytes(object.size_bytes)} · ${object.owner}`;
  const row = make(
    "li",
    { class: "file", title: `Received ${when(object.received_at)}` },
    link,
    fresh.has(object.id) ? make("span", { class: "new" }, "new") : null,
    foreign(facts, { class: "said" }),
  );
  row.dataset.sort = `1 ${name}`;
  return row;
}

/** A link sends no key; so the file is fetched here, and handed to the browser as a whole. */
async function save(path, name) {
  const address = URL.createObjectURL(await (await call(path)).blob());
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** Look at the library anew, or for older files in it. */
async function look(after = null) {
  looks += 1;
  const mine = looks;
  const query = new URLSearchParams({ limit: PAGE });
  if (text) query.set("text", text);
  if (after) query.set("after", after);
  const page = await get(`/api/v1/objects?${query}`);
  // Someone has typed on meanwhile.
  if (mine !== looks) return;
  if (!after) {
    at("tree").replaceChildren();
    root = new Folder("", at("tree"));
    found = 0;
  }
  isBroken = false;
  next = page.next;
  found += page.objects.length;
  for (const object of page.objects) if (object.path) root.add(object, object.path.split("/"));
  if (!after && (text || root.folders.size <= OPEN_FOLDERS)) for (const folder of root.folders.values()) openAll(folder);
  tell();
}

/** Open a folder, and those below for as long as there is only one way to go, or something is looked for. */
function openAll(folder) {
  folder.open();
  if (text || folder.folders.size === 1) for (const below of folder.folders.values()) openAll(below);
}

function tell() {
  const count = root.count;
  at("library-more").hidden = next === null;
  at("library-note").textContent =
    count === 0 && found
      ? `${counted(found, "object")} found${next === null ? "" : " so far"}, none of which was placed.`
      : count === 0
      ? text
        ? "Nothing of that in a name or in comments."
        : "Still empty. What you send is shown here where it was put."
      : `${counted(count, "file")}${next === null ? "" : ", the last received"}${text ? " with that in name or comments" : ""}.`;
}

changes.addEventListener("object", ({ detail }) => {
  if (detail.state !== "done" || !root || text) return;
  fresh.add(detail.id);
  const { way } = root.add(detail, detail.path.split("/"));
  way.forEach((folder) => folder.open());
  tell();
});

/** Show the library, and find in it. */
export function showLibrary() {
  let timer = null;
  at("search").oninput = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      text = at("search").value.trim();
      look().catch(sayWhy);
    }, 250);
  };
  at("library-more").onclick = () => look(next).catch(sayWhy);
  return look().catch(sayWhy);
}

/** Look again where the last look has failed. */
export const retry = () => isBroken && look().catch(sayWhy);

function sayWhy(problem) {
  isBroken = true;
  at("library-note").textContent = `The library cannot be shown: ${problem.message}`;
}
