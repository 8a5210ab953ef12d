// Files that were dropped or chosen, folders included.

import { at, order } from "./dom.js";

/** Have `take` called with a list of {file, path} for each drop and choice; `file` is null where it cannot be read. */
export function onFiles(take) {
  for (const [button, input] of [["choose-files", "files"], ["choose-folder", "folder"]]) {
    at(button).onclick = () => at(input).click();
    at(input).onchange = () => {
      take(Array.from(at(input).files, (file) => ({ file, path: file.webkitRelativePath || file.name })));
      // So that the same choice again is a change.
      at(input).value = "";
    };
  }
  const invitation = at("invitation").textContent;
  let reading = 0;
  let depth = 0;
  const mark = (by) => {
    depth = Math.max(0, depth + by);
    document.body.classList.toggle("dropping", depth > 0);
  };
  addEventListener("dragenter", () => mark(1));
  addEventListener("dragleave", () => mark(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", async (event) => {
    event.preventDefault();
    mark(-depth);
    reading += 1;
    at("invitation").textContent = "Reading what was dropped…";
    const found = await dropped(event.dataTransfer);
    reading -= 1;
    if (!reading) at("invitation").textContent = found.length ? invitation : `There was no file in that. ${invitation}`;
    take(found);
  });
}

async function dropped(transfer) {
  // All at once: after the first wait the browser has forgotten what was dropped.
  const entries = Array.from(transfer.items, (item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const found = (await Promise.all(entries.map(below))).flat();
  return found.sort((one, other) => order(one.path, other.path));
}

/** The files of an entry; one without a `file` cannot be read. */
async function below(entry) {
  const path = entry.fullPath.slice(1);
  try {
    if (entry.isFile) return [{ file: await new Promise((resolve, reject) => entry.file(resolve, reject)), path }];
    const reader = entry.createReader();
    const found = [];
    for (;;) {
      // It gives at most a hundred at a time.
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) return found;
      found.push(...(await Promise.all(some.map(below))).flat());
    }
  } catch {
    return [{ file: null, path }];
  }
}
