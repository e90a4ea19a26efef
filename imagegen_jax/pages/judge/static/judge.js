// Shows a pair, times the answer, sends it, and shows the next, until there is none.
import {at, say, send} from "/static/site.js";

const sides = ["left", "right"];
let shown = null;   // the trial on the page, while it can be answered
let since = 0;      // when its pictures were seen first
let hiding = 0;     // the timer that takes them away

async function load(side, name, trial) {
  const image = at(`${side}-picture`);
  image.src = `/pictures/${name}`;
  image.width = trial.width;
  image.height = trial.height;
  image.classList.toggle("pixels", trial.pixels);
  await image.decode();
}

function veil(gone) {
  for (const side of sides) at(`${side}-picture`).classList.toggle("gone", gone);
}

async function show(trial) {
  at("far").value = trial.done;
  if (trial.end) { location.assign("/end"); return; }
  veil(true);
  await Promise.all(sides.map((side, i) => load(side, trial.pictures[i], trial)));
  say(`${trial.done + 1} of ${trial.of}`);
  for (const side of sides) at(side).disabled = false;
  veil(false);
  since = performance.now();
  shown = trial;
  if (trial.milliseconds) hiding = setTimeout(() => veil(true), trial.milliseconds);
}

async function choose(side) {
  if (!shown) return;
  const answer = {trial: shown.trial, side, seconds: (performance.now() - since) / 1000};
  const back = shown;
  shown = null;
  clearTimeout(hiding);
  for (const name of sides) at(name).disabled = true;
  try {
    await show(await send("/vote", answer));
  } catch (error) {
    say(`${error.message} (choose again: nothing is lost)`, true);
    for (const name of sides) at(name).disabled = false;
    shown = back;
  }
}

sides.forEach((side, i) => at(side).addEventListener("click", () => choose(i)));
document.addEventListener("keydown", event => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.repeat) return;
  const side = ["ArrowLeft", "ArrowRight"].indexOf(event.key);
  if (side >= 0) { event.preventDefault(); choose(side); }
});
send("/next").then(show).catch(error => say(error.message, true));
