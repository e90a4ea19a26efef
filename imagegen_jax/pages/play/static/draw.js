import {at, dropped, fill, read, say, send, show, working} from "/static/own/working.js";

const form = at("form");
working("/draw", () => read(form), ({pictures}) => show(at("out"), pictures));

function use(settings) {
  fill(form, settings);
  const run = form.elements.run.dataset.name;
  say(settings.run === run ? "drawing with the settings of the picture" : `the picture is of the run ${settings.run}`);
}
dropped(async file => {
  try { use((await send("/gallery", file)).settings); } catch (error) { say(error.message, true); }
});
const name = new URLSearchParams(location.search).get("use");
if (name) fetch(`/gallery/${encodeURIComponent(name)}/settings`).then(answer => answer.json()).then(use);
