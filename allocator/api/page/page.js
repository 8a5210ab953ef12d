// The page: its parts, put together.

import { offerToForget } from "./api.js";
import { onFiles } from "./choosing.js";
import { at } from "./dom.js";
import { showFigures } from "./figures.js";
import { reload, retry as retryLetters, showLetters } from "./letters.js";
import { isSending } from "./sending.js";
import { retry as retryLibrary, showLibrary } from "./tree.js";
import { upload } from "./uploads.js";

offerToForget();
onFiles((chosen) => upload(chosen, { owner: at("owner").value.trim(), comments: at("comments").value.trim() }));
addEventListener("beforeunload", (event) => isSending() && event.preventDefault());

showFigures(reload, () => {
  retryLetters();
  retryLibrary();
});
showLibrary();
showLetters();
