// Connects the controls of the page with its parts.

import { byId } from "./dom.js";
import "./pool.js";
import { server } from "./server.js";
import { cancelAll, drawPicture, isAnyTileOpen, redrawPicture, setSlow, toggleFlood } from "./tiles.js";
import { FIRST_VIEW, WHOLE_SET, goTo, moveBy, readAddress, settings, startViewer, zoomBy } from "./view.js";

server.isBusy = isAnyTileOpen;

byId("controls").addEventListener("submit", (event) => {
  event.preventDefault();
  redrawPicture();
});
for (const name of ["tiles", "seconds"]) {
  byId(name).addEventListener("change", () => {
    settings[name] = Number(byId(name).value);
    // The address holds it; it is not a place to go back to.
    goTo(settings, "replace");
  });
}
byId("cancel-all").addEventListener("click", cancelAll);
byId("slow").addEventListener("change", (event) => setSlow(event.target.checked));
byId("flood").addEventListener("click", toggleFlood);

byId("back").addEventListener("click", () => history.back());
byId("zoom-in").addEventListener("click", () => zoomBy(2));
byId("zoom-out").addEventListener("click", () => zoomBy(1 / 2));
byId("reset").addEventListener("click", () => goTo(FIRST_VIEW));
byId("whole").addEventListener("click", () => goTo(WHOLE_SET));

const KEYS = {
  "+": () => zoomBy(2),
  "=": () => zoomBy(2),
  "-": () => zoomBy(1 / 2),
  "0": () => goTo(FIRST_VIEW),
  Home: () => goTo(FIRST_VIEW),
  Backspace: () => byId("back").click(),
  ArrowLeft: () => moveBy(-0.2, 0),
  ArrowRight: () => moveBy(0.2, 0),
  ArrowUp: () => moveBy(0, -0.2),
  ArrowDown: () => moveBy(0, 0.2),
};
byId("viewer").addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(KEYS, event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
});

readAddress();
server.start();
// When the browser has nothing else to do: the draft takes the time.
const whenIdle = window.requestIdleCallback ?? ((callback) => setTimeout(callback, 100));
whenIdle(() => startViewer(drawPicture), { timeout: 500 });
