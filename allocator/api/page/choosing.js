// Files that were dropped or chosen, folders included.

import { at } from "./dom.js";

/** Have `take` called with a list of {file, path} for each drop and choice. */
export function onFiles(take) {
  for (const [button, input] of [["choose-files", "files"], ["choose-folder", "folder"]]) {
    at(button).onclick = () => at(input).click();
    at(input).onchange = () => {
      take(Array.from(at(input).files, (file) => ({ file, path: file.webkitRelativePath || file.name })));
      // So that the same choice again is a change.
      at(input).value = "";
    };
  }
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
    take(await dropped(event.dataTransfer));
  });
}

async function dropped(transfer) {
  // All at once: after the first wait the browser has forgotten what was dropped.
  const entries = Array.from(transfer.items, (item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return Array.from(transfer.files, (file) => ({ file, path: file.name }));
  const found = [];
  for (const entry of entries) await walk(entry, found);
  return found;
}

async function walk(entry, found) {
  if (entry.isFile) {
    const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
    if (file) found.push({ file, path: entry.fullPath.slice(1) });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    // It gives at most a hundred at a time.
    const some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!some.length) return;
    for (const one of some) await walk(one, found);
  }
}
