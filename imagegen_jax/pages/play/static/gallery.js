import {at, dropped, say, send} from "/static/own/working.js";

async function take(file) {
  try {
    await send("/gallery", file);
    location.reload();
  } catch (error) { say(error.message, true); }
}
dropped(take);
at("file").addEventListener("change", event => event.target.files.length && take(event.target.files[0]));
at("out").addEventListener("click", async event => {
  if (!event.target.classList.contains("remove")) return;
  const figure = event.target.closest("figure");
  try {
    await send(`/gallery/${figure.dataset.name}/remove`);
    figure.remove();
    say("deleted");
  } catch (error) { say(error.message, true); }
});
